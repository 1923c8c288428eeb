"""The gate: whether the evaluated bundle replaces the deployed one."""

from __future__ import annotations

from typing import NamedTuple

from components.cxr.report import Decision, Interval, Report
from components.evaluate.config import PromotionConfig

__all__ = ["Comparison", "decide"]

CHANCE = 0.5
"""Mean AUROC of guessing."""


class Comparison(NamedTuple):
    """The deployed bundle against the evaluated one, on the same rows by the same code."""

    champion_bundle: str
    """Bundle hash."""
    problem: str | None = None
    """Why the deployed bundle could not be scored on this data."""
    other_points: bool = False
    """The evaluated bundle is the deployed one, which serves with the operating points of another evaluation."""
    difference: float | None = None
    """Mean AUROC of challenger minus champion."""
    difference_ci: Interval | None = None
    left_out: str = ""
    """Which test studies were not compared, and why; empty when all were."""


def decide(report: Report, comparison: Comparison | None, *, config: PromotionConfig) -> Decision:
    """Promote or not.

    Nothing deployed: the lower 95 % bound of the mean AUROC must be above 0.5. Otherwise the paired difference decides:
    `superior` needs its lower bound above 0, `non_inferior` above -margin. A LEAKY evaluation (a model that reads
    sections written after the read, or was trained on test patients) never promotes, nor is a deployed bundle promoted.

    Args:
        comparison: None when nothing is deployed.
    """
    promoted, reason = _judge(report, comparison, config)
    return Decision(
        promoted=promoted,
        policy=config.policy,
        reason=reason,
        challenger_bundle=report.bundle_hash,
        champion_bundle=comparison.champion_bundle if comparison else None,
        difference=comparison.difference if comparison else None,
        difference_ci=comparison.difference_ci if comparison else None,
    )


def _judge(report: Report, comparison: Comparison | None, config: PromotionConfig) -> tuple[bool, str]:
    mean = report.headline.mean
    if report.leaky:
        return False, f"{' and '.join(report.leaks)} (LEAKY), so its scores prove nothing."
    if mean.auroc is None:
        return False, "no mean AUROC: no pathology of the headline has both positive and negative test studies."
    auroc_ci = mean.intervals.get("auroc")
    if auroc_ci is None:
        defined = mean.resamples.get("auroc", report.num_bootstrap)
        found = f"in {defined:,} of {report.num_bootstrap:,} resamples of the patients"
        rare = "Leave the rarest pathologies out of evaluate.headline, or test on more patients."
        return False, f"no interval: the mean AUROC is defined {found}, and 9 in 10 are needed. {rare}"
    if comparison is None:
        score = f"mean AUROC {mean.auroc:.3f}, 95 % interval {_span(auroc_ci)}"
        if auroc_ci.low > CHANCE:
            return True, f"nothing is deployed yet, and the model is better than chance: {score}."
        return (
            False,
            f"nothing is deployed yet, but the model is not shown to be better than chance: {score}.",
        )
    if comparison.champion_bundle == report.bundle_hash:
        stay = (
            ", with the operating points of another evaluation, which stay in service"
            if comparison.other_points
            else ""
        )
        return False, f"already deployed{stay}."
    if comparison.problem is not None:
        return False, f"the deployed model could not be compared: {comparison.problem}"
    if comparison.difference is None or comparison.difference_ci is None:
        return False, "no paired difference: too few test patients have, or lack, the findings of evaluate.headline."
    bound = -config.margin if config.policy == "non_inferior" else 0.0
    change = f"mean AUROC {comparison.difference:+.3f}, 95 % interval {_span(comparison.difference_ci, sign='+')}"
    change += f" ({comparison.left_out})" if comparison.left_out else ""
    because = f" (accepted because: {config.reason})" if config.policy == "non_inferior" else ""
    if comparison.difference_ci.low > bound:
        word = "better" if config.policy == "superior" else f"not worse by {config.margin:g} or more"
        return True, f"{word} than the deployed model: {change}{because}."
    word = "better" if config.policy == "superior" else f"within {config.margin:g}"
    return False, f"not shown to be {word} against the deployed model: {change}."


def _span(interval: Interval, *, sign: str = "") -> str:
    return f"[{interval.low:{sign}.3f}, {interval.high:{sign}.3f}]"
