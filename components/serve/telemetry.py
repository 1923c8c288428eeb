"""`GET /metrics`: how the server does and what it answers, for Prometheus; nothing of a patient."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, generate_latest

from components.cxr.operating_points import OperatingPoint, OperatingPoints
from components.cxr.report import CONDITIONS, Condition
from components.serve.predictor import Prediction

__all__ = ["Telemetry", "chance_limit", "stability_index"]

WINDOW = 1000
"""Answers, the newest, that drift is measured on."""
LEAST_ANSWERS = 100
"""Below this many it is not: the index of so few says nothing."""

_SECONDS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 60.0)
_TENTHS = tuple(round(0.1 * i, 1) for i in range(1, 11))


class Telemetry:
    """Counters, histograms and gauges of one server.

    Labels have few values by construction: routes, statuses, error codes, pathologies, input conditions and states.

    Args:
        pathologies: of the model.
        points: its operating points, whose probabilities of the validation studies drift is measured against.
        bundle_hash: of the model.
    """

    def __init__(self, pathologies: Sequence[str], points: OperatingPoints, *, bundle_hash: str) -> None:
        self._registry = CollectorRegistry()
        here: Any = {"registry": self._registry}
        Info("cxrflow_model", "The model in service.", **here).info(
            {"bundle_hash": bundle_hash, "operating_points_hash": points.hash}
        )
        self._requests = Counter("cxrflow_requests", "Answered requests.", ("path", "status"), **here)
        self._seconds = Histogram("cxrflow_request_seconds", "Time of a request.", ("path",), buckets=_SECONDS, **here)
        self._open = Gauge("cxrflow_requests_open", "Requests that are uploaded, waiting or answered.", **here)
        self._refusals = Counter("cxrflow_refusals", "Errors in place of an answer, by reason.", ("code",), **here)
        self._studies = Counter("cxrflow_studies", "Answered studies, by kind of input.", ("condition",), **here)
        self._films = Counter("cxrflow_films", "Films of the answered studies.", **here)
        self._foreign = Counter("cxrflow_foreign_films", "Films among them that look unlike chest films.", **here)
        self._states = Counter("cxrflow_states", "Answers.", ("pathology", "state"), **here)
        self._probability = Histogram(
            "cxrflow_probability", "Calibrated probabilities.", ("pathology",), buckets=_TENTHS, **here
        )
        drift = Gauge(
            "cxrflow_probability_psi",
            f"Population stability index of the newest {WINDOW:,} probabilities against the validation studies'.",
            ("pathology", "condition"),
            **here,
        )
        limit = Gauge(
            "cxrflow_probability_psi_limit",
            "What that index hardly ever exceeds by chance, for as many answers and validation studies.",
            ("pathology", "condition"),
            **here,
        )
        self._places: dict[tuple[Condition, str], deque[int]] = {}
        self._points: Mapping[Condition, Mapping[str, OperatingPoint]] = points.conditions
        for condition in CONDITIONS:
            for name in pathologies:
                if (point := points.conditions.get(condition, {}).get(name)) and point.shares:
                    places = self._places[condition, name] = deque[int](maxlen=WINDOW)
                    drift.labels(name, condition).set_function(partial(_drift, places, point.shares))
                    studies = point.positives + point.negatives
                    limit.labels(name, condition).set_function(partial(_limit, places, studies))

    @property
    def registry(self) -> CollectorRegistry:
        """Of all that is told; others add to it."""
        return self._registry

    def opened(self) -> None:
        """A request came in."""
        self._open.inc()

    def closed(self, path: str, *, status: int, seconds: float) -> None:
        """A request was answered.

        Args:
            path: of a route; a path that is none must have been replaced.
        """
        self._open.dec()
        self._requests.labels(path, str(status)).inc()
        self._seconds.labels(path).observe(seconds)

    def refused(self, code: str) -> None:
        """A request got an error in place of an answer."""
        self._refusals.labels(code).inc()

    def answered(self, found: Prediction) -> None:
        """A study was answered."""
        self._studies.labels(found.condition).inc()
        self._films.inc(len(found.study.films))
        self._foreign.inc(sum(score > 0 for score in found.foreign or ()))
        if found.in_distribution is False:
            return  # what is said of another picture is no drift of the answers
        for name, answer in found.answers.items():
            self._states.labels(name, str(answer.state)).inc()
            self._probability.labels(name).observe(answer.probability)
            if (places := self._places.get((found.condition, name))) is not None:
                edges = self._points[found.condition][name].edges
                places.append(int(np.searchsorted(edges, round(answer.probability, 6), side="right")))

    def exposition(self) -> bytes:
        """All of it in Prometheus' text format."""
        return generate_latest(self._registry)


def stability_index(counts: Sequence[int], shares: Sequence[float]) -> float:
    """Population stability index of counts against expected shares, 0 where they agree.

    Half an observation is added to every count, so that an empty place has no infinite weight. Without any drift it is
    about (places - 1) (1 / n + 1 / m) for n answers and m studies behind the shares.

    >>> round(stability_index([500, 300, 200], [0.5, 0.3, 0.2]), 3)
    0.0
    >>> round(stability_index([200, 300, 500], [0.5, 0.3, 0.2]), 2)
    0.55
    """
    found = (np.asarray(counts) + 0.5) / (sum(counts) + 0.5 * len(counts))
    expected = np.clip(np.asarray(shares), 1e-4, None)
    return float(((found - expected) * np.log(found / expected)).sum())


def chance_limit(answers: int, validation: int) -> float:
    """What the index of any of fourteen pathologies exceeds without drift in about 3 draws of 100 at most.

    By chance alone it is about (1/n + 1/m) times a chi-squared with nine degrees (Yurdakul 2018); the customary limits
    .1 and .25 do not depend on n and m, and are exceeded by some pathology nearly always for 100 answers
    (`python -m benchmarks.drift_alarms`).
    """
    return 30.0 * (1 / answers + 1 / validation)


def _limit(places: deque[int], validation: int) -> float:
    return chance_limit(len(places), validation) if len(places) >= LEAST_ANSWERS and validation else math.nan


def _drift(places: deque[int], shares: Sequence[float]) -> float:
    if len(places) < LEAST_ANSWERS:
        return math.nan
    return stability_index(np.bincount(places, minlength=len(shares)).tolist(), shares)
