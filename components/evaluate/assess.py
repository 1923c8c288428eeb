"""Everything that needs the model: operating points from validation, predictions and tables on test, golden studies.

Shape letters: S studies, P pathologies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from components.cxr.bundle import Bundle, OperatingPoint, OperatingPoints
from components.cxr.labels import BLANK, truth_of
from components.cxr.model.dataset import StudyDataset
from components.cxr.model.predictor import Logits
from components.cxr.report import CONDITIONS, Condition, GoldenStudy, Protocol, Report, Score
from components.cxr.shards import LoadedManifest
from components.evaluate.calibration import DEFAULT_THRESHOLD, calibrate, operating_points
from components.evaluate.config import EvaluateConfig
from components.evaluate.scoring import (
    Pass,
    films_alone,
    has_every_modality,
    run_model,
    score_rows,
    study_rows,
)
from components.evaluate.second_truth import second_truth_of
from components.evaluate.truth_table import SecondTruth

__all__ = ["Assessment", "assess"]

PROTOCOLS: tuple[Protocol, ...] = ("A", "B")


class Assessment(NamedTuple):
    """What one bundle does on one data set."""

    report: Report
    points: OperatingPoints
    predictions: pa.Table
    """As write_predictions documents."""


def assess(
    config: EvaluateConfig,
    bundle: Bundle,
    manifest: LoadedManifest,
    *,
    truth: SecondTruth | None = None,
    run_id: str | None,
) -> Assessment:
    """Run the model once per condition on validation and test studies, and once on single films, and score it.

    Args:
        truth: a second table of labels to score against as well.
        run_id: of the MLflow run that the report names.
    """
    info, pathologies = bundle.info, bundle.info.pathologies
    test = StudyDataset(manifest, splits=["test"], text=info.text)
    validation = StudyDataset(manifest, splits=["validate"], text=info.text)
    films, film_rows = films_alone(test)
    validated = CONDITIONS if len(validation) else ()
    passes = [Pass(test, condition) for condition in CONDITIONS] + [Pass(films, "image")]
    found = run_model(bundle, passes + [Pass(validation, condition) for condition in validated], config=config)
    on_test = dict(zip(CONDITIONS, found, strict=False))
    on_films, on_validation = (
        found[len(CONDITIONS)],
        dict(zip(validated, found[len(CONDITIONS) + 1 :], strict=True)),
    )

    truth_SP = truth_of(validation.states_SP, validation.labeled_S, protocol="A")
    points: dict[Condition, dict[str, OperatingPoint]] = {
        condition: operating_points(said.score_SP, truth_SP, pathologies=pathologies, rule=config.threshold)
        for condition, said in on_validation.items()
    }
    unfitted = {name: OperatingPoint(threshold=DEFAULT_THRESHOLD) for name in pathologies}
    points = {condition: points.get(condition, unfitted) for condition in CONDITIONS}
    table = partial(score_rows, pathologies=pathologies, config=config)
    by_image = table(
        on_films.score_SP, film_rows, points=points["image"], condition="image", protocol="A", unit="image"
    )
    beside = second_truth_of(config, truth, test) if truth is not None else None
    by_truth = beside.scores(table, points, on_test) if beside else ()
    report = Report(
        bundle_hash=bundle.hash,
        manifest_hash=manifest.hash,
        mlflow_run_id=run_id,
        leaky=info.leaky,
        label_policy=info.label_policy,
        threshold_rule=config.threshold,
        scores=(*_by_study(table, test, points, on_test), by_image, *by_truth),
        golden=_golden(config, test, on_test["all"], points["all"]),
        num_bootstrap=config.num_bootstrap,
        second_truth=beside.report if beside else None,
    )
    return Assessment(report, OperatingPoints(conditions=points), _predictions(test, on_test, points))


def _by_study(
    table: Callable[..., Score],
    test: StudyDataset,
    points: dict[Condition, dict[str, OperatingPoint]],
    logits: dict[Condition, Logits],
) -> Iterator[Score]:
    """Every condition, protocol and subset; the headline first."""
    rows, common_S = study_rows(test), has_every_modality(test)
    common = rows.select(common_S)
    for condition, said in logits.items():
        for protocol in PROTOCOLS:
            keys = {"points": points[condition], "condition": condition, "protocol": protocol}
            yield table(said.score_SP, rows, **keys)
            if common_S.any():
                yield table(said.score_SP[common_S], common, **keys, subset="common")


def _golden(
    config: EvaluateConfig, test: StudyDataset, logits: Logits, points: dict[str, OperatingPoint]
) -> tuple[GoldenStudy, ...]:
    """Studies spread over what differs: number of films, text or none, age known or not."""
    studies = [test[s] for s in range(len(test))]
    order = sorted(range(len(test)), key=lambda s: _kind(test, s))
    chosen = np.linspace(0, len(order) - 1, min(config.num_golden, len(studies))).round().astype(int)
    golden = []
    for s in (order[i] for i in chosen):
        place = test.places[s]
        said = {
            name: float(calibrate(logits.score_SP[s, p], point.calibration))
            for p, (name, point) in enumerate(points.items())
        }
        golden.append(GoldenStudy(shard=place.shard, row=place.row, num_images=place.num_images, probabilities=said))
    return tuple(golden)


def _kind(test: StudyDataset, s: int) -> tuple[int, bool, bool]:
    study = test[s]
    return len(study.films), bool(study.text.strip()), study.age_years is not None


def _predictions(
    test: StudyDataset, logits: dict[Condition, Logits], points: dict[Condition, dict[str, OperatingPoint]]
) -> pa.Table:
    tables = []
    for condition, said in logits.items():
        columns: dict[str, Sequence[object] | npt.NDArray[np.generic] | pa.Array] = {
            "study_id": test.study_ids,
            "patient_id": test.patient_ids,
            "condition": [condition] * len(test),
            "labeled": test.labeled_S,
        }
        for p, (name, point) in enumerate(points[condition].items()):
            states_S = test.states_SP[:, p]
            columns[f"score/{name}"] = said.score_SP[:, p]
            columns[f"probability/{name}"] = calibrate(said.score_SP[:, p], point.calibration)
            columns[f"uncertain/{name}"] = said.uncertain_SP[:, p]
            columns[f"label/{name}"] = pa.array(states_S, mask=states_S == BLANK)
        tables.append(pa.table(columns))
    return pa.concat_tables(tables)
