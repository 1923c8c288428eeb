"""The second half of evaluation, without the model: operating points from validation, and from test every table.

Shape letters: S studies, P pathologies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from components.cxr.bundle_info import Description
from components.cxr.labels import BLANK, truth_of
from components.cxr.operating_points import OperatingPoint, OperatingPoints, fitting_condition
from components.cxr.report import CONDITIONS, LEAKY_TEXT, Condition, Gain, GoldenStudy, Protocol, Report, Score
from components.evaluate.calibration import DEFAULT_THRESHOLD, calibrate, operating_points
from components.evaluate.config import EvaluateConfig
from components.evaluate.gains import gains_of
from components.evaluate.history import history_of
from components.evaluate.predictions import Pass, Predictions, Rows, Scores, Studies
from components.evaluate.score_table import score_rows, uncalibrated
from components.evaluate.second_truth import second_truth_of
from components.evaluate.subgroups import subgroups_of
from components.evaluate.truth_table import SecondTruth
from components.evaluate.uncertain import uncertain_scores, with_uncertain_thresholds

__all__ = ["Assessment", "leaks_of", "predictions_table", "score"]

PROTOCOLS: tuple[Protocol, ...] = ("A", "B")


class Assessment(NamedTuple):
    """What one bundle does on one data set."""

    report: Report
    points: OperatingPoints
    predictions: pa.Table
    """As write_predictions documents."""


def score(
    config: EvaluateConfig,
    model: Description,
    predictions: Predictions,
    *,
    manifest_hash: str,
    truth: SecondTruth | None = None,
    run_id: str | None,
) -> Assessment:
    """Choose the operating points on validation, and score the test studies and films with them.

    Args:
        predictions: of every pass (predictions.PASSES).
        truth: a second table of labels to score against as well.
        run_id: of the MLflow run that the report names.
    """
    pathologies, test = model.info.pathologies, predictions.test
    on_test = {condition: predictions.scores[Pass("test", condition)] for condition in CONDITIONS}
    points = {condition: _points(config, predictions, condition, pathologies) for condition in CONDITIONS}
    table = partial(score_rows, pathologies=pathologies, config=config)
    beside = second_truth_of(config, truth, test) if truth is not None else None
    known = predictions.validation.rows.select(predictions.validation.rows.labeled_N)
    chosen = OperatingPoints(
        bundle_hash=model.hash,
        threshold_rule=config.threshold,
        validation_studies=len(known.studies),
        validation_patients=len(set(known.patients)),
        conditions=points,
    )
    report = Report(
        bundle_hash=model.hash,
        manifest_hash=manifest_hash,
        operating_points_hash=chosen.hash,
        mlflow_run_id=run_id,
        leaks=leaks_of(model, test),
        label_policy=model.info.label_policy,
        threshold_rule=config.threshold,
        scores=(
            *_by_study(table, test, points, on_test),
            _by_film(table, test, points["image"], predictions.scores[Pass("films", "image")]),
            *(beside.scores(table, points, on_test) if beside else ()),
        ),
        gains=_gains(config, test, on_test, pathologies),
        uncertain=uncertain_scores(on_test["all"], test.rows, points["all"], config=config),
        uncalibrated=uncalibrated(on_test["all"].score_NP, test.rows, pathologies=pathologies, config=config),
        golden=_golden(config, test, on_test["all"], points),
        num_bootstrap=config.num_bootstrap,
        second_truth=beside.report if beside else None,
        history=history_of(predictions, points, pathologies=pathologies, config=config),
        subgroups=subgroups_of(on_test["all"].score_NP, test, points["all"], pathologies=pathologies, config=config),
    )
    return Assessment(report, chosen, predictions_table(test.rows, on_test, points, pathologies=pathologies))


def leaks_of(model: Description, test: Studies) -> tuple[str, ...]:
    """Why the scores prove nothing, a clause for each reason; empty for a sound evaluation."""
    leaks = [LEAKY_TEXT] if model.info.leaky else []
    if seen := test.patients_trained_on():
        total = len(set(test.rows.patients))
        leaks.append(f"the model was trained or selected on {len(seen):,} of the {total:,} test patients")
    return tuple(leaks)


def _points(
    config: EvaluateConfig, predictions: Predictions, condition: Condition, pathologies: Sequence[str]
) -> dict[str, OperatingPoint]:
    """From the validation studies under the same condition; unfitted where there are none."""
    found = predictions.scores.get(Pass("validate", condition))
    if found is None:
        return {name: OperatingPoint(threshold=DEFAULT_THRESHOLD) for name in pathologies}
    rows = predictions.validation.rows
    truth_SP = truth_of(rows.states_NP, rows.labeled_N, protocol="A")
    points = operating_points(found.score_NP, truth_SP, pathologies=pathologies, rule=config.threshold)
    return with_uncertain_thresholds(points, found.uncertain_NP, rows) if config.uncertain == "youden" else points


def _by_study(
    table: Callable[..., Score],
    test: Studies,
    points: dict[Condition, dict[str, OperatingPoint]],
    scores: dict[Condition, Scores],
) -> Iterator[Score]:
    """Every condition, protocol and subset; the headline first."""
    common_S = test.complete_S
    common = test.rows.select(common_S)
    for condition, said in scores.items():
        for protocol in PROTOCOLS:
            keys = {"points": points[condition], "condition": condition, "protocol": protocol}
            yield table(said.score_NP, test.rows, **keys)
            if common_S.any():
                yield table(said.score_NP[common_S], common, **keys, subset="common")


def _by_film(table: Callable[..., Score], test: Studies, points: dict[str, OperatingPoint], said: Scores) -> Score:
    """Every film alone, with its study's labels."""
    place = {study: s for s, study in enumerate(test.rows.studies)}
    rows = test.rows.select(np.array([place[study] for study in said.studies], dtype=np.int64))
    return table(said.score_NP, rows, points=points, condition="image", protocol="A", unit="image")


