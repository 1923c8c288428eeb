"""Names of report sections and of the two ways to read them."""

from __future__ import annotations

from typing import Literal, NamedTuple

__all__ = ["HEADERS", "LEAKY", "PRE_READ", "SECTIONS", "ParsedReport", "SectionName", "SectionReader", "squeeze"]

SectionName = Literal["examination", "indication", "technique", "comparison", "findings", "impression", "other"]

SectionReader = Literal["strict", "mimic"]
"""`strict` calls pre-read only what certainly is; `mimic` follows the parser published for MIMIC-CXR's reports."""

SECTIONS: tuple[SectionName, ...] = (
    "examination", "indication", "technique", "comparison", "findings", "impression", "other",
)  # fmt: skip
PRE_READ: tuple[SectionName, ...] = ("indication",)
"""Written before the film was read; reason for exam, clinical history and history are folded into it."""
LEAKY: tuple[SectionName, ...] = ("findings", "impression", "other")
"""Written by the reader of the film: these contain the answer."""

_PHRASES: dict[SectionName, str] = {
    "examination": "exam, exams, examination, study, exam type, type of exam, type of examination, procedure",
    "indication": """
        indication, indications, clinical indication, clinical indications, indication and history, indication/history,
        history, clinical history, patient history, brief history, medical history, history/indication,
        clinical information, clinical data, clinical question, underlying medical condition,
        reason for exam, reason for the exam, reason for this exam, reason for study,
        reason for examination, reason for this examination""",
    "technique": "technique, techniques, procedure and technique",
    "comparison": "comparison, comparisons, comparison study, comparison studies, comparison film, comparison films",
    "findings": "finding, findings, finding(s), report findings",
    "impression": "impression, impressions, impression(s), conclusion, conclusions, opinion",
    "other": """
        findings and impression, findings and impressions, findings/impression, findings & impression,
        findings impression, impression and findings, impression/findings, provisional findings impression,
        pfi, pfi report, wet read, addendum, addenda, final addendum, preliminary report, preliminary read, report,
        final, final report, attestation, attending, recommendation, recommendations, recommendation(s),
        impression and recommendation, impression and recommendations, impression/recommendation,
        impression/recommendations, notification, summary, interpretation, discussion, narrative, result, results""",
}
HEADERS: dict[str, SectionName] = {
    " ".join(phrase.split()): section for section, phrases in _PHRASES.items() for phrase in phrases.split(",")
}
"""Section of each known header in lower case."""


class ParsedReport(NamedTuple):
    """What a reader found."""

    sections: dict[str, str]
    """By name; only those with text, whitespace squeezed."""
    has_header: bool
    """Whether any known header was found."""


def squeeze(text: str) -> str:
    """The text with each run of whitespace as one space."""
    return " ".join(text.split())
