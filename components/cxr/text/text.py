"""Report sections and the text a model may read.

The labels were mined from findings and impression: by default only what was written before the film was read is input.
"""

from __future__ import annotations

import codecs
from collections.abc import Mapping, Sequence
from typing import Self

from pydantic import model_validator

from components.cxr.config import Config
from components.cxr.text.mimic_sections import read_mimic
from components.cxr.text.plain_text import has_escaped_breaks, unescape_breaks
from components.cxr.text.sections import LEAKY, PRE_READ, SECTIONS, ParsedReport, SectionName, SectionReader, squeeze

__all__ = [
    "LEAKY", "PRE_READ", "SECTIONS", "SectionName", "SectionReader", "TextConfig", "clean_sections", "decode_report",
    "is_leaky", "parse_report", "request_text", "select_text", "unescape_column", "unread_sections",
]  # fmt: skip


class TextConfig(Config):
    """Which report sections are the model's text input.

    `examination`, `technique` and `comparison` are allowed but no default: they name the view and the ward, a shortcut
    to who is ill, and radiologists wrote whole reports under COMPARISON.
    """

    sections: tuple[SectionName, ...] = ("indication",)
    """Sections joined in this order; empty for a model without text."""
    allow_leaky_sections: bool = False
    """Permit findings, impression and other, from which the labels were mined, and any section that the reader `mimic`
    made; marks every result as LEAKY."""

    @property
    def leaky(self) -> bool:
        """Whether a section is read that was written after the film was read."""
        return any(name in LEAKY for name in self.sections)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(set(self.sections)) != len(self.sections):
            raise ValueError("each section at most once")
        if self.leaky and not self.allow_leaky_sections:
            leaky = ", ".join(name for name in self.sections if name in LEAKY)
            raise ValueError(f"no {leaky}: the labels were mined from it (or allow_leaky_sections: true)")
        return self


def is_leaky(config: TextConfig, *, reader: SectionReader) -> bool:
    """Whether the model may read its answer: by the sections it reads, or because `mimic` leaves findings in them."""
    return config.leaky or (reader == "mimic" and bool(config.sections))


def parse_report(text: str, *, reader: SectionReader = "strict") -> dict[str, str]:
    """Split a report into sections; keys are those of SECTIONS that have text, whitespace is squeezed.

    >>> parse_report("INDICATION: Cough and fever.\\n\\nFINDINGS: Clear lungs.\\n\\nIMPRESSION: Normal chest.")
    {'indication': 'Cough and fever.', 'findings': 'Clear lungs.', 'impression': 'Normal chest.'}
    """
    return _read(text, reader).sections


def clean_sections(sections: Mapping[str, str], *, reader: SectionReader = "strict") -> dict[str, str]:
    """Sections that came apart from each other, as the reader leaves them: `strict` cuts readings off an indication."""
    found = {name: squeeze(sections.get(name, "")) for name in SECTIONS}
    if reader == "strict":
        from components.cxr.text.strict_sections import clean_indication  # half a second of regular expressions

        for name in PRE_READ:
            found[name], rest = clean_indication(sections.get(name, ""))
            found["other"] = squeeze(f"{found['other']} {rest}")
    return {name: text for name, text in found.items() if text}


def unescape_column(texts: Sequence[str]) -> list[str]:
    r"""The texts of one column or one file with `\n` as a line break, if they write line breaks so as a whole.

    Where more texts have real line breaks, a backslash is what it says.

    >>> unescape_column([r"cough\nFINDINGS: none", "fever"])
    ['cough\nFINDINGS: none', 'fever']
    """
    return [unescape_breaks(text) for text in texts] if has_escaped_breaks(texts) else list(texts)


def select_text(sections: Mapping[str, str | None], *, config: TextConfig) -> str:
    """The configured sections joined by a space; an absent one is left out, "" when all are absent.

    >>> select_text({"indication": "Cough.", "findings": "Clear lungs."}, config=TextConfig())
    'Cough.'
    """
    found = (squeeze(sections.get(name) or "") for name in config.sections)
    return " ".join(text for text in found if text)


def request_text(text: str, *, config: TextConfig, reader: SectionReader = "strict") -> str:
    """The model's text input from what a person pasted, whole report or bare indication.

    A text with a known header is parsed and the configured sections are selected; any other text is taken as the
    indication, so that an indication from a shard comes back unchanged. Training's reader must be given.

    >>> request_text("INDICATION: Cough.\\nFINDINGS: Clear lungs.", config=TextConfig())
    'Cough.'
    """
    (text,) = unescape_column([text])
    found = _read(text, reader)
    if found.has_header:
        return select_text(found.sections, config=config)
    if config.leaky or "indication" not in config.sections:
        return squeeze(text) if config.sections else ""
    return clean_sections({"indication": text}, reader=reader).get("indication", "")


def unread_sections(text: str, *, config: TextConfig, reader: SectionReader = "strict") -> tuple[str, ...]:
    """Sections of a pasted text that are no input of the model, in the order of SECTIONS; the rest of request_text.

    >>> unread_sections("INDICATION: Cough.\\nFINDINGS: Clear lungs.", config=TextConfig())
    ('findings',)
    """
    text = unescape_column([text])[0]
    found = _read(text, reader)
    if not found.has_header and config.sections and (config.leaky or "indication" not in config.sections):
        return ()
    sections = found.sections if found.has_header else clean_sections({"indication": text}, reader=reader)
    return tuple(name for name in SECTIONS if sections.get(name) and name not in config.sections)


def decode_report(data: bytes) -> str:
    """A report file's text: UTF-16 by its byte order mark, else the first of UTF-8, Windows-1252, Latin-1 that fits."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", errors="replace")
    data = data.removeprefix(codecs.BOM_UTF8)
    for encoding in ("utf-8", "cp1252"):
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            continue
    return data.decode("latin-1")


def _read(text: str, reader: SectionReader) -> ParsedReport:
    if reader == "mimic":
        return read_mimic(text)
    from components.cxr.text.strict_sections import read_strict

    return read_strict(text)
