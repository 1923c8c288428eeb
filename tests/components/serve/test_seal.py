"""A deployed copy is served as it was sealed or not at all: whatever was done to it is one line that names the file."""

from __future__ import annotations

import json
import multiprocessing
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from components.cxr import bundle as loading
from components.cxr.bundle_info import describe
from components.cxr.errors import UserError
from components.cxr.operating_points import OperatingPoints, write_operating_points
from components.cxr.report import REPORT
from components.cxr.seal import SEAL, write_seal
from components.cxr.storage.storage import Storage, open_storage
from components.serve.copies import check_copy, make_copy
from components.serve.predictor import StudyPredictor

if TYPE_CHECKING:
    from tests.components.serve.conftest import World

Edit = Callable[[Path], None]


def _json(name: str, change: Callable[[dict[str, Any]], None]) -> Edit:
    def edit(folder: Path) -> None:
        values = json.loads((folder / name).read_text())
        change(values)
        (folder / name).write_text(json.dumps(values))

    return edit


def _flip(name: str) -> Edit:
    def edit(folder: Path) -> None:
        data = bytearray((folder / name).read_bytes())
        data[len(data) // 2] ^= 1
        (folder / name).write_bytes(data)

    return edit


def _other_weights(folder: Path) -> None:
    found = load_file(folder / "weights.safetensors")
    save_file({name: np.asarray(value + 1) for name, value in found.items()}, folder / "weights.safetensors")


def _sealed_again(folder: Path) -> None:
    _other_weights(folder)
    copy, files = open_storage(folder), describe(open_storage(folder))
    values = json.loads((folder / "operating_points.json").read_text())
    write_operating_points(copy, OperatingPoints(**values | {"bundle_hash": files.hash}))
    write_seal(copy, files.files, more=(REPORT,))


def _swap(values: dict[str, Any]) -> None:
    first, second, *rest = values["pathologies"]
    values["pathologies"] = [second, first, *rest]


def _slope(values: dict[str, Any]) -> None:
    values["conditions"]["all"]["Edema"]["calibration"]["slope"] = -1.0


CHANGED = "a file is not the one that was sealed"
TAMPERED: dict[str, tuple[Edit, str, str]] = {
    "a flipped byte of the weights": (_flip("weights.safetensors"), CHANGED, "weights.safetensors"),
    "other weights": (_other_weights, CHANGED, "weights.safetensors"),
    "two names swapped": (_json("bundle.json", _swap), CHANGED, "bundle.json"),
    "another version": (_json("bundle.json", lambda v: v.update(schema_version=99)), CHANGED, "bundle.json"),
    "a negative slope": (_json("operating_points.json", _slope), CHANGED, "operating_points.json"),
    "no condition image": (
        _json("operating_points.json", lambda v: v["conditions"].pop("image")), CHANGED, "operating_points.json",
    ),
    "no operating points": (lambda f: (f / "operating_points.json").unlink(), CHANGED, "operating_points.json"),
    "another model card": (_flip("MODEL_CARD.md"), CHANGED, "MODEL_CARD.md"),
    "another report": (_flip("report.json"), CHANGED, "report.json"),
    "no patients": (lambda f: (f / "trained_on.safetensors").unlink(), CHANGED, "trained_on.safetensors"),
    "a damaged tokenizer": (_flip("tokenizer/tokenizer.json"), CHANGED, "tokenizer/tokenizer.json"),
    "no tokenizer": (lambda f: (f / "tokenizer/tokenizer.json").unlink(), CHANGED, "tokenizer/tokenizer.json"),
    "more of a tokenizer": (
        lambda f: (f / "tokenizer/added_tokens.json").write_text('{"edema": 1}') and None, CHANGED, "added_tokens.json",
    ),
    "no weights": (lambda f: (f / "weights.safetensors").unlink(), CHANGED, "weights.safetensors"),
    "a seal of another version": (
        _json(SEAL, lambda v: v.update(schema_version=99)), "another schema version", f"{SEAL}: schema_version",
    ),
    "a damaged seal": (lambda f: (f / SEAL).write_text("{") and None, "file is not JSON", SEAL),
    "no seal": (lambda f: (f / SEAL).unlink(), "no sealed operating points here", SEAL),
    "all of it sealed again": (_sealed_again, "another seal than the deployed one", SEAL),
}  # fmt: skip


@pytest.mark.parametrize("name", TAMPERED)
def test_a_tampered_copy_is_one_clear_error_before_anything_is_loaded(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    edit, what, where = TAMPERED[name]
    copy = open_storage(tmp_path / "copy")
    seal = make_copy(world.bundle, world.evaluation, copy)
    edit(tmp_path / "copy")
    loaded: list[object] = []
    monkeypatch.setattr(loading, "load_file", loaded.append)
    monkeypatch.setattr(loading.AutoTokenizer, "from_pretrained", loaded.append)
    with pytest.raises(UserError) as caught:
        StudyPredictor(copy, seal=seal.hash)
    assert caught.value.what == what
    assert str(caught.value.where).endswith(where)
    assert caught.value.remedy
    assert "\n" not in caught.value.line
    assert loaded == []
    with pytest.raises(UserError, match=what):
        check_copy(copy, seal=seal.hash)


def test_an_evaluations_points_are_sealed_too(world: World) -> None:
    """Before a deployment: bundle and evaluation in folders of their own."""
    assert StudyPredictor(world.bundle, world.evaluation).points.hash == world.report.operating_points_hash
    _json("operating_points.json", _slope)(Path(world.evaluation.uri))
    with pytest.raises(UserError, match=rf"{CHANGED}: {world.evaluation.uri}/operating_points.json; found SHA-256"):
        StudyPredictor(world.bundle, world.evaluation)


def test_a_damaged_original_is_not_copied(world: World, tmp_path: Path) -> None:
    _flip("weights.safetensors")(Path(world.bundle.uri))
    with pytest.raises(UserError, match=CHANGED):
        make_copy(world.bundle, world.evaluation, open_storage(tmp_path / "copy"))
    assert not (tmp_path / "copy").exists()


def test_copies_that_were_killed_at_any_moment_are_made_whole(world: World, tmp_path: Path) -> None:
    """By SIGKILL; what was half written is gone, and never counted."""
    whole = open_storage(tmp_path / "whole")
    seal = make_copy(world.bundle, world.evaluation, whole)
    expected = _bytes(whole)
    rng, cut_off = random.Random(0), 0
    for number in range(12):
        copy = open_storage(tmp_path / f"copy {number}")
        killed = multiprocessing.get_context("fork").Process(
            target=make_copy, args=(world.bundle, world.evaluation, copy)
        )
        killed.start()
        while number % 2 and killed.is_alive() and not copy.sizes():
            time.sleep(0.001)  # until its first file is there
        time.sleep(0.0 if number % 2 else 0.06 * rng.random())
        killed.kill()
        killed.join()
        cut_off += _bytes(copy) not in ({}, expected)
        Path(copy.uri, "tokenizer").mkdir(parents=True, exist_ok=True)
        Path(copy.uri, "tokenizer", ".partial-left").write_bytes(b"half")
        Path(copy.uri, "tokenizer", "foreign.json").write_bytes(b"{}")
        assert make_copy(world.bundle, world.evaluation, copy, expected=seal.hash) == seal
        assert _bytes(copy) == expected
        assert list(Path(copy.uri).rglob(".partial-*")) == []
    assert StudyPredictor(copy, seal=seal.hash).bundle.hash == world.report.bundle_hash
    assert cut_off, "no kill came in the middle"


def test_what_a_killed_copy_leaves_does_not_change_the_hash(world: World) -> None:
    before = describe(world.bundle).hash
    Path(world.bundle.uri, "tokenizer", ".partial-left").write_bytes(b"half")
    assert describe(world.bundle).hash == before


def _bytes(storage: Storage) -> dict[str, bytes]:
    return {name: storage.read(name).data for name in storage.sizes()}
