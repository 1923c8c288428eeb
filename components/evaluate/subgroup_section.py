"""The model card's part on subgroups."""

from __future__ import annotations

from components.cxr.report import GroupValue, Report, Subgroup
from components.evaluate.table import markdown_table, number

__all__ = ["subgroup_section"]


def subgroup_section(report: Report) -> str:
    """Every subgroup with counts, numbers and gaps, as Markdown; empty where none is known."""
    if not report.subgroups:
        return ""
    head = ("Group", "Studies", "Patients", "AUROC", "Sensitivity", "1 - specificity", "Under-diagnosis")
    return "\n\n".join(
        [
            "## Subgroups",
            "Means over the findings with enough patients in the group and among all others of its kind, at the "
            "thresholds from validation; under-diagnosis is the share of studies with a finding that are answered with "
            "No Finding (Seyyed-Kalantari et al. 2021). In brackets the 95 % interval over patients, behind it the gap "
            "to all others with its own. Groups of fewer than 50 studies are too small for scores.",
            markdown_table(head, [_row(group) for group in report.subgroups]),
        ]
    )


def _row(group: Subgroup) -> tuple[str, ...]:
    counts = (f"{group.attribute}: {group.group}", f"{group.studies:,}", f"{group.patients:,}")
    if group.too_small:
        return (*counts, "too small", "", "", "")
    return (*counts, *(_told(found) for found in (group.auroc, group.tpr, group.fpr, group.underdiagnosis)))


def _told(found: GroupValue) -> str:
    span = f" [{found.ci.low:.3f}, {found.ci.high:.3f}]" if found.ci else ""
    gap = f"; {found.gap:+.3f}" if found.gap is not None else ""
    gap_span = f" [{found.gap_ci.low:+.3f}, {found.gap_ci.high:+.3f}]" if found.gap_ci else ""
    return f"{number(found.value)}{span}{gap}{gap_span}"
