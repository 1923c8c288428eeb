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
        indication, indications, clinical indication, clinical indications, indication and history,
        indication/history, history, clinical history, patient history, brief history, medical history,
        history/indication, clinical information, clinical data, clinical question, underlying medical condition,
        clinical details, clinical detail, clinical hx, hx, clin hx, clinical indication(s), indication(s),
        clinical summary, clinical background, clinical context, clinical problem, clinical notes, clinical note,
        clinical findings and history, relevant history, relevant clinical history, relevant clinical information,
        pertinent history, patient hx, past history, past medical history, pmh, hpi, history of present illness,
        present illness, history of presenting complaint, chief complaint, presenting complaint, symptoms,
        signs and symptoms, clinical symptoms, clinical signs, request details, indication for exam,
        indication for study, indication for examination, indications for exam, indication for the exam,
        indication for procedure, indications for procedure, indications for study, reason for order,
        reason for request, reason for referral, reason for procedure, reason for visit, reason for x-ray,
        reason for film, reason, clinical reason, exam reason, order reason, study indication, exam indication,
        clinical history/indication, indication/clinical history, clinical information/indication,
        history and indication, clinical indication/history, reason for exam, reason for the exam,
        reason for this exam, reason for study, reason for examination, reason for this examination""",
    "technique": "technique, techniques, procedure and technique",
    "comparison": "comparison, comparisons, comparison study, comparison studies, comparison film, comparison films",
    "findings": """
        finding, findings, finding(s), report findings, radiographic findings, radiological findings,
        radiology findings, chest findings, x-ray findings, imaging findings, observations, observation,
        description, befund, befunde, résultats, résultat, resultats, constatations, hallazgos, bevindingen,
        reperto""",
    "impression": """
        impression, impressions, impression(s), conclusion, conclusions, opinion, radiographic impression,
        radiological impression, diagnostic impression, overall impression, final impression, beurteilung,
        zusammenfassung, interprétation, interpretation finale, synthèse, impresión, impresion, conclusión,
        conclusion(s), conclusie, conclusioni""",
    "other": """
        findings and impression, findings and impressions, findings/impression, findings & impression,
        findings impression, impression and findings, impression/findings, provisional findings impression, pfi,
        pfi report, wet read, addendum, addenda, final addendum, preliminary report, preliminary read, report,
        final, final report, attestation, attending, recommendation, recommendations, recommendation(s),
        impression and recommendation, impression and recommendations, impression/recommendation,
        impression/recommendations, notification, summary, interpretation, discussion, narrative, result, results,
        interpretations, reading, readings, comment, comments, assessment, assessment and plan, diagnosis,
        radiographic diagnosis, report text, body, dictation, final read, final interpretation,
        preliminary interpretation, preliminary findings, preliminary impression, resident read, overread,
        critical result, critical results, compte rendu, compte-rendu""",
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
