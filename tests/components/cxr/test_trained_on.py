"""What a bundle knows of its training patients: enough to find them again, and no id."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from components.cxr.trained_on import TrainedOn, load_trained_on, save_trained_on, trained_on

KEY = "a" * 64
RNG = np.random.default_rng(0)
FILMS = [RNG.integers(0, 256, (8, 8), dtype=np.uint8) for _ in range(4)]
PATIENTS = [f"{i:020x}" for i in range(4)]
FOUND = trained_on(PATIENTS[:2], FILMS[:2], manifest_hash=KEY)


def _knows(found: TrainedOn, patients: list[str], films: list[list[np.ndarray]], *, same: bool) -> list[bool]:
    return found.knows(patients, films, manifest_hash=KEY, same_id_key=same).tolist()


def test_under_the_same_key_patients_are_compared() -> None:
    assert _knows(FOUND, [PATIENTS[2], PATIENTS[0]], [[FILMS[0]], [FILMS[3]]], same=True) == [False, True]


def test_under_another_key_films_are_and_all_studies_of_their_patient_count() -> None:
    patients = ["x", "y", "x"]
    assert _knows(FOUND, patients, [[FILMS[2]], [FILMS[3]], [FILMS[3], FILMS[1]]], same=False) == [True, False, True]


def test_one_pixel_makes_another_film_and_a_blank_film_proves_nothing() -> None:
    blank = np.zeros((8, 8), np.uint8)
    found = trained_on([], [FILMS[0], blank], manifest_hash=KEY)
    changed = FILMS[0].copy()
    changed[0, 0] ^= 1
    assert _knows(found, ["x", "y", "z"], [[changed], [blank], [FILMS[0]]], same=False) == [False, False, True]


def test_the_file_comes_back_holds_no_id_and_is_small(tmp_path: Path) -> None:
    many = trained_on([f"{i:020x}" for i in range(10_000)], FILMS, manifest_hash=KEY)
    save_trained_on([many, FOUND], tmp_path / "file")
    found, before = load_trained_on(tmp_path / "file", num_trainings=2)
    assert [values.tolist() for values in before] == [values.tolist() for values in FOUND]
    for one, other in zip(found, many, strict=True):
        assert one.dtype == np.uint64
        assert np.array_equal(one, other)
        assert (np.diff(one.astype(object)) > 0).all()
    data = (tmp_path / "file").read_bytes()
    assert len(data) < 8 * 10_008 + 500
    for patient in PATIENTS:
        assert patient.encode() not in data
        assert bytes.fromhex(patient)[:8] not in data or patient == PATIENTS[0]


def test_two_trainings_cannot_be_joined() -> None:
    other = trained_on(PATIENTS[:2], FILMS[:2], manifest_hash="b" * 64)
    assert not set(other.patients.tolist()) & set(FOUND.patients.tolist())
    assert not set(other.films.tolist()) & set(FOUND.films.tolist())
