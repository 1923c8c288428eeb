"""The section reader `mimic`: the conventions of the parser published for MIMIC-CXR's reports, to compare with.

Its quirks are kept on purpose, because published text inputs carry them: only a line that starts with one space and a
phrase in capitals without digits is a header, so `CHEST 2 VIEWS:` and all that follows stay in the indication; PFI
counts as history. A model that reads such an indication is stamped LEAKY. The parser's fixes of single studies are
left out.
"""

from __future__ import annotations

import re

from components.cxr.text.sections import HEADERS, SECTIONS, ParsedReport, SectionName, squeeze

__all__ = ["read_mimic"]

_HEADER = re.compile(r"\n (?P<name>[A-Z(),/ -]{1,80}):(?=\s)")
_BLANK_LINE = re.compile(r"\n[ \t]*\n")
_QUIRKS: dict[str, SectionName] = {
    "pfi": "indication",
    "pfi report": "indication",
    "provisional findings impression": "indication",
    "provisional findings impression (pfi)": "indication",
    "findings and impression": "findings",
    "findings/impression": "findings",
    "ndication": "impression",
}


def read_mimic(text: str) -> ParsedReport:
    """Split a report as MIMIC-CXR's published parser would; history is folded into indication, the rest is `other`.

    Text before the first header (the preamble) and a report without headers are `other`. Without findings and
    impression, what follows the first blank line of the last section (the last paragraph) is `other`.
    """
    text = "\n" + text.replace("\r\n", "\n").replace("\r", "\n")
    headers = list(_HEADER.finditer(text))
    if not headers:
        return ParsedReport({"other": squeeze(text)} if text.strip() else {}, False)
    ends = [header.start() for header in headers[1:]] + [len(text)]
    passages: list[tuple[SectionName, str]] = [("other", text[: headers[0].start()])]
    passages += [(_section(m["name"]), text[m.end() : end]) for m, end in zip(headers, ends, strict=True)]
    if not any(section in ("findings", "impression") and part.strip() for section, part in passages):
        section, last = passages.pop()
        body = len(last) - len(last.lstrip())
        blank = _BLANK_LINE.search(last, body)
        cut = blank.start() if blank is not None else len(last)
        passages += [(section, last[:cut]), ("other", last[cut:])]
    joined = {name: squeeze(" ".join(part for section, part in passages if section == name)) for name in SECTIONS}
    return ParsedReport({name: part for name, part in joined.items() if part}, True)


def _section(header: str) -> SectionName:
    name = squeeze(header).lower()
    return _QUIRKS.get(name) or HEADERS.get(name, "other")
