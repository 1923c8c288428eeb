"""What the audit of text found: its JSON and its tables; made by audit.py."""

from __future__ import annotations

import sys
from typing import Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from components.cxr.config import Config
from components.cxr.text.text import SectionReader

__all__ = ["AuditReport", "Example", "PathologyAudit", "SectionAudit", "Share", "print_audit", "wilson"]

_WIDTH = 120
_NUM_TERMS = 4


class Share(Config):
    """A share with its 95 % interval (Wilson 1927); null where it is undefined."""

    count: int
    total: int
    share: float | None
    low: float | None
    high: float | None


class Example(Config):
    """Where a term was affirmed; never the sentence."""

    study_id: str
    """Keyed hash, as in the shards."""
    pathology: str
    term: str


class PathologyAudit(Config):
    """One pathology in one section."""

    affirmed: int
    """Studies whose section affirms it."""
    negated: int
    """Studies whose section only denies it."""
    uncertain: int
    """Studies whose section only doubts it or asks for it."""
    history: int
    """Studies whose section only recalls it."""
    positive: Share
    """Of the labeled studies that affirm it, those that are labeled positive."""
    base_rate: Share
    """Of the labeled studies with this section, those that are labeled positive."""


class SectionAudit(Config):
    """One section over all studies."""

    kind: Literal["pre-read", "control"]
    studies: Share
    """Studies with this section."""
    affirmed: Share
    """Of those, the ones that affirm a pathology or that there is none."""
    terms: dict[str, int]
    """Studies by affirmed term, the most frequent first."""
    pathologies: dict[str, PathologyAudit]
    examples: tuple[Example, ...]
    """A few affirmed terms of each pathology."""


class AuditReport(Config):
    """The whole audit."""

    schema_version: int = 1
    section_reader: SectionReader
    adapter: str
    num_studies: int
    """Studies that were read."""
    num_sampled_from: int
    """Studies that the source has."""
    id_key_fingerprint: str
    sections: dict[str, SectionAudit]


def wilson(count: int, total: int) -> Share:
    """A share with Wilson's score interval at 95 %."""
    if not total:
        return Share(count=count, total=total, share=None, low=None, high=None)
    z, p = 1.959963984540054, count / total
    middle = (p + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * (p * (1 - p) / total + z * z / (4 * total * total)) ** 0.5
    low = middle - half if count else 0.0
    high = middle + half if count < total else 1.0
    return Share(count=count, total=total, share=p, low=low, high=high)


def print_audit(report: AuditReport, *, console: Console | None = None) -> None:
    """Print a table of the sections, and one of what an affirmed term in a pre-read section says about its label."""
    if console is None:
        console = Console(width=None if sys.stdout.isatty() else _WIDTH, highlight=False)
    console.print(_sections(report))
    for name, section in report.sections.items():
        if section.kind == "pre-read" and section.affirmed.count:
            console.print()
            console.print(_pathologies(name, section))
    console.print()
    console.print(
        Text(
            "A pre-read section leaks where an affirmed term makes its label much likelier than the base rate: then "
            "the text may hold the answer. Findings and impression are the control that shows that terms are found."
        )
    )


def _sections(report: AuditReport) -> Table:
    title = f"{report.num_studies:,} studies, section reader {report.section_reader}"
    table = _table(title, "Section", "with text", "affirm a finding", "share", "95 % interval")
    table.add_column("most frequent terms")
    for name, section in report.sections.items():
        found = section.affirmed
        terms = ", ".join(f"{term} {count}" for term, count in list(section.terms.items())[:_NUM_TERMS])
        label = name if section.kind == "pre-read" else f"{name} (control)"
        table.add_row(label, f"{section.studies.count:,}", f"{found.count:,}", _percent(found), _span(found), terms)
    return table


def _pathologies(name: str, section: SectionAudit) -> Table:
    title = f"What an affirmed term in {name} says about the label"
    table = _table(title, "Pathology", "studies", "labeled positive", "share", "95 % interval", "base rate", "a study")
    example = {found.pathology: found.study_id for found in reversed(section.examples)}
    for pathology, found in section.pathologies.items():
        if found.affirmed:
            positive = found.positive
            labeled = f"{positive.count:,} of {positive.total:,}"
            shares = (_percent(positive), _span(positive), _percent(found.base_rate))
            table.add_row(pathology, f"{found.affirmed:,}", labeled, *shares, example.get(pathology, ""))
    return table


def _table(title: str, first: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(first, no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _percent(share: Share) -> str:
    return "–" if share.share is None else f"{share.share:.1%}"


def _span(share: Share) -> str:
    return "–" if share.low is None or share.high is None else f"{share.low:.1%}–{share.high:.1%}"
