"""What becomes of a decision: it is counted among those on the same studies, written, and told to MLflow."""

from __future__ import annotations

import contextlib
import json

from components.cxr.config import content_hash
from components.cxr.decision import DECISION, Check, Decision
from components.cxr.storage.storage import ABSENT, Root, StaleWriteError, Storage
from components.cxr.tracking.tracked_run import TrackedRun
from components.evaluate.config import PromotionConfig

__all__ = ["decision_tags", "generation_of", "log_decision", "register_look"]


def register_look(
    root: Root, manifest_hash: str, *, evaluation: str, champion: str | None, config: PromotionConfig
) -> int:
    """Note that a model is being judged on a data set's test studies; returns how many other judgments there were.

    Another model, another setting of the evaluation (a seed of the resamples, a headline), another policy or another
    deployed model is a judgment of its own; the same one again is not. It is noted before it is made, so that two at
    once count each other.

    Args:
        evaluation: key of the evaluation, which stands for the model and the settings.
        champion: hash of the deployed bundle that it is compared with.
    """
    ledger = root.decisions(manifest_hash)
    judged = {"evaluation": evaluation, "champion": champion}
    name = f"{content_hash(json.dumps(judged), config.canonical_json())}.json"
    with contextlib.suppress(StaleWriteError):
        ledger.write(name, (json.dumps(judged) + "\n").encode(), if_generation=ABSENT)
    return len(ledger.sizes()) - 1


def generation_of(storage: Storage) -> int:
    """Of the decision that is there before this one is made; ABSENT without one."""
    try:
        return storage.read(DECISION).generation
    except FileNotFoundError:
        return ABSENT


def log_decision(tracked: TrackedRun, decision: Decision) -> None:
    """The decision as an artifact of the run, and its outcome and checks as tags; it names no patient or study."""
    tracked.text(json.dumps(decision.model_dump(mode="json"), indent=1) + "\n", "evaluation/decision.json")
    checks = {f"check/{check.name}": _told(check) for check in decision.checks}
    tracked.tags(decision_tags(decision) | checks)


def decision_tags(decision: Decision) -> dict[str, str]:
    """What the run and the registered version are both told."""
    return {
        "decision": "promoted" if decision.promoted else "rejected",
        "verdict": decision.verdict,
        "reason": decision.reason,
        "earlier_decisions": str(decision.earlier_decisions),
    }


def _told(check: Check) -> str:
    value = "undefined" if check.value is None else f"{check.value:+.4f}"
    ends = f" [{check.ci.low:+.4f}, {check.ci.high:+.4f}]" if check.ci else ""
    rule = {
        "low_above": "lower end above",
        "not_shown_below": "not shown below",
        "not_shown_above": "not shown above",
    }[check.rule]
    return f"{'passed' if check.passed else 'failed'}: {value}{ends}, {rule} {check.bound:+.4f}"
