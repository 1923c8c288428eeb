"""Files of the cache: made by one process, checked, bounded, and never half written."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest

from components.cxr.errors import UserError
from components.cxr.storage import node_cache
from components.cxr.storage.node_cache import made_once

CONTENT = bytes(range(256)) * 64
ASK = (
    "import os, sys, time\n"
    "from pathlib import Path\n"
    "from components.cxr.errors import UserError\n"
    "from components.cxr.storage.node_cache import made_once\n"
    "def make():\n"
    "    with Path(sys.argv[1]).open('a') as log:\n"
    "        log.write('made\\n')\n"
    "    time.sleep(float(sys.argv[2]))\n"
    "    return [bytes(range(256)) * 64]\n"
)
"""A process that writes a line for every file it makes, which takes it some time."""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CXRFLOW_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def ask(name: str, content: bytes = CONTENT) -> bytes:
    half = len(content) // 2
    return made_once(name, lambda: [content[:half], memoryview(content)[half:]]).tobytes()


def age(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the check count at once: a file that is younger than a clock's step is hashed again."""
    monkeypatch.setattr(node_cache, "_CLOCK_NS", 0)
    time.sleep(0.05)


def test_the_content_is_that_which_was_made_and_read_only(cache: Path) -> None:
    assert ask("a") == CONTENT
    assert ask("a", b"not made again") == CONTENT
    assert ask("none", b"") == ask("none") == b""
    assert not made_once("a", list).flags.writeable
    assert {path.name for path in cache.iterdir()} == {"a.cached", "a.checked", "none.cached", "none.checked"}


@pytest.mark.parametrize("damage", ["zeroed tail", "cut off", "no trailer", "longer", "empty", "one bit"])
@pytest.mark.parametrize("checked", [True, False])
def test_a_damaged_file_is_noticed_and_made_anew(
    damage: str, checked: bool, cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(node_cache, "_CLOCK_NS", 0)
    ask("a")
    path = cache / "a.cached"
    if not checked:
        path.with_suffix(".checked").unlink()
    time.sleep(0.05)
    before, times = path.read_bytes(), path.stat()
    half = len(before) // 2
    path.write_bytes(
        {
            "zeroed tail": before[:half] + bytes(len(before) - half - 64) + before[-64:],
            "cut off": before[:half],
            "no trailer": before[:-48] + bytes(48),
            "longer": before + b"x",
            "empty": b"",
            "one bit": before[:half] + bytes([before[half] ^ 1]) + before[half + 1 :],
        }[damage]
    )
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))  # as a disk that lost them would show it
    assert ask("a") == CONTENT
    assert path.read_bytes() == before
    assert "were damaged and are made anew" in capsys.readouterr().err


