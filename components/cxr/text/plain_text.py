r"""What a report's text was before it was exported: line breaks, markup and look-alike characters as plain text.

Exports write a line break as `\n`, `_x000D_` (Excel), `&#10;` (XML), `<br>` (HTML), `\par` (RTF) or `\.br\` (HL7 v2,
2.7). Only `\n` and its like may be meant literally, so that a column as a whole decides about them.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Iterable

from components.cxr.text.phrases import one_of
from components.cxr.text.sections import HEADERS

__all__ = ["has_escaped_breaks", "plain_text", "unescape_breaks"]

_EVIDENCE = re.compile(r"\\[nr](?=\\|\s|[A-Z]|\d|[^\w\s]|$)")
_ESCAPES = re.compile(r"(?<!\\)(?:\\+[nrt]\s*)+", re.IGNORECASE)
"""Ahead of a header they are a line break whatever the column does."""
_HEADER = re.compile(rf"(?:{one_of(HEADERS)})\s*[:：]")
_EXPORTED = re.compile(
    r"_x000[dDaA]_|\\\.br\\|\\X0[DA](?:0[DA])?\\|\^M(?=\s|$|[A-Z])|\r\n?|[\x0b\x0c\x1c-\x1e\x85\u2028\u2029]"
)
_BLOCK = re.compile(
    r"</?(?:br|p|div|li|ul|ol|tr|table|tbody|thead|h[1-6]|hr|pre|section|body|html|head|para|paragraph|text)\b[^<>]*>",
    re.IGNORECASE,
)
_CELL = re.compile(r"</?(?:td|th|dd|dt|dl)\b[^<>]*>", re.IGNORECASE)
_UNSEEN = re.compile(
    r"<!--(?:(?!-->|<!--).)*-->|<(style|script)\b[^<>]*>[^<]*</\1>|<!doctype[^<>]*>|<\?xml[^<>]*>",
    re.IGNORECASE | re.DOTALL,
)
_INLINE = re.compile(
    r"</?(?:b|i|u|s|em|strong|span|font|a|small|big|sub|sup|center|mark|code|tt|o:p|ins|del|label)(?:\s[^<>]*)?/?>",
    re.IGNORECASE,
)
_NAMED = re.compile(r"<(?P<end>/?)(?P<name>[A-Za-z][A-Za-z_ -]{2,40})(?:\s+\w+=\"[^<>\"]*\")?>")
_ENTITY = re.compile(r"&(?:[A-Za-z]{2,8}|#\d{1,5}|#[xX][0-9A-Fa-f]{1,5});")
_RTF = re.compile(r"^[\s\ufeff]*\{\\rtf")
_RTF_HIDDEN = re.compile(r"\{\\(?:\*|fonttbl|colortbl|stylesheet|info)(?:[^{}]|\{[^{}]*\}){0,20000}\}")
_RTF_BREAK = re.compile(r"\\(?:par|line|sect|page|row|cell)\b ?")
_RTF_CHARACTER = re.compile(r"\\'([0-9A-Fa-f]{2})")
_RTF_WORD = re.compile(r"\\[a-z]{1,32}-?\d*[ ]?|\\[^a-z\s]|[{}]")
_WIDE = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}
_LOOKALIKES = str.maketrans(
    {
        **{chr(code): chr(plain) for code, plain in _WIDE.items()},
        **dict.fromkeys(
            "\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000", " "
        ),
        **dict.fromkeys("\u200b\u200c\u200d\u2060\ufeff\u00ad\u200e\u200f\u0000", ""),
        **dict.fromkeys("\ufe55\u2236\ua789\ufe13", ":"),
    }
)
"""Full-width forms, blanks that are none of ASCII's, characters without width, and colons of other scripts."""


def plain_text(text: str) -> str:
    r"""The text with exported line breaks as line breaks, without markup, its look-alike characters as ASCII's.

    What may be meant literally (`\n`) stays; see unescape_breaks. Plain text comes back as it is.

    >>> plain_text("INDICATION：cough<br>FINDINGS:&nbsp;opacity_x000D_x")
    'INDICATION:cough\nFINDINGS: opacity\nx'
    """
    if _RTF.match(text):
        text = _from_rtf(text)
    for _ in range(3):  # `&lt;br&gt;` and `&amp;#10;` were escaped twice
        before = text
        text = _EXPORTED.sub("\n", text.replace("_x000D_\n", "\n").replace("_x000d_\n", "\n"))
        if "<" in text:
            text = _BLOCK.sub("\n", _UNSEEN.sub(" ", text))
            text = _INLINE.sub(_joined, _CELL.sub("\n", text))
            text = _NAMED.sub(_headed, text)
        if "\\" in text:
            text = _ESCAPES.sub(lambda found: "\n" if _precedes_header(found) else found.group(), text)
        text = _ENTITY.sub(lambda found: html.unescape(found.group()), text)
        if text == before:
            break
    return unicodedata.normalize("NFC", text.translate(_LOOKALIKES))


def has_escaped_breaks(texts: Iterable[str]) -> bool:
    r"""Whether line breaks are written as `\n` in these texts as a whole: in more of them than have real ones.

    Evidence is a `\n` ahead of anything but a small letter, or of a header: `C:\new` is none.

    >>> has_escaped_breaks([r"INDICATION: cough\nFINDINGS: none", "cough"]), has_escaped_breaks([r"C:\new"])
    (True, False)
    """
    escaped = real = 0
    for text in texts:
        real += "\n" in text.strip() or "\r" in text.strip()
        escaped += "\\" in text and (
            _EVIDENCE.search(text) is not None or any(map(_precedes_header, _ESCAPES.finditer(text)))
        )
    return escaped > real


def unescape_breaks(text: str) -> str:
    r"""The text with `\n`, `\r\n`, `\r` as line breaks and `\t` as a tab.

    >>> unescape_breaks(r"cough\r\nfever")
    'cough\nfever'
    """
    return re.sub(r"(?<!\\)\\+t", "\t", re.sub(r"(?<!\\)(?:\\+r\\+n|\\+[nr])", "\n", text))


def _precedes_header(escapes: re.Match[str]) -> bool:
    return _HEADER.match(escapes.string, escapes.end()) is not None


def _from_rtf(text: str) -> str:
    text = _RTF_HIDDEN.sub("", text).replace("\r", "").replace("\n", "")
    text = _RTF_BREAK.sub("\n", text).replace(r"\tab ", "\t").replace(r"\~", " ")
    text = _RTF_CHARACTER.sub(lambda found: bytes([int(found[1], 16)]).decode("cp1252", "replace"), text)
    return _RTF_WORD.sub("", text)


def _joined(tag: re.Match[str]) -> str:
    """A blank where the tag parted two words, else nothing."""
    before, after = tag.string[tag.start() - 1 : tag.start()], tag.string[tag.end() : tag.end() + 1]
    return " " if before.isalpha() and after.isalpha() else ""


def _headed(tag: re.Match[str]) -> str:
    """`<FINDINGS>` as a header; a tag that names no section stays."""
    name = re.sub(r"[_-]", " ", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", tag["name"])).strip()
    if name.lower() not in HEADERS:
        return tag.group()
    return "\n" if tag["end"] else f"\n{name}: "