def _gains(
    config: EvaluateConfig, test: Studies, scores: dict[Condition, Scores], pathologies: Sequence[str]
) -> tuple[Gain, ...]:
    common_S = test.complete_S
    if not common_S.any():
        return ()
    common = {condition: said.score_NP[common_S] for condition, said in scores.items()}
    return gains_of(common, test.rows.select(common_S), pathologies=pathologies, config=config)


def _golden(
    config: EvaluateConfig, test: Studies, said: Scores, points: dict[Condition, dict[str, OperatingPoint]]
) -> tuple[GoldenStudy, ...]:
    """Studies spread over what differs: number of films, text or none, age known or not.

    Each is judged as whoever asks about it is: by the operating points of the condition that fits what it has.
    """
    kinds = list(zip(test.num_images_S, test.has_text_S, test.has_age_S, strict=True))
    order = sorted(range(len(test)), key=lambda s: tuple(map(int, kinds[s])))
    chosen = np.linspace(0, len(order) - 1, min(config.num_golden, len(test))).round().astype(int)
    golden = []
    has_metadata_S = _has_metadata(test)
    for s in (order[i] for i in chosen):
        inputs = {"films": bool(test.num_images_S[s]), "text": bool(test.has_text_S[s])}
        fitting = points[fitting_condition(**inputs, metadata=bool(has_metadata_S[s]))]
        probabilities = {
            name: float(calibrate(said.score_NP[s, p], point.calibration))
            for p, (name, point) in enumerate(fitting.items())
        }
        where = {"shard": test.shards[s], "row": int(test.first_row_S[s]), "num_images": int(test.num_images_S[s])}
        golden.append(GoldenStudy(**where, probabilities=probabilities))
    return tuple(golden)


def _has_metadata(test: Studies) -> npt.NDArray[np.bool_]:
    """There is an age, a sex or a view that the model knows (S,)."""
    known_S = test.has_age_S.copy()
    for values in filter(None, (test.traits.get("sex"), test.traits.get("view"))):
        known_S |= np.array([value is not None for value in values], dtype=bool)
    return known_S


def predictions_table(
    rows: Rows,
    scores: dict[Condition, Scores],
    points: dict[Condition, dict[str, OperatingPoint]],
    *,
    pathologies: Sequence[str],
) -> pa.Table:
    """Scores, probabilities and labels of studies under every condition, as report.write_predictions documents."""
    tables = []
    for condition, said in scores.items():
        columns: dict[str, Sequence[object] | npt.NDArray[np.generic] | pa.Array] = {
            "study_id": rows.studies,
            "patient_id": rows.patients,
            "condition": [condition] * len(rows.studies),
            "labeled": rows.labeled_N,
        }
        for p, name in enumerate(pathologies):
            states_S, calibration = rows.states_NP[:, p], points[condition][name].calibration
            columns[f"score/{name}"] = said.score_NP[:, p]
            columns[f"probability/{name}"] = calibrate(said.score_NP[:, p], calibration)
            columns[f"uncertain/{name}"] = said.uncertain_NP[:, p]
            columns[f"label/{name}"] = pa.array(states_S, mask=states_S == BLANK)
        tables.append(pa.table(columns))
    return pa.concat_tables(tables)
