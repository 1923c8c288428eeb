"""Storage in a bucket behind a proxy that breaks requests: every fault alone, and faults that never stop."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import pytest

from components.cxr.errors import UserError
from components.cxr.storage.gcs import DEADLINE_VARIABLE, GcsStorage
from components.cxr.storage.storage import ABSENT, StaleWriteError, Storage, open_storage
from tests.components.fault_proxy import FAULTS, FaultProxy, fault_proxy

# The client leaves a socket of an answer that it did not read to the garbage collector.
pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
]

SMALL = bytes(range(256)) * 40
LARGE = SMALL * 900  # 9.2 MB: the client sends it as a resumable upload


def slow_but(*faults: str, quick: Collection[str]) -> list[Any]:
    """Parameters of which most are slow."""
    return [fault if fault in quick else pytest.param(fault, marks=pytest.mark.slow) for fault in faults]


@pytest.fixture
def proxy(gcs_bucket: str, gcs_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    """A proxy without faults; clients made in the test go through it."""
    monkeypatch.setenv(DEADLINE_VARIABLE, "8")
    with fault_proxy(gcs_server, seed=1, rate=0.0, stall_s=3.0) as running:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", running.url)
        yield running
    gc.collect()


@pytest.fixture
def direct(gcs_bucket: str, gcs_server: str) -> Storage:
    """The same folder without the proxy; its client was made before."""
    storage = open_storage(f"{gcs_bucket}/set")
    assert isinstance(storage, GcsStorage)
    assert storage.bucket.client is not None
    return storage


@pytest.mark.parametrize("data", [SMALL, pytest.param(LARGE, marks=pytest.mark.slow)], ids=["small", "large"])
@pytest.mark.parametrize("fault", slow_but(*FAULTS, quick=set(FAULTS) - {"stall"}))
def test_one_fault_a_request_changes_nothing(
    fault: str, data: bytes, direct: Storage, proxy: FaultProxy, gcs_bucket: str, tmp_path: Path
) -> None:
    storage = open_storage(f"{gcs_bucket}/set")
    source, copy = tmp_path / "source", tmp_path / "copy"
    source.write_bytes(data)
    proxy.faults, proxy.rate = (fault,), 1.0
    steps: list[Callable[[], object]] = [
        lambda: storage.write("written", data, if_generation=ABSENT),
        lambda: storage.upload(source, "uploaded"),
        lambda: storage.download("uploaded", copy),
    ]
    for step in steps:
        proxy.budget = 1
        step()
    proxy.budget = 1
    assert storage.read("written").data == data
    assert copy.read_bytes() == data
    assert proxy.injected[fault] >= 2
    assert direct.sizes() == {"uploaded": len(data), "written": len(data)}
    assert direct.read("uploaded").data == data


@pytest.mark.parametrize(
    "fault", slow_but("429", "503", "reset", "stall", "cut-up", "short-up", quick={"503", "stall"})
)
def test_faults_without_end_are_one_error_in_time(
    fault: str, direct: Storage, proxy: FaultProxy, gcs_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(DEADLINE_VARIABLE, "2")
    storage = open_storage(f"{gcs_bucket}/set")
    proxy.faults, proxy.rate = (fault,), 1.0
    began = time.monotonic()
    with pytest.raises(UserError) as caught:
        storage.write("name-of-a-patient", SMALL)
    assert time.monotonic() - began < 2 + 8  # the deadline, the last attempt, and a busy machine
    message = str(caught.value)
    assert message.startswith(f"Google Cloud Storage keeps failing: {gcs_bucket}/set; found ")
    assert "for 2 s. Run the same command again to continue; CXRFLOW_GCS_DEADLINE_S sets" in message
    assert "patient" not in message
    assert direct.sizes() == {}


@pytest.mark.parametrize("fault", slow_but("cut-down", "short-down", "flip-down", quick={"short-down"}))
def test_damaged_answers_without_end_are_never_taken(
    fault: str, direct: Storage, proxy: FaultProxy, gcs_bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(DEADLINE_VARIABLE, "2")
    direct.write("a", SMALL)
    storage = open_storage(f"{gcs_bucket}/set")
    proxy.faults, proxy.rate = (fault,), 1.0
    for step in (lambda: storage.read("a"), lambda: storage.download("a", tmp_path / "a")):
        with pytest.raises(UserError, match="Google Cloud Storage keeps failing"):
            step()
    assert not list(tmp_path.iterdir())


def test_a_swapped_pointer_survives_a_lost_answer(direct: Storage, proxy: FaultProxy, gcs_bucket: str) -> None:
    """The second try of a write that was done finds its own bytes, and another's are still refused."""
    storage = open_storage(f"{gcs_bucket}/set")
    proxy.faults, proxy.rate, proxy.budget = ("reset-after",), 1.0, 1
    storage.write("p", b"mine", if_generation=ABSENT)
    assert proxy.injected["reset-after"] == 1
    with pytest.raises(StaleWriteError):
        storage.write("p", b"other", if_generation=ABSENT)
    assert direct.read("p").data == b"mine"


@pytest.mark.parametrize("text", ["soon", "0", "-5", "nan"])
def test_a_wrong_deadline_is_named(gcs_bucket: str, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv(DEADLINE_VARIABLE, text)
    with pytest.raises(UserError, match=f"bad value: CXRFLOW_GCS_DEADLINE_S; found {text}, expected seconds, above 0"):
        open_storage(gcs_bucket).exists("a")
