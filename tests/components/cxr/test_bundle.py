"""The second contract: a bundle comes back as it was, and what does not fit is refused with the reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from components.cxr.bundle import load_bundle, save_bundle
from components.cxr.bundle_info import BUNDLE, check_same_pixels, describe, local_folder
from components.cxr.errors import UserError
from components.cxr.operating_points import (
    MODEL_CARD,
    OPERATING_POINTS,
    Calibration,
    OperatingPoint,
    OperatingPoints,
    load_operating_points,
    write_operating_points,
)
from components.cxr.shards import LoadedManifest
from components.cxr.storage.local import LocalStorage
from components.cxr.storage.storage import Storage, open_storage

POINTS = OperatingPoints(
    bundle_hash="b" * 64,
    conditions={"all": {"Edema": OperatingPoint(threshold=0.25, calibration=Calibration(slope=2.0, intercept=-1.0))}},
)


@pytest.fixture
def copy(untrained_bundle: Storage, tmp_path: Path) -> Storage:
    """A bundle that a test may spoil."""
    storage = open_storage(tmp_path / "bundle")
    storage.upload_folder(Path(untrained_bundle.uri))
    return storage


def test_round_trip(copy: Storage, tmp_path: Path) -> None:
    first = load_bundle(copy)
    assert not first.model.training
    other = open_storage(tmp_path / "other")
    save_bundle(
        other, info=first.info, models=first.models, tokenizer=first.tokenizer, trained_on=describe(copy).trained_on
    )
    assert describe(other).trained_on[0].patients.tolist() == describe(copy).trained_on[0].patients.tolist()
    second = load_bundle(other)
    assert second.info == first.info
    for name, value in first.model.state_dict().items():
        assert torch.equal(second.model.state_dict()[name], value)
    text = "cough and edema"
    assert second.tokenizer(text)["input_ids"] == first.tokenizer(text)["input_ids"]


def test_several_models_come_back_in_their_order_and_with_no_other_number(copy: Storage, tmp_path: Path) -> None:
    first, second = load_bundle(copy), load_bundle(copy)
    with torch.no_grad():
        next(second.model.parameters()).add_(1.0)
    both = open_storage(tmp_path / "both")
    info = first.info.model_copy(update={"num_models": 2, "num_parameters": 2 * first.info.num_parameters})
    models = [first.model, second.model]
    save_bundle(both, info=info, models=models, tokenizer=first.tokenizer, trained_on=describe(copy).trained_on)
    found = load_bundle(both)
    assert found.info.num_parameters == sum(p.numel() for model in found.models for p in model.parameters())
    for model, expected in zip(found.models, models, strict=True):
        assert not model.training
        for name, value in expected.state_dict().items():
            assert torch.equal(model.state_dict()[name], value)
    with pytest.raises(UserError, match="this is for a bundle of one model; found 2 models"):
        _ = found.model
    for number in (1, 3):
        _edit(both, num_models=number)
        with pytest.raises(UserError) as caught:
            load_bundle(both)
        assert caught.value.code == "bad-weights"


def test_equal_bundles_have_equal_hashes_and_a_copy_beside_operating_points_too(
    copy: Storage, untrained_bundle: Storage, tmp_path: Path
) -> None:
    before = load_bundle(untrained_bundle).hash
    copy.write(MODEL_CARD, b"# Card")
    write_operating_points(copy, POINTS)
    assert load_bundle(copy).hash == before
    _edit(copy, git_revision="other")
    assert load_bundle(copy).hash != before
    bundle, seen, hashes = load_bundle(untrained_bundle), describe(untrained_bundle).trained_on, []
    for name in ("same", "changed", "other patients"):
        storage = open_storage(tmp_path / name)
        save_bundle(storage, info=bundle.info, models=bundle.models, tokenizer=bundle.tokenizer, trained_on=seen)
        hashes.append(load_bundle(storage).hash)
        if name == "same":
            with torch.no_grad():
                next(bundle.model.parameters()).add_(1e-3)
        else:
            seen = (seen[0]._replace(patients=seen[0].patients[1:]),)
    assert len(set(hashes)) == 3, "other weights or patients are another bundle"


def test_a_bundle_in_a_bucket(copy: Storage, gcs_bucket: str) -> None:
    there = open_storage(f"{gcs_bucket}/bundles/one")
    there.upload_folder(Path(copy.uri))
    assert load_bundle(there).hash == load_bundle(copy).hash
    with local_folder(there) as folder:
        assert (folder / BUNDLE).is_file()
    assert not folder.exists()


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        ({"schema_version": 7}, "another schema version.*found 7, expected 6. Delete it and run train again"),
        ({"pixel_preset_hash": "f" * 16}, "pixels were made another way.*found ffffffffffffffff"),
        ({"pathologies": ["Edema"]}, "weights do not fit the bundle.*Train again"),
        ({"precision": "bfloat16"}, r"bundle.json.precision; found 'bfloat16', expected 'float32'"),
        ({"surprise": 1}, "unknown configuration field"),
    ],
)
def test_what_does_not_fit_is_refused(copy: Storage, edit: dict[str, Any], message: str) -> None:
    _edit(copy, **edit)
    with pytest.raises(UserError, match=message):
        load_bundle(copy)


def test_a_bundle_that_was_cut_off_is_not_there(copy: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, seen, half = load_bundle(copy), describe(copy).trained_on, open_storage(tmp_path / "half")
    upload = LocalStorage.upload

    def cut_off(self: LocalStorage, source: Path, name: str) -> None:
        if name.endswith(".safetensors"):
            raise KeyboardInterrupt
        upload(self, source, name)

    monkeypatch.setattr(LocalStorage, "upload", cut_off)
    with pytest.raises(KeyboardInterrupt):
        save_bundle(half, info=whole.info, models=whole.models, tokenizer=whole.tokenizer, trained_on=seen)
    assert half.sizes()
    assert not half.exists(BUNDLE)


def test_missing_files_are_refused(copy: Storage) -> None:
    copy.delete("weights.safetensors")
    for read in (load_bundle, describe):
        with pytest.raises(UserError, match="bundle is incomplete"):
            read(copy)
    copy.delete(BUNDLE)
    with pytest.raises(UserError, match=r"no complete bundle here.*Run train first"):
        load_bundle(copy)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("weights.safetensors", b"no weights", r"weights do not fit the bundle: .*weights\.safetensors; found"),
        ("tokenizer/tokenizer.json", b"{", "tokenizer is damaged: .*/tokenizer; found"),
        ("tokenizer/tokenizer.json", None, "tokenizer is damaged: .*/tokenizer; found"),
        ("trained_on.safetensors", b"no patients", r"bundle is damaged: .*trained_on\.safetensors"),
    ],
)
def test_damaged_files_are_one_line(copy: Storage, name: str, data: bytes | None, message: str) -> None:
    """Where no seal says so before."""
    copy.delete(name)
    if data is not None:
        copy.write(name, data)
    with pytest.raises(UserError, match=message) as caught:
        describe(copy) if "trained_on" in name else load_bundle(copy)
    assert "\n" not in caught.value.line


def test_operating_points(copy: Storage) -> None:
    with pytest.raises(UserError, match=r"no operating points here.*Run evaluate"):
        load_operating_points(copy, bundle_hash="b" * 64)
    write_operating_points(copy, POINTS)
    assert load_operating_points(copy, bundle_hash="b" * 64) == POINTS
    with pytest.raises(
        UserError, match=f"operating points are of another model.*found {'b' * 16}, expected {'c' * 16}"
    ):
        load_operating_points(copy, bundle_hash="c" * 64)
    copy.write(OPERATING_POINTS, b'{"schema_version": 3}')
    with pytest.raises(UserError, match=r"found 3, expected 4. Delete it and run evaluate again"):
        load_operating_points(copy, bundle_hash="b" * 64)


def test_data_of_other_pixels_or_pathologies_is_refused(copy: Storage, tiny_data: LoadedManifest) -> None:
    info, manifest = load_bundle(copy).info, tiny_data.manifest
    check_same_pixels(info, manifest, where="here")
    with pytest.raises(UserError, match=f"found {'f' * 16}, expected {info.pixel_preset_hash}"):
        check_same_pixels(info, manifest.model_copy(update={"pixel_preset_hash": "f" * 16}), where="here")
    with pytest.raises(UserError, match="different pathologies: here; found Edema, expected No Finding, Edema"):
        check_same_pixels(info, manifest.model_copy(update={"pathologies": ("Edema",)}), where="here")
    with pytest.raises(UserError, match="different pathologies"):
        check_same_pixels(info, manifest.model_copy(update={"pathologies": info.pathologies[::-1]}), where="here")
    with pytest.raises(UserError, match="read in different ways: here; found mimic, expected strict"):
        check_same_pixels(info, manifest.model_copy(update={"section_reader": "mimic"}), where="here")
    without_text = info.model_copy(update={"text": info.text.model_copy(update={"sections": ()})})
    check_same_pixels(without_text, manifest.model_copy(update={"section_reader": "mimic"}), where="here")


def test_there_is_no_pickle_in_a_bundle(copy: Storage) -> None:
    names = set(copy.sizes())
    assert {name.rpartition(".")[2] for name in names} == {"json", "safetensors"}


def _edit(bundle: Storage, **values: Any) -> None:
    found = json.loads(bundle.read(BUNDLE).data)
    bundle.write(BUNDLE, json.dumps(found | values).encode())
