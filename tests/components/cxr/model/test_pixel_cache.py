"""Decoded shards on disk: checked, bounded, and never half written."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from components.cxr.errors import UserError
from components.cxr.model import pixel_cache
from components.cxr.model.pixel_cache import cached_pixels
from components.cxr.shards import LoadedManifest, ShardInfo, read_shard

SIZE = 32


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CXRFLOW_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def truth(data: LoadedManifest, info: ShardInfo) -> npt.NDArray[np.uint8]:
    column = read_shard(data.storage, info, columns=["pixels"]).column("pixels").to_pylist()
    return np.stack([np.frombuffer(film, np.uint8).reshape(SIZE, SIZE) for film in column])


def open_first(data: LoadedManifest) -> npt.NDArray[np.uint8]:
    return cached_pixels(data.storage, data.manifest.shards[0], size=SIZE)


def file_of(cache: Path, info: ShardInfo) -> Path:
    return cache / f"{info.sha256}.pixels"


def age(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the check count at once: a file that is younger than a clock's step is hashed again."""
    monkeypatch.setattr(pixel_cache, "_CLOCK_NS", 0)
    time.sleep(0.05)


def test_pixels_are_those_of_the_shard_and_read_only(cache: Path, tiny_data: LoadedManifest) -> None:
    for info in tiny_data.manifest.shards:
        pixels = cached_pixels(tiny_data.storage, info, size=SIZE)
        assert np.array_equal(pixels, truth(tiny_data, info))
        assert not pixels.flags.writeable
    assert len(list(cache.glob("*.pixels"))) == len(tiny_data.manifest.shards)
    assert not list(cache.glob(".partial-*"))


@pytest.mark.parametrize("damage", ["zeroed tail", "cut off", "no trailer", "longer", "empty", "one bit"])
@pytest.mark.parametrize("checked", [True, False])
def test_a_damaged_file_is_noticed_and_made_anew(
    damage: str, checked: bool, cache: Path, tiny_data: LoadedManifest, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(pixel_cache, "_CLOCK_NS", 0)
    open_first(tiny_data)
    path = file_of(cache, tiny_data.manifest.shards[0])
    if not checked:
        path.with_suffix(".checked").unlink()
    time.sleep(0.05)
    before, times = path.read_bytes(), path.stat()
    half = len(before) // 2
    path.write_bytes(
        {
            "zeroed tail": before[:half] + bytes(len(before) - half - 64) + before[-64:],
            "cut off": before[:half],
            "no trailer": before[:-64] + bytes(64),
            "longer": before + b"x",
            "empty": b"",
            "one bit": before[:half] + bytes([before[half] ^ 1]) + before[half + 1 :],
        }[damage]
    )
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))  # as a disk that lost them would show it
    assert np.array_equal(open_first(tiny_data), truth(tiny_data, tiny_data.manifest.shards[0]))
    assert path.read_bytes() == before
    assert "were damaged and are made anew" in capsys.readouterr().err


