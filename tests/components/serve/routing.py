"""Studies for the router, the command as a process, and an Orthanc to send to."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

__all__ = [
    "SECRET", "Orthanc", "command", "comments_of", "enlarge", "environment", "put_studies", "reports_in", "routed",
    "shorten",
]  # fmt: skip

SECRET = "Doe^Jäne"
REPOSITORY = Path(__file__).parents[3]
_STORED = np.arange(60 * 48, dtype=np.uint16).reshape(60, 48)
_HEADER = {"PatientName": SECRET, "SpecificCharacterSet": "ISO_IR 100", "StudyDate": "20260102", "StudyTime": "101112"}


def put_studies(folder: Path, dicom_bytes: Any, numbers: range, *, num_films: int = 1, **tags: Any) -> None:
    """Files of studies with a film or more each, in a subfolder by number."""
    for number in numbers:
        study, series = (generate_uid(entropy_srcs=[kind, str(number)]) for kind in ("study", "series"))
        place = folder / f"{number:04}"
        place.mkdir(parents=True, exist_ok=True)
        for i in range(num_films):
            film = dicom_bytes(
                (_STORED + 37 * number + i) % 4096,
                bits_stored=12,
                **{
                    **_HEADER,
                    "PatientID": f"P{number}",
                    "StudyInstanceUID": study,
                    "SeriesInstanceUID": series,
                    "SOPInstanceUID": generate_uid(entropy_srcs=["film", str(number), str(i)]),
                    **tags,
                },
            )
            (place / f"{i}.dcm").write_bytes(film)


def enlarge(film: Path) -> None:
    """Add a MiB behind its pixels, which is more than the tests' server takes."""
    dataset = pydicom.dcmread(film)
    dataset.private_block(0x7FE1, "cxrflow", create=True).add_new(1, "OB", bytes(1 << 20))
    dataset.save_as(film)


def shorten(film: Path) -> None:
    """Take away the end of its pixels."""
    film.write_bytes(film.read_bytes()[:-300])


def reports_in(folder: Path) -> list[Path]:
    """The reports that were sent to a folder."""
    return sorted(folder.glob("*.dcm"))


def command(source: str | Path, state: Path, server: str, *arguments: str) -> list[str]:
    """The router's command line."""
    words = [sys.executable, "-m", "components.serve", "route", str(source), "--state", str(state), "--server", server]
    return [*words, *arguments]


def environment(**values: str) -> dict[str, str]:
    """This process's environment with the repository in it."""
    return {**os.environ, "PYTHONPATH": str(REPOSITORY), **values}


def routed(
    source: str | Path, state: Path, server: str, *arguments: str, **values: str
) -> subprocess.CompletedProcess[str]:
    """The router until nothing waits."""
    words = command(source, state, server, "--once", *arguments)
    return subprocess.run(
        words, cwd=REPOSITORY, env=environment(**values), capture_output=True, text=True, check=False, timeout=600
    )


def comments_of(report: Dataset) -> list[str]:
    """What a report says to its reader before the numbers."""
    names = [item.ConceptNameCodeSequence[0].CodeValue for item in report.ContentSequence]
    assert names[-1] == "126010"  # the numbers
    found = [item for item, name in zip(report.ContentSequence, names, strict=True) if name == "121106"]
    assert all((item.ValueType, item.RelationshipType) == ("TEXT", "CONTAINS") for item in found)
    return [item.TextValue for item in found]


class Orthanc:
    """A running Orthanc, by the address of infra/orthanc/ci.sh."""

    def __init__(self, address: str) -> None:
        parts = urlsplit(address)
        self.user, self.password = parts.username or "", parts.password or ""
        self.address = f"http://{parts.hostname}:{parts.port}"
        self.web = httpx.Client(base_url=self.address, auth=(self.user, self.password), timeout=60, trust_env=False)

    def close(self) -> None:
        """Close its connections."""
        self.web.close()

    @property
    def credentials(self) -> dict[str, str]:
        """For the router's environment."""
        return {"CXRFLOW_PACS_USER": self.user, "CXRFLOW_PACS_PASSWORD": self.password}

    def clear(self) -> None:
        """Delete everything, and the feed."""
        for study in self.web.get("/studies").json():
            self.web.delete(f"/studies/{study}").raise_for_status()
        self.web.delete("/changes").raise_for_status()

    def send(self, folder: Path) -> None:
        """Store every file in a folder and all folders in it."""
        for path in sorted(folder.rglob("*.dcm")):
            self.web.post("/instances", content=path.read_bytes()).raise_for_status()

    def reports(self) -> dict[str, list[bytes]]:
        """Structured reports by StudyInstanceUID, for every study that there is."""
        found: dict[str, list[bytes]] = {}
        for study in self.web.get("/studies?expand").json():
            series = self.web.get(f"/studies/{study['ID']}/series").json()
            reports = [i for each in series if each["MainDicomTags"].get("Modality") == "SR" for i in each["Instances"]]
            files = [self.web.get(f"/instances/{i}/file").content for i in reports]
            found[study["MainDicomTags"]["StudyInstanceUID"]] = files
        return found

    def num_reports(self) -> int:
        """How many there are in all."""
        return len(self.web.post("/tools/find", json={"Level": "Series", "Query": {"Modality": "SR"}}).json())

    def numbers_of_reports(self) -> Counter[int]:
        """How many studies have how many reports."""
        found: Counter[int] = Counter()
        for study in self.web.get("/studies?expand").json():
            series = self.web.get(f"/studies/{study['ID']}/series").json()
            found[sum(len(e["Instances"]) for e in series if e["MainDicomTags"].get("Modality") == "SR")] += 1
        return found
