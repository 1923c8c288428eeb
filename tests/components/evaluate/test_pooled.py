from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import auc, roc_auc_score

from components.cxr.report import Report
from components.evaluate.pooled import MAX_POINTS, pooled


def predictions(*, num_studies: int, seed: int = 0, **columns: Any) -> pa.Table:
    rng = np.random.default_rng(seed)
    labels = rng.choice([1, 0, -1, None], num_studies, p=[0.3, 0.4, 0.1, 0.2])
    table = {
        "condition": ["all"] * num_studies,
        "labeled": rng.random(num_studies) < 0.8,
        "label/Edema": pa.array(labels.tolist(), pa.int8()),
        "probability/Edema": np.clip((labels == 1) * 0.3 + rng.random(num_studies) * 0.7, 0, 1),
        "label/Fracture": pa.array([0] * num_studies, pa.int8()),
        "probability/Fracture": np.full(num_studies, 0.9),
    }
    return pa.table(table | columns)


def test_counts_are_the_studies_at_the_threshold(report: Report) -> None:
    table = pa.table(
        {
            "condition": ["all"] * 5 + ["image"],
            "labeled": [True, True, True, True, False, True],
            "label/Edema": pa.array([1, 0, -1, None, 1, 1], pa.int8()),
            "probability/Edema": [0.4, 0.5, 0.2, 0.1, 0.9, 0.9],
        }
    )
    found = pooled(report, table)  # threshold 0.4; Fracture, whose AUROC is undefined, is left out
    assert found.confusion == [[2, 1], [0, 1]]
    assert (found.false_rates[-1], found.true_rates[-1]) == (1.0, 1.0)


def test_the_curve_has_the_area_of_all_points_and_json_can_hold_it(report: Report) -> None:
    table = predictions(num_studies=5000)
    found = pooled(report, table)
    assert MAX_POINTS / 2 < len(found.false_rates) <= MAX_POINTS
    assert len(found.false_rates) == len(found.true_rates) == len(found.thresholds)
    assert found.thresholds == sorted(found.thresholds, reverse=True)
    assert found.thresholds[0] == 1.0
    rows = table.filter(table["labeled"])
    truth = [label == 1 for label in rows["label/Edema"].to_pylist()]
    expected = roc_auc_score(truth, rows["probability/Edema"].to_numpy())
    assert auc(found.false_rates, found.true_rates) == pytest.approx(expected, abs=1e-3)
    assert json.loads(json.dumps(found, allow_nan=False))


def test_without_a_positive_there_is_no_curve_but_counts(report: Report) -> None:
    table = predictions(num_studies=20, **{"label/Edema": pa.array([0] * 20, pa.int8()), "labeled": [True] * 20})
    found = pooled(report, table)
    assert found.false_rates == found.true_rates == found.thresholds == []
    assert found.confusion[1] == [0, 0]
    assert sum(found.confusion[0]) == 20