def test_the_file_is_hashed_at_the_first_open_alone(
    cache: Path, tiny_data: LoadedManifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[int] = []
    whole = pixel_cache._is_whole
    monkeypatch.setattr(pixel_cache, "_is_whole", lambda file, shape: hashed.append(1) or whole(file, shape))
    open_first(tiny_data)
    assert len(hashed) == 1
    open_first(tiny_data)
    assert len(hashed) == 2, "a check within a clock's step of the change proves nothing"
    age(cache, monkeypatch)
    for _ in range(3):
        open_first(tiny_data)
    assert len(hashed) == 2


def limit_to(num_files: float, cache: Path, data: LoadedManifest, monkeypatch: pytest.MonkeyPatch) -> None:
    largest = max(info.rows for info in data.manifest.shards) * SIZE**2 + 64
    monkeypatch.setenv("CXRFLOW_CACHE_GB", repr(num_files * largest / 1e9))


def test_the_least_recently_used_is_evicted(
    cache: Path, tiny_data: LoadedManifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit_to(3, cache, tiny_data, monkeypatch)
    first, second, third, fourth = tiny_data.manifest.shards[:4]
    for info in (first, second, third, first):  # used again
        cached_pixels(tiny_data.storage, info, size=SIZE)
        time.sleep(0.02)
    cached_pixels(tiny_data.storage, fourth, size=SIZE)
    assert file_of(cache, first).exists()
    assert file_of(cache, fourth).exists()
    assert not file_of(cache, second).exists()
    assert not file_of(cache, second).with_suffix(".checked").exists()
    used = sum(path.stat().st_size for path in cache.glob("*.pixels"))
    assert used <= float(os.environ["CXRFLOW_CACHE_GB"]) * 1e9


def test_what_is_in_use_is_never_evicted(
    cache: Path, tiny_data: LoadedManifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit_to(1.5, cache, tiny_data, monkeypatch)
    first, second = tiny_data.manifest.shards[:2]
    held = cached_pixels(tiny_data.storage, first, size=SIZE)
    with pytest.raises(UserError, match=r"no room for decoded shards: .*GB left.*CXRFLOW_CACHE_GB") as error:
        cached_pixels(tiny_data.storage, second, size=SIZE)
    assert error.value.code == "pixel-cache-full"
    assert file_of(cache, first).exists()
    del held
    cached_pixels(tiny_data.storage, second, size=SIZE)
    assert not file_of(cache, first).exists()


def test_a_bad_limit_is_a_users_mistake(
    cache: Path, tiny_data: LoadedManifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    for text in ("much", "0", "-1", "nan"):
        monkeypatch.setenv("CXRFLOW_CACHE_GB", text)
        with pytest.raises(UserError, match="CXRFLOW_CACHE_GB"):
            open_first(tiny_data)


def test_a_full_disk_is_one_clear_error(cache: Path, tiny_data: LoadedManifest, tmp_path: Path) -> None:
    """RLIMIT_FSIZE makes the kernel refuse the write, as a full disk does, with EFBIG for ENOSPC."""
    script = (
        "import resource, signal, sys\n"
        "from components.cxr.errors import UserError\n"
        "from components.cxr.model.pixel_cache import cached_pixels\n"
        "from components.cxr.shards import load_manifest\n"
        "from components.cxr.storage.storage import open_storage\n"
        "data = load_manifest(open_storage(sys.argv[1]))\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))\n"
        "try:\n"
        "    cached_pixels(data.storage, data.manifest.shards[0], size=32)\n"
        "except UserError as error:\n"
        "    print(error.code, error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, tiny_data.storage.uri], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("pixel-cache-full no room for decoded shards")
    assert done.stdout.count("\n") == 1
    assert list(cache.iterdir()) == []


def test_what_killed_writers_left_is_removed_but_not_another_hosts(
    cache: Path, tiny_data: LoadedManifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.mkdir()
    ours, theirs, old = (cache / name for name in (pixel_cache._partial_prefix() + "a", ".partial-b-a", ".partial-b-b"))
    for path in (ours, theirs, old):
        path.write_bytes(b"x")
    os.utime(old, (1, 1))
    open_first(tiny_data)
    assert [path.exists() for path in (ours, theirs, old)] == [False, True, False]


def test_processes_that_make_one_file_at_once_agree(cache: Path, tiny_data: LoadedManifest) -> None:
    script = (
        "import sys\n"
        "from components.cxr.model.pixel_cache import cached_pixels\n"
        "from components.cxr.shards import load_manifest\n"
        "from components.cxr.storage.storage import open_storage\n"
        "data = load_manifest(open_storage(sys.argv[1]))\n"
        "for info in data.manifest.shards:\n"
        "    print(int(cached_pixels(data.storage, info, size=32).sum()))\n"
    )
    command = [sys.executable, "-c", script, tiny_data.storage.uri]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    expected = [int(truth(tiny_data, info).sum()) for info in tiny_data.manifest.shards]
    for process in running:
        out, _ = process.communicate(timeout=120)
        assert process.returncode == 0
        assert [int(line) for line in out.split()] == expected
