"""The same contract for a local folder and for gs://."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import threading
import time
from pathlib import Path

import pytest

from components.cxr.errors import UserError
from components.cxr.storage import local
from components.cxr.storage.atomic import discard_partials, put_in_place, renamed_to
from components.cxr.storage.storage import ABSENT, Root, StaleWriteError, Storage, open_storage, sha256_of


@pytest.fixture(params=["local", "gs"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    """An empty storage with a prefix."""
    if request.param == "local":
        return open_storage(tmp_path / "root" / "data")
    return open_storage(f"{request.getfixturevalue('gcs_bucket')}/root/data")


def test_what_is_written_is_read(storage: Storage) -> None:
    storage.write("a/b.bin", b"\0one")
    assert storage.read("a/b.bin").data == b"\0one"
    storage.write("a/b.bin", b"two")
    assert storage.read("a/b.bin").data == b"two"


def test_sizes_are_sorted_and_recursive(storage: Storage) -> None:
    for name in ("b.txt", "a/z.txt", "a/b/c.txt", "ab/d.txt"):
        storage.write(name, b"x" * len(name))
    assert list(storage.sizes().items()) == [("a/b/c.txt", 9), ("a/z.txt", 7), ("ab/d.txt", 8), ("b.txt", 5)]
    assert list(storage.sizes("a")) == ["a/b/c.txt", "a/z.txt"]
    assert storage.sizes("nothing") == {}


def test_missing_file_is_file_not_found(storage: Storage, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        storage.read("none.txt")
    with pytest.raises(FileNotFoundError):
        storage.download("none.txt", tmp_path / "out.txt")
    assert not (tmp_path / "out.txt").exists()
    assert not storage.exists("none.txt")
    assert storage.sizes() == {}


def test_the_start_of_a_file(storage: Storage) -> None:
    storage.write("a.bin", bytes(range(100)))
    assert storage.read_start("a.bin", 10) == bytes(range(10))
    assert storage.read_start("a.bin", 1000) == bytes(range(100))
    with pytest.raises(FileNotFoundError):
        storage.read_start("none.bin", 10)


def test_conditional_write_wants_its_generation(storage: Storage) -> None:
    storage.write("p.json", b"1", if_generation=ABSENT)
    with pytest.raises(StaleWriteError):
        storage.write("p.json", b"2", if_generation=ABSENT)
    generation = storage.read("p.json").generation
    storage.write("p.json", b"2", if_generation=generation)
    with pytest.raises(StaleWriteError):
        storage.write("p.json", b"3", if_generation=generation)
    assert storage.read("p.json").data == b"2"


def test_one_of_many_conditional_writers_wins(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    def put_slowly(partial: Path, target: Path) -> None:
        time.sleep(0.1)  # all the others compare meanwhile, if they may
        put_in_place(partial, target)

    monkeypatch.setattr(local, "put_in_place", put_slowly)
    storage.write("p.json", b"start")
    generation = storage.read("p.json").generation
    won: list[int] = []

    def write(i: int) -> None:
        try:
            storage.write("p.json", f"{i}".encode(), if_generation=generation)
            won.append(i)
        except StaleWriteError:
            pass

    threads = [threading.Thread(target=write, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert storage.read("p.json").data == f"{won[0]}".encode()


def test_upload_and_download(storage: Storage, tmp_path: Path) -> None:
    source = tmp_path / "source.bin"
    source.write_bytes(bytes(range(256)) * 1000)
    storage.upload(source, "deep/er/copy.bin")
    storage.download("deep/er/copy.bin", tmp_path / "target" / "t.bin")
    assert sha256_of(tmp_path / "target" / "t.bin") == hashlib.sha256(source.read_bytes()).hexdigest()


def test_folders_travel_whole(storage: Storage, tmp_path: Path) -> None:
    (tmp_path / "in" / "sub").mkdir(parents=True)
    (tmp_path / "in" / "x.txt").write_bytes(b"x")
    (tmp_path / "in" / "sub" / "y.txt").write_bytes(b"y")
    storage.upload_folder(tmp_path / "in")
    storage.download_folder(tmp_path / "out")
    assert (tmp_path / "out" / "x.txt").read_bytes() == b"x"
    assert (tmp_path / "out" / "sub" / "y.txt").read_bytes() == b"y"


def test_delete_leaves_the_rest(storage: Storage) -> None:
    storage.write("a", b"1")
    storage.write("sub/b", b"2")
    storage.delete("a")
    storage.delete("a")
    assert list(storage.sizes()) == ["sub/b"]
    storage.delete_all()
    assert storage.sizes() == {}


def test_child_sees_only_its_folder(storage: Storage) -> None:
    storage.child("k").write("m.json", b"1")
    storage.write("other.json", b"2")
    assert list(storage.child("k").sizes()) == ["m.json"]
    assert storage.exists("k/m.json")
    assert storage.child("k").uri == f"{storage.uri}/k"


def test_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = open_storage(tmp_path)
    storage.write("a.txt", b"old")

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        storage.write("a.txt", b"new")
    monkeypatch.undo()
    assert storage.read("a.txt").data == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_a_large_file_appears_whole_or_not_at_all(storage: Storage) -> None:
    with storage.writing("a/large") as path:
        path.write_bytes(b"whole")
        assert storage.sizes() == {}
    assert storage.read("a/large").data == b"whole"

    def fail() -> None:
        with storage.writing("a/half") as path:
            path.write_bytes(b"ha")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert storage.sizes() == {"a/large": 5}


def test_what_a_killed_writer_left_is_removed_and_a_living_writer_is_not_disturbed(tmp_path: Path) -> None:
    storage = open_storage(tmp_path)
    (tmp_path / "a").mkdir()
    left = tmp_path / "a" / ".partial-left"
    left.write_bytes(b"half")
    with storage.writing("a/b") as path:
        path.write_bytes(b"more")
        storage.remove_partials()
        assert path.exists()
        assert not left.exists()
    assert storage.sizes() == {"a/b": 4}


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES])
def test_a_disk_that_takes_no_more_is_named(tmp_path: Path, number: int) -> None:
    storage = open_storage(tmp_path / "set")
    storage.write("a", b"old")
    with pytest.raises(UserError) as caught, storage.writing("a"):
        raise OSError(number, "whatever")
    assert str(caught.value).startswith(
        f"cannot write: {tmp_path}/set; found {os.strerror(number)}. Free or grant space"
    )
    assert storage.read("a").data == b"old"
    assert storage.sizes() == {"a": 3}


def test_a_file_where_a_folder_should_be_and_the_reverse_are_named(tmp_path: Path) -> None:
    storage = open_storage(tmp_path)
    storage.write("file", b"old")
    storage.write("folder/a", b"old")
    for name, where, found in (
        ("file/a", "file", "exists"),
        ("file/a/b", "file/a", "directory"),
        ("folder", "folder", "Is"),
    ):
        with pytest.raises(UserError, match=f"cannot write: {tmp_path}/{where}; found .*{found}.*Move away"):
            storage.write(name, b"new")
    assert storage.sizes() == {"file": 3, "folder/a": 3}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def test_links_in_a_folder(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "film").write_bytes(b"12345")
    (tmp_path / "film").symlink_to("real/film")
    (tmp_path / "folder").symlink_to("real")
    (tmp_path / "gone").symlink_to("nowhere")
    assert open_storage(tmp_path).sizes() == {"film": 5, "real/film": 5}


def test_local_path_only_on_this_machine(tmp_path: Path, gcs_bucket: str) -> None:
    assert open_storage(tmp_path).local_path("a") == tmp_path / "a"
    assert open_storage(gcs_bucket).local_path("a") is None


def test_other_schemes_are_refused() -> None:
    with pytest.raises(UserError, match=r"s3://bucket.*expected a local folder or gs://"):
        open_storage("s3://bucket")
    with pytest.raises(UserError, match="bucket is missing"):
        open_storage("gs://")


def test_root_names_every_folder(tmp_path: Path) -> None:
    root = Root(tmp_path)
    assert root.data("k").uri == f"{tmp_path}/data/k"
    assert root.latest().uri == f"{tmp_path}/latest"
    assert root.decisions("m").uri == f"{tmp_path}/decisions/m"
    assert root.checkpoints("k").uri != root.bundle("k").uri


@pytest.mark.parametrize("how", ["write", "upload", "writing"])
def test_bytes_and_name_reach_the_disk_before_the_file_counts_as_there(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a power cut leaves depends on this order; it shows in no other way on a running machine."""
    done: list[str] = []
    flush, rename = os.fsync, Path.replace

    def fsync(handle: int) -> None:
        done.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else f"file of {os.fstat(handle).st_size}")
        flush(handle)

    def replace(source: Path, target: Path) -> Path:
        done.append("rename")
        return rename(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", replace)
    (tmp_path / "source").write_bytes(b"12345")
    storage = open_storage(tmp_path / "made")
    if how == "write":
        storage.write("a.json", b"12345")
    elif how == "upload":
        storage.upload(tmp_path / "source", "a.json")
    else:
        with storage.writing("a.json") as path:
            path.write_bytes(b"12345")
    assert done == ["file of 5", "rename", "folder"]


def test_what_is_being_written_can_be_discarded_by_a_process_that_ends_at_once(tmp_path: Path) -> None:
    """A worker whose parent is told to stop unwinds nothing."""
    with renamed_to(tmp_path / "one") as finished:
        finished.write_bytes(b"1")
        put_in_place(finished, tmp_path / "one")
    with renamed_to(tmp_path / "two") as partial:
        partial.write_bytes(b"2")
        assert len(list(tmp_path.iterdir())) == 2
        discard_partials()
        assert [path.name for path in tmp_path.iterdir()] == ["one"]


def test_a_signal_right_after_the_call_that_makes_a_file_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python calls a signal's handler after the system call in which it came."""
    make = os.open

    def interrupted(path: Path, flags: int, mode: int = 0o777) -> int:
        os.close(make(path, flags, mode))
        assert len(list(tmp_path.iterdir())) == 1
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "open", interrupted)
    with pytest.raises(KeyboardInterrupt), renamed_to(tmp_path / "one"):
        pass
    assert not list(tmp_path.iterdir())
