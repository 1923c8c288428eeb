"""The gate: whether the evaluated bundle replaces the deployed one, check by check."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from components.cxr.decision import Check, Decision, Rule, Verdict
from components.cxr.report import Difference, Interval, Report
from components.evaluate.config import PromotionConfig

__all__ = ["Comparison", "checks_of", "decide"]

_PROMOTED: tuple[Verdict, ...] = ("first", "superior", "non_inferior", "forced")
_UNDEFINED = Difference(difference=None, ci=None, p_value=None)


class Comparison(NamedTuple):
    """The deployed bundle against the evaluated one, on the same rows by the same code."""

    champion_bundle: str
    """Bundle hash."""
    problem: str | None = None
    """Why the deployed bundle cannot be compared on this data."""
    other_points: bool = False
    """The evaluated bundle is the deployed one, which serves with the operating points of another evaluation."""
    mean: Difference = _UNDEFINED
    """Mean AUROC of challenger minus champion, with every input."""
    films: Difference = _UNDEFINED
    """The same with films alone."""
    pathologies: Mapping[str, Difference] = {}
    """AUROC by pathology, with every input; of those that are not low_support on the compared rows."""
    subgroups: Mapping[str, Difference] = {}
    """Mean AUROC by subgroup (`sex: female`), with every input, of those that are large enough."""
    ece: Difference = _UNDEFINED
    """Mean expected calibration error of challenger minus champion, each with its own operating points."""
    left_out: str = ""
    """Which test studies were not compared, and why; empty when all were."""


def decide(
    report: Report, comparison: Comparison | None, *, config: PromotionConfig, earlier_decisions: int = 0
) -> Decision:
    """Promote or not.

    Nothing deployed: the lower 95 % bound of the mean AUROC must be above `min_auroc`. Otherwise the paired difference
    decides: `superior` needs its lower bound above 0, `non_inferior` above -margin; and then no further check may fail
    (`checks_of`). A LEAKY evaluation (a model that reads sections written after the read, or was trained on test
    patients) never promotes, nor is a deployed bundle promoted.

    Args:
        comparison: None when nothing is deployed.
        earlier_decisions: on the same test studies.
    """
    verdict, reason, checks = _judge(report, comparison, config)
    if checks and earlier_decisions:
        times = "1 earlier decision" if earlier_decisions == 1 else f"{earlier_decisions} earlier decisions"
        reason = f"{reason.removesuffix('.')}; after {times} on these test studies."
    return Decision(
        promoted=verdict in _PROMOTED,
        verdict=verdict,
        policy=config.policy,
        reason=reason,
        checks=checks,
        earlier_decisions=earlier_decisions,
        challenger_bundle=report.bundle_hash,
        champion_bundle=comparison.champion_bundle if comparison else None,
        difference=comparison.mean.difference if comparison else None,
        difference_ci=comparison.mean.ci if comparison else None,
    )


def checks_of(comparison: Comparison, config: PromotionConfig) -> tuple[Check, ...]:
    """What a compared model must pass, the policy's own check first.

    Films alone must be *shown* to lose less than `max_film_drop`, as nothing else tells a better reader of films from a
    better guess. Pathologies, subgroups and calibration stop a model only by a loss that is shown, not by one that only
    looks so: of fourteen pathologies one or another always does.
    """
    margin = config.margin if config.policy == "non_inferior" else 0.0
    return (
        _check("mean", "low_above", comparison.mean, -margin),
        _check("films", "low_above", comparison.films, -config.max_film_drop),
        _check("calibration", "not_shown_above", comparison.ece, config.max_ece_increase),
        *(
            _check(f"pathology/{name}", "not_shown_below", found, -config.max_pathology_drop)
            for name, found in comparison.pathologies.items()
        ),
        *(
            _check(f"subgroup/{name}", "not_shown_below", found, -config.max_subgroup_drop)
            for name, found in comparison.subgroups.items()
        ),
    )


def _judge(
    report: Report, comparison: Comparison | None, config: PromotionConfig
) -> tuple[Verdict, str, tuple[Check, ...]]:
    mean = report.headline.mean
    if report.leaky:
        return "leaky", f"{' and '.join(report.leaks)} (LEAKY), so its scores prove nothing.", ()
    if mean.auroc is None:
        why = "no mean AUROC: no pathology of the headline has both positive and negative test studies."
        return "undefined", why, ()
    auroc_ci = mean.intervals.get("auroc")
    if auroc_ci is None:
        defined = mean.resamples.get("auroc", report.num_bootstrap)
        found = f"in {defined:,} of {report.num_bootstrap:,} resamples of the patients"
        rare = "Leave the rarest pathologies out of evaluate.headline, or test on more patients."
        why = f"no interval: the mean AUROC is defined {found}, and 9 in 10 are needed. {rare}"
        return "undefined", why, ()
    if comparison is None:
        return _without_comparison(mean.auroc, auroc_ci, config, "nothing is deployed yet")
    if comparison.champion_bundle == report.bundle_hash:
        points = ", with the operating points of another evaluation, which stay in service"
        return "deployed", f"already deployed{points if comparison.other_points else ''}.", ()
    if comparison.problem is not None:
        why = f"the deployed model could not be compared: {comparison.problem}"
        if not config.force:
            return "incomparable", why, ()
        forced = f"{why.removesuffix('.')}, but evaluate.promotion.force is set because: {config.reason}"
        return _without_comparison(mean.auroc, auroc_ci, config, forced)
    if comparison.mean.difference is None or comparison.mean.ci is None:
        why = "no paired difference: too few test patients have, or lack, the findings of evaluate.headline."
        return "undefined", why, ()
    return _compared(comparison, config)


def _without_comparison(
    auroc: float, ci: Interval, config: PromotionConfig, why: str
) -> tuple[Verdict, str, tuple[Check, ...]]:
    floor = "chance" if config.min_auroc == 0.5 else f"{config.min_auroc:g}"
    score = f"mean AUROC {auroc:.3f}, 95 % interval {_span(ci)}"
    check = _check("floor", "low_above", Difference(difference=auroc, ci=ci, p_value=None), config.min_auroc)
    if not check.passed:
        return "below_floor", f"{why}, but the model is not shown to be better than {floor}: {score}.", (check,)
    return "forced" if config.force else "first", f"{why}, and the model is better than {floor}: {score}.", (check,)


def _compared(comparison: Comparison, config: PromotionConfig) -> tuple[Verdict, str, tuple[Check, ...]]:
    checks = checks_of(comparison, config)
    main, *others = checks
    change = f"mean AUROC {_told(main)}" + (f" ({comparison.left_out})" if comparison.left_out else "")
    if not main.passed:
        word = "better" if config.policy == "superior" else f"within {config.margin:g}"
        return "not_shown", f"not shown to be {word} against the deployed model: {change}.", checks
    word = "better" if config.policy == "superior" else f"not worse by {config.margin:g} or more"
    change = f"{word} than the deployed model ({change})"
    if failed := [_failure(check) for check in others if not check.passed]:
        return "vetoed", f"{change}, but {' and '.join(failed)}.", checks
    because = f"; accepted because: {config.reason}" if config.policy == "non_inferior" else ""
    beside = f"films alone {_told(others[0])}, calibration error {_told(others[1])}"
    return config.policy, f"{change}; {beside}, no finding and no subgroup shown to be much worse{because}.", checks


def _failure(check: Check) -> str:
    limit, told = f"{abs(check.bound):g}", _told(check)
    if check.name == "films":
        return f"on films alone it is not shown to lose less than {limit} ({told})"
    if check.name == "calibration":
        return f"its calibration error grows by more than {limit} ({told})"
    return f"{check.name.partition('/')[2]} loses more than {limit} ({told})"


def _check(name: str, rule: Rule, found: Difference, bound: float) -> Check:
    value, ci = found.difference, found.ci
    match rule:
        case "low_above":
            passed = ci is not None and ci.low > bound
        case "not_shown_below":
            passed = value is not None and (value >= bound or (ci is not None and ci.high >= 0.0))
        case "not_shown_above":
            passed = value is not None and (value <= bound or (ci is not None and ci.low <= 0.0))
    return Check(name=name, rule=rule, value=value, ci=ci, bound=bound, passed=passed)


def _told(check: Check) -> str:
    if check.value is None:
        return "undefined"
    return f"{check.value:+.3f}" + (f", 95 % interval {_span(check.ci, sign='+')}" if check.ci else "")


def _span(interval: Interval, *, sign: str = "") -> str:
    return f"[{interval.low:{sign}.3f}, {interval.high:{sign}.3f}]"
