"""A report made up from numbers, for what reads reports, and a root with an evaluated model."""

from __future__ import annotations

import pytest

from components.cxr.labels import LabelPolicy
from components.cxr.report import CONDITIONS, Interval, MeanScore, PathologyScore, Report, Score, ThresholdRule
from components.cxr.shards import LoadedManifest
from components.cxr.storage.storage import Storage
from tests.components.evaluate.world import World, evaluated_world


@pytest.fixture
def report() -> Report:
    """Two pathologies, Fracture undefined; every condition on all studies, and `all` on the common subset too."""
    scores = [_score(condition=condition, auroc=0.9 - 0.1 * i) for i, condition in enumerate(CONDITIONS)]
    common = _score(condition="all", auroc=0.85).model_copy(update={"subset": "common", "num_studies": 30})
    return Report(
        bundle_hash="b" * 64,
        manifest_hash="m" * 64,
        operating_points_hash="p" * 16,
        mlflow_run_id="r" * 32,
        label_policy=LabelPolicy(),
        threshold_rule=ThresholdRule(),
        scores=(*scores, common),
        gains=(),
        golden=(),
        num_bootstrap=1000,
    )


@pytest.fixture(scope="module")
def world(tiny_data: LoadedManifest, fitted_bundle: Storage, tmp_path_factory: pytest.TempPathFactory) -> World:
    """Each file's own, as tests evaluate in it again."""
    return evaluated_world(tmp_path_factory.mktemp("root"), data=tiny_data, trained=fitted_bundle)


def _score(*, condition: str, auroc: float) -> Score:
    numbers = {
        "accuracy": 0.8,
        "precision": 0.7,
        "recall": 0.6,
        "f1": 0.65,
        "ece": 0.04,
        "average_precision": 0.75,
    }
    ci = Interval(low=auroc - 0.05, high=auroc + 0.05)
    edema = PathologyScore(
        auroc=auroc,
        threshold=0.4,
        positives=12,
        negatives=1027,
        unknown=1,
        positive_patients=11,
        negative_patients=515,
        intervals={"auroc": ci},
        **numbers,
    )
    fracture = PathologyScore(
        accuracy=1.0,
        ece=0.01,
        threshold=0.5,
        positives=0,
        negatives=1039,
        unknown=1,
        positive_patients=0,
        negative_patients=520,
        resamples={"auroc": 0},
    )
    return Score(
        condition=condition,
        protocol="A",
        unit="study",
        subset="all",
        num_patients=520,
        num_studies=1040,
        num_rows=1040,
        pathologies={"Edema": edema, "Fracture": fracture},
        mean=MeanScore(pathologies=("Edema",), auroc=auroc, intervals={"auroc": ci}, **numbers),
    )
