"""Films that cannot be used: listed with reasons, and too many of them end the step."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path
from typing import Any, Protocol

import pytest

from components.cxr.errors import UserError
from components.cxr.ids import hash_id
from components.cxr.shards import MANIFEST
from components.preprocess.collect import read_rejects
from tests.components.preprocess.steps import rows_of, run


class Mimic(Protocol):
    dir: Path

    def film(self, study: str, index: int = 0) -> Path: ...
    def values(self, **preprocess: Any) -> dict[str, dict[str, Any]]: ...


def test_rejects_are_listed_with_reasons(mimic: Mimic, tmp_path: Path) -> None:
    missing, truncated = mimic.film("50000001", 1), mimic.film("50000006")
    missing.unlink()
    truncated.write_bytes(truncated.read_bytes()[:-500])
    loaded = run(mimic.values(max_reject_fraction=0.2), tmp_path / "root")
    rejects = {row["image_id"]: row for row in read_rejects(loaded).to_pylist()}
    assert loaded.manifest.num_rejects == 2
    assert {image: row["code"] for image, row in rejects.items()} == {
        hash_id("image", missing.stem): "missing",
        hash_id("image", truncated.stem): "truncated",
    }
    assert rejects[hash_id("image", missing.stem)]["source_hash"] == hash_id(
        "path", missing.relative_to(mimic.dir).as_posix()
    )
    studies = set(rows_of(loaded, by="study_id"))
    assert hash_id("study", "50000001") in studies
    assert hash_id("study", "50000006") not in studies


def test_too_many_rejects_fail_and_leave_nothing_that_looks_complete(mimic: Mimic, tmp_path: Path) -> None:
    film = mimic.film("50000000")
    film.write_bytes(b"not a film")
    root = tmp_path / "root"
    with pytest.raises(UserError) as caught:
        run(mimic.values(), root)
    message = str(caught.value)
    path_hash = hash_id("path", film.relative_to(mimic.dir).as_posix())
    for part in ("found 1 of 18", "unknown-format 1", path_hash, "at most 1.00%", "preprocess.max_reject_fraction"):
        assert part in message
    assert "50000000" not in message
    assert not list(root.rglob(MANIFEST))
    assert run(mimic.values(max_reject_fraction=0.1), root).manifest.num_rejects == 1


def test_a_source_without_a_readable_film_is_no_data_set_whatever_the_limit(mimic: Mimic, tmp_path: Path) -> None:
    for film in mimic.dir.rglob("*.dcm"):
        film.write_bytes(b"not a film")
    with pytest.raises(UserError, match="too many films cannot be used"):
        run(mimic.values(max_reject_fraction=1.0), tmp_path / "root")
    assert not list((tmp_path / "root").rglob(MANIFEST))


def test_a_film_repaired_at_its_size_is_read_again_after_what_the_message_says(mimic: Mimic, tmp_path: Path) -> None:
    film = mimic.film("50000000")
    whole = film.read_bytes()
    film.write_bytes(bytes(len(whole)))
    with pytest.raises(UserError) as caught:
        run(mimic.values(), tmp_path / "root")
    (folder,) = (tmp_path / "root" / "data").iterdir()
    assert f"after repairing films delete {folder} before" in str(caught.value)
    film.write_bytes(whole)
    with pytest.raises(UserError, match="too many films"):
        run(mimic.values(), tmp_path / "root")
    shutil.rmtree(folder)
    assert run(mimic.values(), tmp_path / "root").manifest.num_rejects == 0


def test_a_disk_that_fails_is_no_reason_to_leave_a_film_out(
    mimic: Mimic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, film = Path.read_bytes, mimic.film("50000002")

    def broken(self: Path) -> bytes:
        if self == film:
            raise OSError(errno.EIO, "Input/output error")
        return read(self)

    monkeypatch.setattr(Path, "read_bytes", broken)
    with pytest.raises(UserError, match=r"cannot read films: .*found Input/output error. Check the disk"):
        run(mimic.values(max_reject_fraction=1.0), tmp_path / "root")
    assert not list((tmp_path / "root").rglob(MANIFEST))
    monkeypatch.undo()
    assert run(mimic.values(), tmp_path / "root").manifest.num_rejects == 0


def test_a_shard_without_a_readable_film_has_no_file(mimic: Mimic, tmp_path: Path) -> None:
    mimic.film("50000000").unlink()
    loaded = run(mimic.values(images_per_shard=1, max_reject_fraction=0.5), tmp_path / "root")
    assert len(loaded.manifest.shards) == 11
