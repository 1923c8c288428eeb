"""The Orthanc of `infra/orthanc/ci.sh` as the tests see it: emptied, filled, and asked in its own REST API."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

__all__ = ["Orthanc", "orthanc"]


class Orthanc:
    """A running Orthanc, by its address with user and password."""

    def __init__(self, address: str) -> None:
        parts = urlsplit(address)
        self.user, self.password = parts.username or "", parts.password or ""
        self.root = f"{parts.scheme}://{parts.hostname}:{parts.port}"
        self.dicomweb = f"{self.root}/dicom-web"

    def request(self, method: str, path: str, **options: Any) -> Any:
        """The JSON that it answers with."""
        auth = (self.user, self.password)
        answer = requests.request(method, f"{self.root}{path}", auth=auth, timeout=60, **options)
        answer.raise_for_status()
        return json.loads(answer.content)

    def clear(self) -> None:
        for patient in self.request("GET", "/patients"):
            self.request("DELETE", f"/patients/{patient}")

    def fill(self, folder: Path) -> int:
        """Send every .dcm in a folder; how many there were."""
        films = sorted(folder.rglob("*.dcm"))
        for film in films:
            self.request("POST", "/instances", data=film.read_bytes())
        return len(films)

    def delete_study(self, uid: str) -> None:
        self._delete(uid, "Study")

    def delete_film(self, uid: str) -> None:
        self._delete(uid, "Instance")

    def _delete(self, uid: str, kind: str) -> None:
        (found,) = (each for each in self.request("POST", "/tools/lookup", data=uid) if each["Type"] == kind)
        self.request("DELETE", found["Path"])


@pytest.fixture
def orthanc() -> Iterator[Orthanc]:
    """The server, empty."""
    address = os.environ.get("CXRFLOW_ORTHANC")
    if not address:
        pytest.skip("no Orthanc: infra/orthanc/ci.sh make test-orthanc starts one")
    server = Orthanc(address)
    server.clear()
    yield server
    server.clear()
