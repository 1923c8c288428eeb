"""One trainer at a time, live or dead, on this machine and on others."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from components.cxr.errors import UserError
from components.cxr.storage.storage import Storage, open_storage
from components.train.lease import LEASE, Holder, _machine, _started, leased

SHORT_S = 0.8


@pytest.fixture(params=["local", "gs"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "local":
        return open_storage(tmp_path / "checkpoints" / "1")
    return open_storage(f"{request.getfixturevalue('gcs_bucket')}/checkpoints/1")


def put(storage: Storage, **changes: object) -> None:
    """A lease of a trainer on another machine that lives as far as anybody can tell."""
    holder = Holder(
        host="node-7", machine="another", pid=1, started=5, since="2026-01-01T00:00:00+00:00", renewed_s=time.time()
    )
    storage.write(LEASE, holder.model_copy(update=changes).canonical_json().encode())


def test_a_lease_is_given_back(storage: Storage) -> None:
    with leased(storage, lease_s=SHORT_S):
        assert json.loads(storage.read(LEASE).data)["pid"] == os.getpid()
    assert not storage.exists(LEASE)
    with leased(storage, lease_s=SHORT_S), pytest.raises(UserError, match="another process trains this"):
        leased(storage, lease_s=SHORT_S).__enter__()


def test_a_second_trainer_of_this_machine_is_refused_at_once(storage: Storage, tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "from components.cxr.storage.storage import open_storage\n"
        "from components.train.lease import leased\n"
        "with leased(open_storage(sys.argv[1])):\n"
        "    print('held', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    first = subprocess.Popen(
        [sys.executable, "-c", script, storage.uri], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert first.stdout is not None
    assert first.stdout.readline() == "held\n"
    start = time.monotonic()
    with pytest.raises(UserError, match=rf"process {first.pid}, since 20\d\d-.*60 s later") as error, leased(storage):
        pass
    assert error.value.code == "training-held"
    assert os.uname().nodename in str(error.value)
    first.send_signal(signal.SIGKILL)  # leaves its lease, and a process that nobody has reaped
    os.waitid(os.P_PID, first.pid, os.WEXITED | os.WNOWAIT)
    with leased(storage):
        assert json.loads(storage.read(LEASE).data)["pid"] == os.getpid()
    assert time.monotonic() - start < 50, "a dead process of this machine is not waited for"
    first.wait()
    for pipe in (first.stdin, first.stdout):
        assert pipe is not None
        pipe.close()


def test_a_restarted_process_with_the_same_number_is_another_one(storage: Storage) -> None:
    put(storage, machine=_machine(), pid=os.getpid(), started=(_started(os.getpid()) or 0) - 1)
    start = time.monotonic()
    with leased(storage, lease_s=60.0):
        assert time.monotonic() - start < 40


def test_a_silent_trainer_elsewhere_gives_way_after_the_lease(
    storage: Storage, capsys: pytest.CaptureFixture[str]
) -> None:
    put(storage)
    start = time.monotonic()
    with leased(storage, lease_s=SHORT_S):
        assert SHORT_S <= time.monotonic() - start < SHORT_S + 30
        assert json.loads(storage.read(LEASE).data)["pid"] == os.getpid()
    assert capsys.readouterr().out == "train: waiting up to 1 s to see whether the trainer on node-7 lives\n"


@pytest.mark.parametrize("damage", [b"", b"{", b"[]"])
def test_a_damaged_lease_gives_way_too(damage: bytes, storage: Storage) -> None:
    storage.write(LEASE, damage)
    with leased(storage, lease_s=SHORT_S):
        assert json.loads(storage.read(LEASE).data)["pid"] == os.getpid()


def test_a_trainer_elsewhere_that_renews_keeps_it(storage: Storage) -> None:
    put(storage)
    stop = threading.Event()

    def renew() -> None:
        while not stop.wait(0.1):
            put(storage)

    thread = threading.Thread(target=renew)
    thread.start()
    try:
        with (
            pytest.raises(UserError, match=r"found node-7, process 1, since 2026-01-01T00:00:00\+00:00"),
            leased(storage, lease_s=20.0),
        ):
            pass
    finally:
        stop.set()
        thread.join()


def test_a_clock_that_is_wrong_by_minutes_kills_nobody(storage: Storage) -> None:
    put(storage, renewed_s=time.time() - 300.0)
    start = time.monotonic()
    with leased(storage, lease_s=SHORT_S):
        assert time.monotonic() - start >= SHORT_S


def test_a_lease_of_yesterday_is_not_waited_for(storage: Storage) -> None:
    put(storage, renewed_s=time.time() - 86_400.0)
    start = time.monotonic()
    with leased(storage, lease_s=60.0):
        assert time.monotonic() - start < 40


def test_a_held_lease_is_renewed_without_checkpoints(storage: Storage) -> None:
    with leased(storage, lease_s=SHORT_S):
        before = storage.read(LEASE).generation
        time.sleep(SHORT_S)
        assert storage.read(LEASE).generation != before


def test_who_lost_the_lease_writes_no_checkpoint_and_leaves_the_new_holders_lease(storage: Storage) -> None:
    with leased(storage, lease_s=60.0) as lease:
        lease.renew()
        put(storage)  # this process slept for long
        with pytest.raises(UserError, match="node-7"):
            lease.renew()
    assert json.loads(storage.read(LEASE).data)["host"] == "node-7"


def test_of_many_who_come_at_once_one_trains(storage: Storage) -> None:
    results: list[str] = []
    gate, done = threading.Barrier(6), threading.Event()

    def come() -> None:
        gate.wait()
        try:
            with leased(storage, lease_s=60.0):
                results.append("trains")
                done.wait(30)
        except UserError:
            results.append("refused")

    threads = [threading.Thread(target=come) for _ in range(6)]
    for thread in threads:
        thread.start()
    while len(results) < 6 and any(thread.is_alive() for thread in threads):
        time.sleep(0.05)
    done.set()
    for thread in threads:
        thread.join()
    assert sorted(results) == ["refused"] * 5 + ["trains"]


@pytest.mark.parametrize("here", [True, False])
def test_who_may_wait_takes_the_lease_when_its_holder_has_ended(
    here: bool, storage: Storage, capsys: pytest.CaptureFixture[str]
) -> None:
    place: dict[str, object] = {}
    if here:
        place = {"machine": _machine(), "pid": os.getpid(), "started": _started(os.getpid())}
    put(storage, **place)
    ended = threading.Event()

    def train() -> None:
        for _ in range(20):
            time.sleep(0.1)
            put(storage, **place)
        ended.set()
        storage.delete(LEASE)

    thread = threading.Thread(target=train)
    thread.start()
    with leased(storage, wait=True, lease_s=20.0):
        assert ended.is_set()
    thread.join()
    assert capsys.readouterr().out.count("process 1, since" if not here else f"process {os.getpid()}, since") == 1
