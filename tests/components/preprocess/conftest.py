"""A tiny MIMIC-CXR and a tiny CSV table, made with pydicom; every id is made up."""

from __future__ import annotations

import csv
import gzip
import http.client
import io
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest

from components.cxr.films.pixels import encode_png
from components.cxr.labels import PATHOLOGIES

DicomWriter = Callable[..., bytes]


@dataclass(frozen=True)
class TinyMimic:
    """Where the tiny MIMIC-CXR lies and what is special in it."""

    dir: Path
    num_films: int
    unlabeled_study: str
    study_without_report: str
    two_film_study: str

    def film(self, study: str, index: int = 0) -> Path:
        """Path of a study's film."""
        return sorted(self.dir.rglob(f"s{study}/*.dcm"))[index]

    def values(self, **preprocess: Any) -> dict[str, dict[str, Any]]:
        """Sections data and preprocess of a configuration, in this process and with small shards."""
        step = {"pixels": {"size": 32}, "images_per_shard": 4, "num_workers": 0}
        return {"data": {"adapter": "mimic-cxr", "dir": str(self.dir)}, "preprocess": step | preprocess}


@pytest.fixture(scope="session")
def pristine_mimic(tmp_path_factory: pytest.TempPathFactory, dicom_bytes: DicomWriter) -> TinyMimic:
    """The tiny MIMIC-CXR that every test gets a copy of."""
    return make_mimic(tmp_path_factory.mktemp("source") / "mimic", dicom_bytes)


@pytest.fixture
def mimic(tmp_path: Path, pristine_mimic: TinyMimic) -> TinyMimic:
    """12 studies of 8 patients with 18 films: one unlabeled, one without a report, reports in both layouts."""
    shutil.copytree(pristine_mimic.dir, tmp_path / "mimic")
    return replace(pristine_mimic, dir=tmp_path / "mimic")


def make_mimic(folder: Path, dicom_bytes: DicomWriter) -> TinyMimic:
    """Write the tables, films and reports."""
    rng = np.random.default_rng(1)
    records, splits, labels, metadata = [], [], [], []
    for i in range(12):
        patient, study = f"1000{i % 8:04}", f"5000{i:04}"
        split = "train" if i % 8 < 5 else "validate" if i % 8 < 6 else "test"
        place = f"p{patient[:2]}/p{patient}/s{study}"
        for j in range(1 + i % 2):
            image = f"{i:08x}-{j:08x}-0000"
            path = folder / "files" / place / f"{image}.dcm"
            path.parent.mkdir(parents=True, exist_ok=True)
            stored = rng.integers(0, 4096, (40, 50)).astype(np.uint16)
            tags = {"PatientAge": f"{40 + i:03}Y", "PatientSex": "FM"[i % 2], "ViewPosition": "AP"}
            path.write_bytes(dicom_bytes(stored, bits_stored=12, **tags))
            records.append([patient, study, image, f"files/{place}/{image}.dcm"])
            splits.append([image, study, patient, split])
            metadata.append([image, patient, study, "LATERAL" if j else "", "" if j else "postero-anterior"])
        if i != 3:
            states = ["1.0", "0.0", "-1.0", ""]
            labels.append([patient, study, *(states[(i + k) % 4] for k in range(14))])
        if i != 4:
            base = folder if i % 2 else folder / "mimic-cxr-reports"
            report = base / "files" / f"{place}.txt"
            report.parent.mkdir(parents=True, exist_ok=True)
            report.write_text(f" INDICATION:  cough {i}\n\n FINDINGS:  opacity {i}\n")
    write_csv(folder / "cxr-record-list.csv.gz", ["subject_id", "study_id", "dicom_id", "path"], records)
    write_csv(folder / "mimic-cxr-2.0.0-split.csv.gz", ["dicom_id", "study_id", "subject_id", "split"], splits)
    write_csv(folder / "mimic-cxr-2.0.0-chexpert.csv", ["subject_id", "study_id", *PATHOLOGIES], labels)
    header = ["dicom_id", "subject_id", "study_id", "ViewPosition", "ViewCodeSequence_CodeMeaning"]
    write_csv(folder / "mimic-cxr-2.0.0-metadata.csv.gz", header, metadata)
    return TinyMimic(folder, len(records), "50000003", "50000004", "50000001")


@pytest.fixture
def gcs_requests(gcs_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, str | None]]]:
    """Path and Range of each GET that the client sends to the storage server, as it goes over the wire."""
    seen: list[tuple[str, str | None]] = []

    class Recorder(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append((self.path, self.headers["Range"]))
            self.do_POST()

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"] or 0))
            server = http.client.HTTPConnection(urlsplit(gcs_server).netloc)
            server.request(self.command, self.path, body, headers=dict(self.headers))
            answer = server.getresponse()
            data = answer.read()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("transfer-encoding", "content-length", "connection", "date", "server"):
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)
            server.close()

        def log_message(self, *arguments: object) -> None:
            """Nothing on the terminal."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Recorder) as recorder:
        Thread(target=recorder.serve_forever, daemon=True).start()
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{recorder.server_port}")
        yield seen
        recorder.shutdown()


@dataclass(frozen=True)
class TinyTable:
    """A CSV table with PNG films beside it."""

    path: Path
    header: list[str]
    rows: list[list[str]]

    def values(self, **data: Any) -> dict[str, dict[str, Any]]:
        """Sections data and preprocess of a configuration."""
        columns = {"image": "file", "patient": "patient", "split": "part"}
        source = {"adapter": "csv", "table": str(self.path), "image_dir": str(self.path.parent / "films")}
        step = {"pixels": {"size": 16}, "num_workers": 0}
        return {"data": source | {"columns": columns} | data, "preprocess": step}

    def rewrite(self, *, header: list[str] | None = None, rows: Sequence[Sequence[str]] | None = None) -> None:
        """Write the table again with another header or other rows."""
        write_csv(self.path, self.header if header is None else header, self.rows if rows is None else rows)


@pytest.fixture
def table(tmp_path: Path) -> TinyTable:
    """10 PNG films of 10 patients: file, patient, part (train or test), Edema and Fracture."""
    films = tmp_path / "table" / "films"
    films.mkdir(parents=True)
    rng = np.random.default_rng(2)
    rows = []
    for i in range(10):
        (films / f"f{i}.png").write_bytes(encode_png(rng.integers(0, 256, (16, 16)).astype(np.uint8)))
        rows.append(
            [f"f{i}.png", f"pat{i}", "train" if i < 7 else "test", ["1", "0", "-1", ""][i % 4], ["0", "1.0"][i % 2]]
        )
    tiny = TinyTable(tmp_path / "table" / "labels.csv", ["file", "patient", "part", "Edema", "Fracture"], rows)
    tiny.rewrite()
    return tiny


def write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    buffer = io.StringIO(newline="")
    csv.writer(buffer).writerows([header, *rows])
    data = buffer.getvalue().encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)


@pytest.fixture
def beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which the repository would lie, where shipped configurations look for public sets."""
    (tmp_path / "repository").mkdir()
    monkeypatch.chdir(tmp_path / "repository")
    return tmp_path


@pytest.fixture
def dicom(dicom_bytes: DicomWriter) -> Callable[[Path], None]:
    """Writes a DICOM film of noise in 12 bits."""

    def write(path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        stored = np.random.default_rng(len(str(path))).integers(0, 4096, (40, 40)).astype(np.uint16)
        path.write_bytes(dicom_bytes(stored, bits_stored=12))

    return write
