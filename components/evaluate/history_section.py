"""The model card's part on what films add to the history."""

from __future__ import annotations

from components.cxr.report import Estimate, History, Report
from components.evaluate.table import CONDITION_NAMES, estimate, markdown_table

__all__ = ["history_section"]


def history_section(report: Report) -> str:
    """Balanced scores and controls, as Markdown; empty where they are not known."""
    if (found := report.history) is None:
        return ""
    rows = [
        (CONDITION_NAMES[condition], _told(found.plain[condition]), _told(balanced))
        for condition, balanced in found.balanced.items()
    ]
    rows.append(("what indication and metadata predict", _told(found.context), _told(found.context_balanced)))
    films = [(name, _told(value)) for name, value in found.films.items()]
    return "\n\n".join(
        [
            "## Does the film add to the history?",
            f"On {found.num_studies:,} test studies of {found.num_patients:,} patients that have films, text and "
            "metadata. Balanced: a positive is compared only with negatives of the same twentieth of what the model's "
            "own answers to indication and metadata, calibrated on validation and added, predict of that finding; a "
            f"guess from them is worth little more than 0.5. Means over {len(found.pathologies)} findings.",
            markdown_table(("Input", "AUROC", "Balanced AUROC"), rows),
            _controls(found),
            *(f"**Warning: {alarm}**" for alarm in found.alarms),
            markdown_table(("Finding", "Films alone, balanced AUROC"), films),
        ]
    )


def _controls(found: History) -> str:
    controls = [("indication alone", _told(found.text)), ("metadata alone", _told(found.meta))]
    if found.shuffled is not None:
        controls.append(("everything, with the indications of other patients", _told(found.shuffled)))
    return markdown_table(("Control", "AUROC"), controls)


def _told(found: Estimate) -> str:
    return estimate(found.value, found.ci)