def test_the_file_is_hashed_at_the_first_open_alone(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[int] = []
    whole = node_cache._is_whole
    monkeypatch.setattr(
        node_cache, "_is_whole", lambda file, num_bytes: hashed.append(1) or whole(file, num_bytes=num_bytes)
    )
    ask("a")
    assert len(hashed) == 1
    ask("a")
    assert len(hashed) == 2, "a check within a clock's step of the change proves nothing"
    age(monkeypatch)
    for _ in range(3):
        ask("a")
    assert len(hashed) == 2


def limit_to(num_files: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXRFLOW_CACHE_GB", repr(num_files * (len(CONTENT) + 64) / 1e9))


def test_the_least_recently_used_is_evicted(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit_to(3, monkeypatch)
    for name in ("first", "second", "third", "first"):  # used again
        ask(name)
        time.sleep(0.02)
    ask("fourth")
    assert sorted(path.stem for path in cache.glob("*.cached")) == ["first", "fourth", "third"]
    assert sorted(path.stem for path in cache.glob("*.checked")) == ["first", "fourth", "third"]
    used = sum(path.stat().st_size for path in cache.glob("*.cached"))
    assert used <= float(os.environ["CXRFLOW_CACHE_GB"]) * 1e9


def test_what_is_in_use_is_never_evicted(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit_to(1.5, monkeypatch)
    held = np.asarray(made_once("first", lambda: [CONTENT]))  # a view keeps the file as the map does
    with pytest.raises(UserError, match=r"no room for decoded shards: .*GB left.*CXRFLOW_CACHE_GB") as error:
        ask("second")
    assert error.value.code == "pixel-cache-full"
    assert (cache / "first.cached").exists()
    del held
    ask("second")
    assert not (cache / "first.cached").exists()


def test_a_bad_limit_is_a_users_mistake(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for text in ("much", "0", "-1", "nan"):
        monkeypatch.setenv("CXRFLOW_CACHE_GB", text)
        with pytest.raises(UserError, match="CXRFLOW_CACHE_GB"):
            ask("a")


def test_a_full_disk_is_one_clear_error(cache: Path, tmp_path: Path) -> None:
    """RLIMIT_FSIZE makes the kernel refuse the write, as a full disk does, with EFBIG for ENOSPC."""
    script = ASK + (
        "import resource, signal\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))\n"
        "try:\n"
        "    made_once('a', make)\n"
        "except UserError as error:\n"
        "    print(error.code, error)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "log"), "0"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("pixel-cache-full no room for decoded shards")
    assert done.stdout.count("\n") == 1
    assert list(cache.iterdir()) == []


def test_what_killed_writers_left_is_removed_but_not_another_hosts(cache: Path) -> None:
    cache.mkdir()
    ours, theirs, old = (cache / name for name in (node_cache._partial_prefix() + "a", ".partial-b-a", ".partial-b-b"))
    for path in (ours, theirs, old):
        path.write_bytes(b"x")
    os.utime(old, (1, 1))
    ask("a")
    assert [path.exists() for path in (ours, theirs, old)] == [False, True, False]


def test_one_process_makes_a_file_and_the_others_wait_for_it(cache: Path, tmp_path: Path) -> None:
    script = ASK + "print(len(made_once('a', make)))\n"
    command = [sys.executable, "-c", script, str(tmp_path / "log"), "0.5"]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    for process in running:
        out, _ = process.communicate(timeout=120)
        assert (process.returncode, out) == (0, f"{len(CONTENT)}\n")
    assert (tmp_path / "log").read_text() == "made\n"
    assert not list(cache.glob(".*"))


def test_a_waiter_that_got_a_removed_lock_asks_again(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between open and lock the one before finishes, and one more begins under a new lock."""
    cache.mkdir()
    path, flock, taken = cache / ".making-a", fcntl.flock, []

    def late(file: BinaryIO, operation: int) -> None:
        if operation & fcntl.LOCK_EX and not taken:
            path.unlink()
            taken.append(path.open("wb"))
            flock(taken[0], fcntl.LOCK_EX)
        flock(file, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    assert made_once("a", lambda: [CONTENT], wait=False) is None
    taken[0].close()
    assert ask("a") == CONTENT


def test_a_new_file_that_was_taken_for_abandoned_is_begun_again(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process cleans up between the creation of a file and its lock."""
    flock, cleaned = fcntl.flock, []

    def late(file: BinaryIO, operation: int) -> None:
        new = list(cache.glob(".partial-*"))
        if new and not cleaned:
            cleaned.append(new)
            node_cache._remove_abandoned(cache)
            assert not new[0].exists()
        flock(file, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    assert ask("a") == CONTENT
    assert cleaned


def test_a_killed_maker_is_waited_for_no_longer(cache: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    maker = subprocess.Popen([sys.executable, "-c", ASK + "made_once('a', make)\n", str(log), "600"])
    while not log.exists():
        time.sleep(0.01)
    assert made_once("a", lambda: [b"mine"], wait=False) is None, "another process makes it"
    maker.send_signal(signal.SIGKILL)
    maker.wait()
    assert ask("a") == CONTENT
    assert not list(cache.glob(".*"))


def test_a_failure_to_make_a_file_is_the_callers_and_leaves_nothing(cache: Path) -> None:
    def fail() -> list[bytes]:
        raise FileNotFoundError("the source")

    with pytest.raises(FileNotFoundError, match="the source"):
        made_once("a", fail)
    assert list(cache.iterdir()) == []
