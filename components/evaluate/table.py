"""The report as a person reads it: the table at the end of an evaluation, and of a pipeline run."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from components.cxr.decision import Decision
from components.cxr.labels import LabelPolicy
from components.cxr.report import (
    CONDITIONS,
    LOW_SUPPORT,
    Condition,
    GroupValue,
    Interval,
    MeanScore,
    Metric,
    PathologyScore,
    Report,
    Score,
    TruthReport,
)

__all__ = [
    "CAVEAT", "CONDITION_NAMES", "PROTOCOLS",
    "estimate", "gain_line", "history_lines", "leaky_warning", "markdown_table", "marked", "number", "policy_line",
    "print_report", "print_whole", "span", "subgroup_line", "support_note", "table_console", "with_interval",
]  # fmt: skip

CONDITION_NAMES: dict[Condition, str] = {
    "all": "films, indication, metadata",
    "image": "films alone",
    "image+meta": "films and metadata",
    "text": "indication alone",
    "meta": "metadata alone (age, sex, view)",
}
PROTOCOLS = {
    "A": "protocol A (blank and uncertain labels count as negative)",
    "B": "protocol B (explicit labels only; where No Finding is positive, other findings are negative)",
    "truth": "protocol truth (a second truth's labels; blank and uncertain count as negative)",
}
CAVEAT = (
    "Labels are those of the data set, which a program may have mined from reports; scores of other publications have "
    "other splits and units. "
    "Not a medical device."
)
_WIDTH = 100


def print_report(report: Report, decision: Decision | None = None, *, console: Console | None = None) -> None:
    """Print the headline table, a line per condition, what was counted, and the decision.

    Readable at 100 columns where there is no terminal.
    """
    console = console or table_console()
    if report.leaky:
        console.print(Text(leaky_warning(report), style="bold red"))
    score = report.headline
    print_whole(console, _headline_table(score))
    if note := support_note(score):
        console.print(Text(note))
    console.print()
    print_whole(console, _condition_table(report))
    for line in filter(None, (gain_line(report), *history_lines(report), subgroup_line(report))):
        console.print(Text(line))
    console.print()
    if report.second_truth is not None:
        print_whole(console, _truth_table(report, report.second_truth))
        if note := support_note(report.score("all", protocol="truth")):
            console.print(Text(note))
        console.print(Text(f"Missed: positive by {report.second_truth.name}, not by label; invented: the reverse."))
        console.print()
    console.print(Text(f"By study, {PROTOCOLS[score.protocol]}. {policy_line(report.label_policy)}"))
    console.print(Text(f"Intervals: 95 %, {report.num_bootstrap} resamples of {score.num_patients} patients. {CAVEAT}"))
    console.print()
    if decision is not None:
        word, style = ("Promoted", "bold green") if decision.promoted else ("Not promoted", "bold yellow")
        console.print(Text.assemble((f"{word}: ", style), decision.reason))


def table_console() -> Console:
    """Standard output, of 100 columns where it is no terminal; names of findings are no markup."""
    return Console(width=None if sys.stdout.isatty() else _WIDTH, highlight=False, markup=False, emoji=False)


def print_whole(console: Console, table: Table) -> None:
    """Print a table without cutting a number: a terminal that is too narrow wraps its lines."""
    width = console.width
    console.width = 10 * _WIDTH  # a measure is never above the width
    console.width = max(width, console.measure(table).maximum)
    console.print(table)
    console.width = width


def subgroup_line(report: Report) -> str:
    """The subgroups that are shown to score lower than all others of their kind, in one sentence; empty without any."""
    large = [group for group in report.subgroups if not group.too_small and group.auroc.gap_ci is not None]
    if not large:
        return ""
    lower = [group for group in large if group.auroc.gap_ci is not None and group.auroc.gap_ci.high < 0]
    if not lower:
        return f"None of {len(large)} subgroups is shown to score lower than the rest."
    told = [f"{group.attribute} {group.group} {_gap(group.auroc)}" for group in lower]
    return f"Of {len(large)} subgroups {len(lower)} score lower than the rest, in mean AUROC: {'; '.join(told)}."


def history_lines(report: Report) -> list[str]:
    """Whether films add to the history, and what is alarming; empty where it is not known."""
    if (found := report.history) is None:
        return []
    over = found.films_over_context.ci
    verdict = "films add to the history" if over and over.low > 0 else "films are not shown to add to the history"
    films, everything, context = (
        estimate(each.value, each.ci)
        for each in (found.balanced["image"], found.balanced["all"], found.context_balanced)
    )
    line = (
        f"Among studies of which indication and metadata predict about the same: films alone {films}, everything "
        f"{everything}, indication and metadata {context}; {verdict}."
    )
    return [line, *(f"warning: {alarm}" for alarm in found.alarms)]


def policy_line(policy: LabelPolicy) -> str:
    """The label policy of the training in one sentence."""
    weight = f" (weight {policy.blank_weight:g})" if policy.blank == "negative" and policy.blank_weight != 1.0 else ""
    return f"Trained with uncertain: {policy.uncertain}, blank: {policy.blank}{weight}."


def marked(name: str, score: PathologyScore) -> str:
    """The pathology, with a star where there are too few patients to know its scores."""
    return f"{name} *" if score.low_support else name


def support_note(score: Score) -> str:
    """What the star means; empty where no pathology of the table has one."""
    few = any(found.low_support for found in score.pathologies.values())
    return f"* fewer than {LOW_SUPPORT} patients with, or without, the finding: hardly known." if few else ""


def gain_line(report: Report) -> str:
    """What text and metadata add to the films, in one sentence; empty where it is not known."""
    gain = next((gain for gain in report.gains if (gain.condition, gain.over) == ("all", "image")), None)
    if gain is None or gain.mean.difference is None or gain.mean.ci is None:
        return ""
    low, high = gain.mean.ci.low, gain.mean.ci.high
    verdict = "a gain" if low > 0 else "a loss" if high < 0 else "not shown to help"
    said = f"{gain.mean.difference:+.3f} ({low:+.3f} to {high:+.3f})"
    return f"On the common subset, text and metadata add {said} to films: {verdict}."


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of Markdown, one line each."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def leaky_warning(report: Report) -> str:
    """Why the scores prove nothing, in one sentence; empty for a sound evaluation."""
    return f"LEAKY: {' and '.join(report.leaks)}." if report.leaks else ""


def number(value: float | None, *, digits: int = 3) -> str:
    """A score, or a dash where it is undefined."""
    return "–" if value is None else f"{value:.{digits}f}"


def span(score: PathologyScore | MeanScore) -> str:
    """The interval of the AUROC, or a dash."""
    return _interval(score.intervals.get("auroc"))


def with_interval(score: PathologyScore | MeanScore, metric: Metric) -> str:
    """A metric as `0.712 (0.640–0.771)`."""
    return estimate(getattr(score, metric), score.intervals.get(metric))


def estimate(value: float | None, ci: Interval | None) -> str:
    """A value as `0.712 (0.640–0.771)`, or without its interval, or a dash."""
    return number(value) + (f" ({_interval(ci)})" if ci else "")


def _headline_table(score: Score) -> Table:
    title = f"{score.num_studies:,} test studies of {score.num_patients:,} patients: {CONDITION_NAMES[score.condition]}"
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("Pathology", no_wrap=True)
    for name in ("AUROC", "95 % interval", "Acc.", "Prec.", "Recall", "F1", "Pos.", "Neg."):
        table.add_column(name, justify="right", no_wrap=True)
    for name, found in score.pathologies.items():
        table.add_row(marked(name, found), *_numbers(found), f"{found.positives:,}", f"{found.negatives:,}")
    mean = score.mean
    table.add_section()
    table.add_row(f"Mean of {len(mean.pathologies)}", *_numbers(mean), "", "", style="bold")
    return table


def _condition_table(report: Report) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("Mean AUROC by what the model sees", no_wrap=True)
    for name in ("all studies", "95 % interval", "common subset", "95 % interval"):
        table.add_column(name, justify="right", no_wrap=True)
    for condition in CONDITIONS:
        means = [_mean(report, condition, subset="all"), _mean(report, condition, subset="common")]
        cells = [cell for mean in means for cell in ((number(mean.auroc), span(mean)) if mean else ("–", "–"))]
        table.add_row(CONDITION_NAMES[condition], *cells)
    by_image = next((s for s in report.scores if s.unit == "image"), None)
    if by_image is not None:
        table.add_row("one film at a time, by image", number(by_image.mean.auroc), span(by_image.mean), "", "")
    explicit = next((s for s in report.scores if (s.condition, s.protocol, s.subset) == ("all", "B", "all")), None)
    if explicit is not None:
        row = ("explicit labels only (protocol B)", number(explicit.mean.auroc), span(explicit.mean))
        table.add_row(*row, "", "")
    return table


def _truth_table(report: Report, truth: TruthReport) -> Table:
    score = report.score("all", protocol="truth")
    title = f"Against {truth.name} on {truth.studies:,} of these studies, and what the data set's labels make of it"
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("Pathology", no_wrap=True)
    for name in ("AUROC", "95 % interval", "Pos.", "Neg.", "missed", "invented", "kappa", "95 % interval"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, found in score.pathologies.items():
        counts = (f"{found.positives:,}", f"{found.negatives:,}")
        agreed = truth.agreement.get(name)
        cells = ("–",) * 4
        if agreed is not None:
            wrong = (f"{agreed.second_alone:,}", f"{agreed.first_alone:,}")
            cells = (*wrong, number(agreed.kappa), _interval(agreed.kappa_ci))
        table.add_row(marked(name, found), number(found.auroc), span(found), *counts, *cells)
    table.add_section()
    mean = score.mean
    table.add_row(f"Mean of {len(mean.pathologies)}", number(mean.auroc), span(mean), style="bold")
    return table


def _mean(report: Report, condition: Condition, *, subset: str) -> MeanScore | None:
    keys = (condition, "A", "study", subset)
    found = (s.mean for s in report.scores if (s.condition, s.protocol, s.unit, s.subset) == keys)
    return next(found, None)


def _gap(found: GroupValue) -> str:
    assert found.gap_ci is not None
    return f"{found.gap:+.3f} ({found.gap_ci.low:+.3f} to {found.gap_ci.high:+.3f})"


def _interval(found: Interval | None) -> str:
    return "–" if found is None else f"{found.low:.3f}–{found.high:.3f}"


def _numbers(score: PathologyScore | MeanScore) -> tuple[str, ...]:
    rest = (number(value) for value in (score.accuracy, score.precision, score.recall, score.f1))
    return number(score.auroc), span(score), *rest
