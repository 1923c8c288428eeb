"""An evaluation as one HTML page without scripts or links outward, for Kubeflow's own UI."""

from __future__ import annotations

import base64
import io
from html import escape

import pyarrow as pa
from matplotlib.figure import Figure

from components.cxr.decision import Decision
from components.cxr.report import Report
from components.evaluate.figures import figures
from components.evaluate.log import panels, subtitle_of
from components.evaluate.table import marked, number, support_note, with_interval

__all__ = ["page"]

_STYLE = """body{font:14px/1.45 system-ui,sans-serif;color:#111827;max-width:60em;margin:1.5em}
table{border-collapse:collapse;margin:1em 0}th,td{padding:.25em .8em;border-bottom:1px solid #e5e7eb;text-align:right}
td{white-space:nowrap}
th:first-child,td:first-child{text-align:left}img{max-width:100%;margin:.5em 0}.leaky{color:#b91c1c;font-weight:bold}"""

_HEADS = [
    "Pathology",
    "AUROC (95 % interval)",
    "Average precision",
    "Sensitivity",
    "Specificity",
    "Positives",
    "Negatives",
]


def page(report: Report, decision: Decision, predictions: pa.Table) -> str:
    """Decision, table of the headline, and its figures; no patient, study or film is named.

    Args:
        predictions: as write_predictions documents; only drawn.
    """
    score = report.headline
    rows = [
        _row(
            marked(name, found),
            with_interval(found, "auroc"),
            *(number(value) for value in (found.average_precision, found.recall, found.specificity)),
            f"{found.positives:,}",
            f"{found.negatives:,}",
        )
        for name, found in score.pathologies.items()
    ]
    mean = score.mean
    means = (number(value) for value in (mean.average_precision, mean.recall, mean.specificity))
    rows.append(_row("Mean", with_interval(mean, "auroc"), *means, "", ""))
    warning = f"LEAKY: {'; '.join(report.leaks)}. The scores prove nothing." if report.leaky else ""
    few = support_note(score)
    verdict = "Promoted" if decision.promoted else "Not promoted"
    drawn = figures(panels(predictions, score), score, subtitle=subtitle_of(report))
    return "\n".join(
        [
            f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Evaluation</title><style>{_STYLE}</style>',
            f"<h1>Mean AUROC {escape(with_interval(mean, 'auroc'))}</h1>",
            f'<p class="leaky">{escape(warning)}</p>' if warning else "",
            f"<p>{escape(subtitle_of(report))}</p>",
            f"<p><b>{verdict}</b>: {escape(decision.reason)}</p>",
            f"<table><tr>{''.join(f'<th>{escape(name)}</th>' for name in _HEADS)}</tr>{''.join(rows)}</table>",
            f"<p>{few}</p>" if few else "",
            *(f'<img alt="{name}" src="data:image/png;base64,{_png(figure)}">' for name, figure in drawn.items()),
            "</html>",
        ]
    )


def _row(*cells: str) -> str:
    return f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>"


def _png(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    return base64.b64encode(buffer.getvalue()).decode()
