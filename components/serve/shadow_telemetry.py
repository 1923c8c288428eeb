"""What `/metrics` says of a challenger in shadow mode: whether it answers, and how its answers differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info

from components.cxr.model.predictor import Answer

__all__ = ["DIFFERENCES", "ShadowTelemetry"]

DIFFERENCES = (-0.5, -0.2, -0.1, -0.05, -0.02, -0.01, -0.001, 0.001, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


class ShadowTelemetry:
    """Counters and histograms of one challenger; no patient data.

    Args:
        registry: of the server's own metrics.
        pathologies: of the model in service; those that the challenger has too are compared.
    """

    def __init__(self, registry: CollectorRegistry, pathologies: Sequence[str]) -> None:
        here: Any = {"registry": registry}
        self._pathologies = pathologies
        self._model = Info("cxrflow_shadow_model", "The challenger.", **here)
        self._up = Gauge("cxrflow_shadow_up", "Whether the challenger answers.", **here)
        self._studies = Counter(
            "cxrflow_shadow_studies",
            "Studies that were answered: the challenger answered, refused or failed, or was behind (dropped).",
            ("outcome",),
            **here,
        )
        for outcome in ("answered", "refused", "failed", "dropped"):
            self._studies.labels(outcome)
        self._refusals = Counter("cxrflow_shadow_refusals", "The challenger's refusals, by reason.", ("code",), **here)
        self._difference = Histogram(
            "cxrflow_shadow_difference",
            "The challenger's probability minus the one in service.",
            ("pathology",),
            buckets=DIFFERENCES,
            **here,
        )
        self._states = Counter(
            "cxrflow_shadow_states",
            "States of the model in service and of the challenger; where the two labels differ they disagree.",
            ("pathology", "state", "challenger"),
            **here,
        )

    def model(self, bundle_hash: str) -> None:
        """Which model the challenger is."""
        self._model.info({"bundle_hash": bundle_hash})

    def up(self, up: bool) -> None:
        """Whether it answers now."""
        self._up.set(up)

    def compare(self, ours: Mapping[str, Answer], challenger: Mapping[str, Mapping[str, Any]]) -> None:
        """It answered a study.

        Args:
            challenger: by pathology its reply's probability and state.

        Raises:
            KeyError, TypeError, ValueError: no such reply; then nothing is counted.
        """
        shared = [name for name in self._pathologies if name in challenger]
        theirs = {name: (float(challenger[name]["probability"]), int(challenger[name]["state"])) for name in shared}
        self._studies.labels("answered").inc()
        for name, (probability, state) in theirs.items():
            self._difference.labels(name).observe(probability - ours[name].probability)
            self._states.labels(name, str(ours[name].state), str(state)).inc()

    def refused(self, code: str) -> None:
        """It refused a study that was answered."""
        self._studies.labels("refused").inc()
        self._refusals.labels(code).inc()

    def failed(self) -> None:
        """It gave no answer at all."""
        self._studies.labels("failed").inc()

    def dropped(self) -> None:
        """It was behind, or not there."""
        self._studies.labels("dropped").inc()
