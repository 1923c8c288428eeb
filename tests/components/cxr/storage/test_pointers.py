"""Pointers, whole and damaged."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from components.cxr.bundle import BUNDLE, load_bundle
from components.cxr.errors import UserError
from components.cxr.report import REPORT, load_report
from components.cxr.shards import MANIFEST, load_manifest
from components.cxr.storage.pointers import read_pointer, write_pointer
from components.cxr.storage.storage import Root, open_storage
from components.cxr.tracking.artifacts import pointed

DAMAGE = {
    "empty": b"",
    "zeros": bytes(30),
    "cut off": b'{"uri": "gs',
    "another field": b'{"url": "x"}',
    "no text": b'{"uri": null}',
    "a list": b"[]",
    "not UTF-8": b"\xff\xfe{",
}


def test_a_pointer_is_read_back(tmp_path: Path) -> None:
    write_pointer(Root(tmp_path), "bundle", "gs://bucket/bundles/1")
    assert read_pointer(Root(tmp_path), "bundle", made_by="train") == "gs://bucket/bundles/1"


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_pointer_is_one_clear_error(damage: str, tmp_path: Path) -> None:
    root = Root(tmp_path)
    root.latest().write("bundle.json", DAMAGE[damage])
    with pytest.raises(UserError, match=r"damaged pointer: .*bundle\.json.*Delete it and run train again") as error:
        read_pointer(root, "bundle", made_by="train")
    assert error.value.code == "damaged-pointer"


@pytest.mark.parametrize("damage", [*DAMAGE, "missing"])
def test_a_damaged_artifact_is_one_clear_error(damage: str, tmp_path: Path) -> None:
    if damage != "missing":
        (tmp_path / "artifact").write_bytes(DAMAGE[damage])
    with pytest.raises(UserError, match="damaged pointer"):
        pointed(SimpleNamespace(path=str(tmp_path / "artifact"), metadata={}))


@pytest.mark.parametrize("damage", ["empty", "zeros", "cut off", "a list", "not UTF-8"])
@pytest.mark.parametrize(("name", "load"), [(MANIFEST, load_manifest), (BUNDLE, load_bundle), (REPORT, load_report)])
def test_a_damaged_contract_is_one_clear_error_whose_remedy_ends_it(
    name: str, load: object, damage: str, tmp_path: Path
) -> None:
    """Running the step again does not help while the damaged file says that it is done."""
    (tmp_path / name).write_bytes(DAMAGE[damage])
    with pytest.raises(UserError, match=r"Delete it and run \w+ again") as error:
        load(open_storage(tmp_path))  # type: ignore[operator]
    assert "\n" not in str(error.value)
