"""A second reader's table joined by hashed ids, and what it refuses."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.cxr.errors import UserError
from components.cxr.ids import IdKey, hash_id
from components.cxr.labels import BLANK, PATHOLOGIES
from components.cxr.storage.storage import open_storage
from components.evaluate.truth_table import SecondTruth, read_second_truth

KEY = IdKey(b"a key of this test only")
NAMES = ("No Finding", "Lung Opacity", "Edema")


def write(tmp_path: Path, text: str) -> str:
    path = tmp_path / "test-set-labeled.csv"
    path.write_text(text)
    return str(path)


def read(tmp_path: Path, text: str, pathologies: Sequence[str] = NAMES, **options: Any) -> SecondTruth:
    return read_second_truth(write(tmp_path, text), pathologies=pathologies, key=KEY, **options)


def refusal(tmp_path: Path, text: str, **options: Any) -> str:
    with pytest.raises(UserError) as caught:
        read(tmp_path, text, **options)
    assert "\n" not in str(caught.value)
    assert "50414267" not in str(caught.value)
    return str(caught.value)


def test_states_by_hash_in_the_order_asked_for(tmp_path: Path) -> None:
    header = "study_id,Airspace Opacity,No Finding,Edema,reader\n"
    truth = read(tmp_path, header + "50414267,1.0,-1,,someone\n50000001,0,1,-1.0,\n")
    first, second = hash_id("study", "50414267", KEY), hash_id("study", "50000001", KEY)
    assert truth.states == {first: (-1, 1, None), second: (1, 0, -1)}
    assert (truth.pathologies, truth.missing) == (NAMES, ())
    states, known = truth.states_of([second, "other", first])
    assert states.tolist() == [[1, 0, -1], [BLANK] * 3, [-1, 1, BLANK]]
    assert states.dtype == np.int8
    assert known.tolist() == [True, False, True]
    assert truth.states_of([])[0].shape == (0, 3)


def test_all_fourteen_as_physionet_publishes_them(tmp_path: Path) -> None:
    """Alphabetical, with Airspace Opacity in place of Lung Opacity, and no subject_id."""
    header = sorted("Airspace Opacity" if name == "Lung Opacity" else name for name in PATHOLOGIES)
    truth = read(tmp_path, ",".join(["study_id", *header]) + "\n50414267" + ",0.0" * 13 + ",1.0\n", PATHOLOGIES)
    assert truth.missing == ()
    (states,) = truth.states.values()
    assert states == tuple(int(name == header[-1]) for name in PATHOLOGIES)


def test_a_pathology_that_the_table_lacks_is_named(tmp_path: Path) -> None:
    truth = read(tmp_path, "study_id,Edema\n1,1\n")
    assert truth.missing == ("No Finding", "Lung Opacity")
    assert list(truth.states.values()) == [(None, None, 1)]


def test_a_pathology_of_the_set_may_have_an_aliass_name(tmp_path: Path) -> None:
    names = ("Airspace Opacity", "Lung Opacity")
    truth = read(tmp_path, "study_id,Lung Opacity,Airspace Opacity\n1,1,0\n", names)
    assert list(truth.states.values()) == [(0, 1)]


def test_a_missing_table_is_looked_for_where_it_is_named() -> None:
    with pytest.raises(UserError, match=r"table is missing: /nowhere/t\.csv\. Check evaluate\.second_truth\.table\."):
        read_second_truth("/nowhere/t.csv", pathologies=["Edema"], key=KEY)


def test_from_a_bucket(tmp_path: Path, gcs_bucket: str) -> None:
    open_storage(gcs_bucket).write("labels/t.csv", b"study_id,Edema\n1,1\n")
    truth = read_second_truth(f"{gcs_bucket}/labels/t.csv", pathologies=["Edema"], key=KEY)
    assert truth.states == {hash_id("study", "1", KEY): (1,)}


def test_the_key_comes_from_the_environment_and_must_be_the_data_sets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = write(tmp_path, "study_id,Edema\n1,1\n")
    monkeypatch.setenv("CXRFLOW_ID_KEY", "a key of this test only")
    truth = read_second_truth(table, pathologies=["Edema"], id_key_fingerprint=KEY.fingerprint)
    assert set(truth.states) == {hash_id("study", "1", KEY)}
    monkeypatch.delenv("CXRFLOW_ID_KEY")
    with pytest.raises(UserError, match=r"another key: .*CXRFLOW_ID_KEY") as caught:
        read_second_truth(table, pathologies=["Edema"], id_key_fingerprint=KEY.fingerprint)
    assert f"found fingerprint {IdKey(None).fingerprint}, expected {KEY.fingerprint}" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("study_id,Edema\n1,0\n50414267,2\n", ["bad label", "labeled.csv line 3 column Edema", "found '2'"]),
        ("study_id,Edema\n50414267,1\n7,0\n50414267,0\n", ["listed twice", "lines 2 and 4 column study_id"]),
        ("study_id,Edema\n1,1\n,0\n", ["study has no id", "line 3 column study_id"]),
        ("study,Edema\n1,1\n", ["lacks a column", "expected study_id"]),
        ("study_id,Edma\n1,1\n", ["almost a pathology", "found Edma, expected Edema"]),
        ("study_id,Edema,lung_opacity\n1,1,1\n", ["almost a pathology", "found lung_opacity, expected Lung Opacity"]),
        ("study_id,Mass\n1,1\n", ["no label column", "found study_id, Mass", "No Finding, Lung Opacity, Edema"]),
        ("study_id,Lung Opacity,Airspace Opacity\n1,1,1\n", ["pathology twice", "Lung Opacity and Airspace Opacity"]),
        ("study_id,Edema\n1\n", ["broken row", "line 2"]),
    ],
)
def test_refusals(tmp_path: Path, text: str, parts: list[str]) -> None:
    message = refusal(tmp_path, text)
    for part in parts:
        assert part in message


@pytest.mark.parametrize("prefix", ["s", "S"])
def test_a_study_is_found_with_and_without_the_letter_of_its_folder(tmp_path: Path, prefix: str) -> None:
    truth = read(tmp_path, f"study_id,Edema\n{prefix}50414267,1\nsx,0\n", pathologies=["Edema"])
    hashes = [hash_id("study", name, KEY) for name in ("50414267", f"{prefix}50414267", "x")]
    assert truth.states_of(hashes)[1].tolist() == [True, True, False]
    assert truth.num_studies == 2
