"""Scores and comparisons of tables that any program may have written."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from components.cxr.errors import UserError
from components.cxr.operating_points import OperatingPoint, OperatingPoints, write_operating_points
from components.cxr.storage.storage import open_storage
from components.evaluate.score_file import compared, scored
from components.evaluate.scored_file import read_scored

REPOSITORY = Path(__file__).parents[3]
NAMES = ("Edema", "Fracture")
RNG = np.random.default_rng(4)
LABEL = (RNG.random((120, 2)) < 0.4).astype(int)
SCORE = RNG.normal(size=(120, 2)) + LABEL
PATIENTS = [f"p{i // 2}" for i in range(120)]


def write(path: Path, rows: list[dict[str, object]]) -> str:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return str(path)


def wide(score: np.ndarray = SCORE, label: np.ndarray = LABEL, *, mark: str = "_") -> list[dict[str, object]]:
    return [
        {"patient_id": PATIENTS[i], "study_id": f"s{i}"}
        | {f"score{mark}{name}": score[i, p] for p, name in enumerate(NAMES)}
        | {f"label{mark}{name}": label[i, p] for p, name in enumerate(NAMES)}
        for i in range(len(score))
    ]


def command(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "components.evaluate", *words]
    return subprocess.run(
        line, capture_output=True, text=True, cwd=REPOSITORY, check=False, env=os.environ | environment
    )


@pytest.mark.parametrize("mark", ["_", "/"])
def test_a_csv_is_scored_as_scikit_learn_does(tmp_path: Path, mark: str) -> None:
    read = read_scored(write(tmp_path / "a.csv", wide(mark=mark)), condition="all")
    found = scored(read, blank=None, num_bootstrap=200)
    assert list(found["findings"]) == list(NAMES)
    for p, row in enumerate(found["findings"].values()):
        assert row["auroc"] == pytest.approx(roc_auc_score(LABEL[:, p], SCORE[:, p]), abs=1e-12)
        assert row["average_precision"] == pytest.approx(average_precision_score(LABEL[:, p], SCORE[:, p]), abs=1e-12)
        assert row["intervals"]["auroc"][0] < row["auroc"] < row["intervals"]["auroc"][1]
        assert (row["positives"], row["negatives"]) == (LABEL[:, p].sum(), (1 - LABEL[:, p]).sum())
        assert not row["low_support"]
    assert found["mean"]["auroc"] == pytest.approx(np.mean([row["auroc"] for row in found["findings"].values()]))
    assert (found["rows"], found["patients"]) == (120, 60)


def test_one_finding_needs_two_columns_and_ids_may_have_other_names(tmp_path: Path) -> None:
    rows = [{"who": PATIENTS[i], "exam": i, "score": SCORE[i, 0], "label": LABEL[i, 0]} for i in range(120)]
    path = write(tmp_path / "a.csv", rows)
    found = scored(read_scored(path, patient="who", study="exam", condition="all"), blank=None, num_bootstrap=100)
    assert found["findings"]["finding"]["auroc"] == pytest.approx(roc_auc_score(LABEL[:, 0], SCORE[:, 0]))
    with pytest.raises(UserError, match="expected patient_id") as error:
        read_scored(path, study="exam", condition="all")
    assert error.value.code == "missing-column"


def test_blank_and_uncertain_labels_count_as_one_says(tmp_path: Path) -> None:
    label = LABEL.astype(object)
    label[:10, 0], label[10:15, 0] = "", -1
    read = read_scored(write(tmp_path / "a.csv", wide(label=label)), condition="all")
    unknown, negative = (scored(read, blank=blank, num_bootstrap=100) for blank in (None, "negative"))
    kept, zeros = LABEL[15:, 0], np.concatenate([np.zeros(15, int), LABEL[15:, 0]])
    assert unknown["findings"]["Edema"]["unknown"] == 15
    assert unknown["findings"]["Edema"]["auroc"] == pytest.approx(roc_auc_score(kept, SCORE[15:, 0]))
    assert negative["findings"]["Edema"]["unknown"] == 0
    assert negative["findings"]["Edema"]["auroc"] == pytest.approx(roc_auc_score(zeros, SCORE[:, 0]))


def test_predictions_of_an_evaluation_are_scored_as_it_did(tmp_path: Path) -> None:
    """Of one condition, protocol A: blanks of labeled studies count as negative, others not at all."""
    label = LABEL.astype(object)
    label[:10, 0] = None
    label[0, 0] = 1  # of a study that counts as unlabeled
    columns = {"study_id": [f"s{i}" for i in range(120)], "patient_id": PATIENTS, "labeled": np.arange(120) >= 5}
    columns |= {f"label/{name}": pa.array(label[:, p].tolist(), pa.int8()) for p, name in enumerate(NAMES)}
    tables = []
    for condition, sign in (("all", 1.0), ("image", -1.0)):
        scores = {f"score/{name}": sign * SCORE[:, p] for p, name in enumerate(NAMES)}
        tables.append(pa.table({**columns, "condition": [condition] * 120, **scores}))
    path = str(tmp_path / "predictions.parquet")
    pq.write_table(pa.concat_tables(tables), path)
    found = scored(read_scored(path, condition="all"), blank=None, num_bootstrap=100)["findings"]["Edema"]
    truth = np.concatenate([np.zeros(5, int), LABEL[10:, 0]])
    assert found["unknown"] == 5
    assert found["auroc"] == pytest.approx(roc_auc_score(truth, SCORE[5:, 0]))
    other = scored(read_scored(path, condition="image"), blank=None, num_bootstrap=100)["findings"]["Edema"]
    assert other["auroc"] == pytest.approx(1.0 - found["auroc"])
    with pytest.raises(UserError, match="expected all, image"):
        read_scored(path, condition="text")


def parquet(path: Path, label: object, *, patients: object = None) -> str:
    """A table of one finding, `label` and patients as they are given."""
    columns = {"patient_id": PATIENTS if patients is None else patients, "study_id": range(120)}
    pq.write_table(pa.table({**columns, "score": SCORE[:, 0], "label": label}), path)
    return str(path)


KNOWN = [None if i < 20 else int(LABEL[i, 0]) for i in range(120)]


@pytest.mark.parametrize(
    "label",
    [
        pa.array(KNOWN, pa.int8()),
        pa.array(KNOWN, pa.uint8()),
        pa.array(KNOWN, pa.float32()),
        pa.array([np.nan if state is None else state for state in KNOWN]),
        pa.array([None if state is None else bool(state) for state in KNOWN]),
        pa.array([None if state is None else str(state) for state in KNOWN]),
    ],
    ids=["int8", "uint8", "float32", "nan", "bool", "string"],
)
def test_labels_of_a_parquet_file_may_have_any_type_and_missing_ones_are_unknown(
    label: pa.Array, tmp_path: Path
) -> None:
    read = read_scored(parquet(tmp_path / "a.parquet", label), condition="all")
    found = scored(read, blank=None, num_bootstrap=100)["findings"]["finding"]
    assert (found["positives"], found["negatives"]) == (LABEL[20:, 0].sum(), (1 - LABEL[20:, 0]).sum())
    assert found["auroc"] == pytest.approx(roc_auc_score(LABEL[20:, 0], SCORE[20:, 0]), abs=1e-12)


def test_a_column_without_any_label_is_unknown(tmp_path: Path) -> None:
    read = read_scored(parquet(tmp_path / "a.parquet", pa.nulls(120)), condition="all")
    assert set(read.truth("unknown").ravel()) == {-2}


@pytest.mark.parametrize(
    ("value", "found"), [(0.9, "row 21 column label; found 0.9"), (254.0, "found 254"), ("yes", "found string")]
)
def test_a_label_of_a_parquet_file_that_is_no_state_is_one_clear_error(
    value: object, found: str, tmp_path: Path
) -> None:
    label = pa.array([str(state) if isinstance(value, str) else state for state in KNOWN[:20]] + [value] * 100)
    with pytest.raises(UserError, match=found) as error:
        read_scored(parquet(tmp_path / "a.parquet", label), condition="all")
    assert error.value.code == "bad-label"


def test_a_parquet_file_without_rows_is_one_clear_error(tmp_path: Path) -> None:
    file = parquet(tmp_path / "a.parquet", LABEL[:, 0])
    pq.write_table(pq.read_table(file).slice(0, 0), file)
    with pytest.raises(UserError) as error:
        read_scored(file, condition="all")
    assert error.value.code == "empty-table"


def test_a_missing_condition_is_named_beside_rows_without_one(tmp_path: Path) -> None:
    file = parquet(tmp_path / "a.parquet", LABEL[:, 0])
    pq.write_table(pq.read_table(file).append_column("condition", pa.array(["image"] * 119 + [None])), file)
    with pytest.raises(UserError, match="no such condition"):
        read_scored(file, condition="all")


@pytest.mark.parametrize("kind", [pa.bool_(), pa.int8(), pa.float64()])
def test_a_row_of_which_nobody_says_that_it_is_labeled_is_not(kind: pa.DataType, tmp_path: Path) -> None:
    file = parquet(tmp_path / "a.parquet", LABEL[:, 0])
    marks = pa.array([None if row % 3 == 0 else row % 3 == 1 for row in range(120)], pa.bool_())
    pq.write_table(pq.read_table(file).append_column("labeled", marks.cast(kind)), file)
    labeled = read_scored(file, condition="all").labeled_N
    assert labeled is not None
    assert labeled.tolist() == [row % 3 == 1 for row in range(120)]


def test_a_mark_of_what_is_labeled_that_is_no_truth_value_is_one_clear_error(tmp_path: Path) -> None:
    file = parquet(tmp_path / "a.parquet", LABEL[:, 0])
    pq.write_table(pq.read_table(file).append_column("labeled", pa.array(["false"] * 120)), file)
    with pytest.raises(UserError, match="column labeled; found string, expected true or false"):
        read_scored(file, condition="all")


def test_an_id_may_be_the_number_zero_and_a_missing_one_is_an_error(tmp_path: Path) -> None:
    numbers = list(range(120))
    assert read_scored(parquet(tmp_path / "a.parquet", LABEL[:, 0], patients=numbers), condition="all").patients == [
        str(number) for number in numbers
    ]
    decimals = pa.array(list(map(float, numbers)))
    assert read_scored(parquet(tmp_path / "a.parquet", LABEL[:, 0], patients=decimals), condition="all").patients == [
        str(number) for number in numbers
    ]
    for missing in (None, np.nan):
        patients = pa.array([missing, *map(float, numbers[1:])])
        with pytest.raises(UserError, match="column patient_id") as error:
            read_scored(parquet(tmp_path / "a.parquet", LABEL[:, 0], patients=patients), condition="all")
        assert error.value.code == "missing-id"


def test_answers_need_a_threshold_and_calibration_needs_probabilities(tmp_path: Path) -> None:
    """Scores between 0 and 1 are probabilities; others have ranks alone."""
    raw = scored(read_scored(write(tmp_path / "a.csv", wide()), condition="all"), num_bootstrap=100)
    edema = raw["findings"]["Edema"]
    assert (edema["recall"], edema["brier"], edema["threshold"]) == (None, None, None)
    assert edema["sensitivity_at_90_specificity"] is not None
    probability = 1 / (1 + np.exp(-SCORE))
    read = read_scored(write(tmp_path / "b.csv", wide(probability)), condition="all")
    edema = scored(read, threshold=0.5, num_bootstrap=100)["findings"]["Edema"]
    positive, said = LABEL[:, 0] == 1, probability[:, 0]
    assert edema["brier"] == pytest.approx(((said - positive) ** 2).mean())
    assert edema["recall"] == pytest.approx((said[positive] >= 0.5).mean())
    assert edema["intervals"]["recall"][0] < edema["recall"] < edema["intervals"]["recall"][1]
    cut = scored(read_scored(write(tmp_path / "a.csv", wide()), condition="all"), threshold=0.0, num_bootstrap=100)
    assert cut["findings"]["Edema"]["recall"] == edema["recall"], "of scores that are none, the threshold is a score"


def test_an_evaluations_thresholds_lie_beside_its_predictions(tmp_path: Path) -> None:
    point = OperatingPoint(threshold=0.6)
    points = OperatingPoints(bundle_hash="b", conditions={"all": dict.fromkeys(NAMES, point)})
    write_operating_points(open_storage(tmp_path), points)
    columns = {"study_id": [f"s{i}" for i in range(120)], "patient_id": PATIENTS, "condition": ["all"] * 120}
    probability = 1 / (1 + np.exp(1 - SCORE))
    for p, name in enumerate(NAMES):
        columns |= {
            f"score/{name}": SCORE[:, p],
            f"probability/{name}": probability[:, p],
            f"label/{name}": LABEL[:, p],
        }
    pq.write_table(pa.table(columns), tmp_path / "predictions.parquet")
    read = read_scored(str(tmp_path / "predictions.parquet"), condition="all")
    found = scored(read, num_bootstrap=100)["findings"]["Fracture"]
    positive = LABEL[:, 1] == 1
    assert found["threshold"] == 0.6
    assert found["recall"] == pytest.approx((probability[positive, 1] >= 0.6).mean())
    assert found["brier"] == pytest.approx(((probability[:, 1] - positive) ** 2).mean())


@pytest.mark.parametrize(
    ("edit", "code"),
    [
        ({"score_Edema": "high"}, "bad-score"),
        ({"score_Edema": "nan"}, "bad-score"),
        ({"label_Edema": "yes"}, "bad-label"),
        ({"study_id": "s4"}, "duplicate-study"),
        ({"patient_id": ""}, "missing-id"),
    ],
)
def test_a_bad_cell_is_one_clear_error(tmp_path: Path, edit: dict[str, object], code: str) -> None:
    rows = wide()
    rows[3] |= edit
    with pytest.raises(UserError) as error:
        read_scored(write(tmp_path / "a.csv", rows), condition="all")
    assert error.value.code == code
    assert "p1" not in str(error.value)


def test_a_table_without_scores_says_what_it_needs(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="expected score/Edema and label/Edema") as error:
        read_scored(write(tmp_path / "a.csv", [{"patient_id": 1, "study_id": 2, "score_Edema": 0.5}]), condition="all")
    assert error.value.code == "no-score-column"
    with pytest.raises(UserError) as error:
        read_scored(str(tmp_path / "no.parquet"), condition="all")
    assert error.value.code == "missing-table"


def test_a_comparison_is_paired_by_study_whatever_the_order(tmp_path: Path) -> None:
    better = SCORE + np.array([2.0, 0.0]) * LABEL
    first = read_scored(write(tmp_path / "a.csv", wide(better)), condition="all")
    second = read_scored(write(tmp_path / "b.csv", wide()[::-1]), condition="all")
    found = compared(first, second, blank=None, num_bootstrap=200)
    edema, fracture = found["findings"]["Edema"], found["findings"]["Fracture"]
    gain = roc_auc_score(LABEL[:, 0], better[:, 0]) - roc_auc_score(LABEL[:, 0], SCORE[:, 0])
    assert edema["difference"] == pytest.approx(gain)
    assert edema["ci"][0] > 0
    assert edema["p_value"] < 0.001
    assert (fracture["difference"], fracture["p_value"]) == (0.0, 1.0)
    assert found["mean"]["difference"] == pytest.approx(gain / 2)
    assert found["mean"]["ci"][0] > 0


def test_what_one_table_says_is_labeled_holds_for_both_whichever_comes_first(tmp_path: Path) -> None:
    """A CSV has no such column: its default would be another, and rows that nobody labeled would be negative."""
    labels = [None if i % 3 == 0 else int(LABEL[i, 0]) for i in range(120)]
    labeled = [i % 6 != 0 for i in range(120)]
    ids: dict[str, object] = {"patient_id": PATIENTS, "study_id": [f"s{i}" for i in range(120)]}
    scores = {"score/Edema": SCORE[:, 0], "label/Edema": pa.array(labels, pa.int8())}
    pq.write_table(pa.table(ids | {"labeled": labeled} | scores), tmp_path / "a.parquet")
    pq.write_table(pa.table(ids | {"labeled": [True] * 120} | scores), tmp_path / "c.parquet")
    rows: list[dict[str, object]] = [
        {"patient_id": PATIENTS[i], "study_id": f"s{i}", "score_Edema": SCORE[i, 1], "label_Edema": labels[i]}
        for i in reversed(range(120))
    ]
    one = read_scored(str(tmp_path / "a.parquet"), condition="all")
    other = read_scored(write(tmp_path / "b.csv", rows), condition="all")
    found, turned = (compared(*pair, blank=None, num_bootstrap=100) for pair in ((one, other), (other, one)))
    truth, known = [label == 1 for label in labels], np.array(labeled)
    aucs = [roc_auc_score(np.array(truth)[known], SCORE[known, p]) for p in (0, 1)]
    assert found["findings"]["Edema"]["difference"] == pytest.approx(aucs[0] - aucs[1])
    assert turned["findings"]["Edema"]["difference"] == pytest.approx(aucs[1] - aucs[0])
    assert found["blank"] == turned["blank"] == "negative"
    with pytest.raises(UserError, match="found 20 of 120 studies"):
        compared(one, read_scored(str(tmp_path / "c.parquet"), condition="all"), blank=None, num_bootstrap=100)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda rows: rows[:-1], "other-studies"),
        (lambda rows: [row | {"label_Edema": 1 - row["label_Edema"]} for row in rows], "other-labels"),
        (lambda rows: [{k: v for k, v in row.items() if "Edema" not in k} for row in rows], "other-findings"),
    ],
)
def test_tables_of_other_rows_are_not_compared(tmp_path: Path, change: object, code: str) -> None:
    assert callable(change)
    first = read_scored(write(tmp_path / "a.csv", wide()), condition="all")
    second = read_scored(write(tmp_path / "b.csv", change(wide())), condition="all")
    with pytest.raises(UserError) as error:
        compared(first, second, blank=None, num_bootstrap=100)
    assert error.value.code == code


def test_the_commands_print_tables_and_write_json(tmp_path: Path) -> None:
    first = write(tmp_path / "a.csv", wide())
    second = write(tmp_path / "b.csv", wide(SCORE[:, ::-1].copy()))
    done = command("score", first, "--json", str(tmp_path / "new" / "a.json"))
    assert done.returncode == 0, done.stderr
    auroc = json.loads((tmp_path / "new" / "a.json").read_text())["findings"]["Edema"]["auroc"]
    assert f"{auroc:.3f}" in done.stdout
    assert "120 rows of 60 patients" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 100
    done = command("score", first, "--metric", "recall", "--metric", "ppv", "--threshold", "0")
    findings = scored(read_scored(first, condition="all"), threshold=0.0)["findings"]
    assert f"{findings['Edema']['recall']:.3f}" in done.stdout
    metrics = ("recall", "specificity", "ppv", "npv", "f1")
    done = command("score", first, *(word for name in metrics for word in ("--metric", name)), "--threshold", "0")
    assert "…" not in done.stdout, "no number is cut, however many columns there are"
    assert all(f"{findings['Fracture'][name]:.3f}" in done.stdout for name in metrics)
    assert "Recall" in done.stdout
    assert "PPV" in done.stdout
    done = command("compare", first, second)
    assert done.returncode == 0, done.stderr
    assert "First minus second" in done.stdout
    renamed = [{key.replace("Edema", "mass [left]"): value for key, value in row.items()} for row in wide()]
    done = command("score", write(tmp_path / "c.csv", renamed))
    assert "mass [left] " in done.stdout, "a name is no markup"
    done = command("score", str(tmp_path / "none.csv"))
    assert done.returncode == 2
    assert done.stderr == f"error: table is missing: {tmp_path / 'none.csv'}  [missing-table]\n"


def test_a_terminal_that_has_no_dash_gets_the_table(tmp_path: Path) -> None:
    file = write(tmp_path / "a.csv", [row | {"label_Edema": 1} for row in wide()])
    done = command("score", file, PYTHONIOENCODING="latin-1")
    assert done.returncode == 0, done.stderr
    assert "Edema * " in done.stdout
