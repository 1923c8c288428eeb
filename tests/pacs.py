"""The Orthanc of `infra/orthanc/ci.sh` as the tests see it: emptied, filled, and asked in its own REST API."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from tests.components.processes import wait_for

__all__ = ["Orthanc", "orthanc", "orthanc_of_a_token"]


class Orthanc:
    """A running Orthanc, by its address with user and password."""

    def __init__(self, address: str, *, token: str | None = None) -> None:
        parts = urlsplit(address)
        self._token = token
        self.user, self.password = parts.username or "", parts.password or ""
        self.root = f"{parts.scheme}://{parts.hostname}:{parts.port}"
        self.dicomweb = f"{self.root}/dicom-web"

    def request(self, method: str, path: str, **options: Any) -> Any:
        """The JSON that it answers with."""
        known: dict[str, Any] = {"auth": (self.user, self.password)}
        if self._token is not None:
            known = {"headers": {"Authorization": f"Bearer {self._token}"}}
        answer = requests.request(method, f"{self.root}{path}", timeout=60, **known, **options)
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


@contextlib.contextmanager
def orthanc_of_a_token(folder: Path, token: str) -> Iterator[Orthanc]:
    """Another Orthanc in a folder of its own, without users: its Lua script lets nobody in but by the bearer token."""
    if not os.environ.get("CXRFLOW_ORTHANC"):
        pytest.skip("no Orthanc: infra/orthanc/ci.sh make test-orthanc installs one")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    (folder / "storage").mkdir()
    (folder / "filter.lua").write_text(
        "function IncomingHttpRequestFilter(method, uri, ip, username, httpHeaders)\n"
        f"  return httpHeaders['authorization'] == 'Bearer {token}'\n"
        "end\n"
    )
    values = {
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "HttpPort": port,
        "DicomServerEnabled": False,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "StableAge": 1,
        "MaximumStorageCacheSize": 0,
        "LuaScripts": [str(folder / "filter.lua")],
        "Plugins": ["/usr/share/orthanc/plugins"],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }
    (folder / "orthanc.json").write_text(json.dumps(values))
    server = Orthanc(f"http://127.0.0.1:{port}", token=token)

    def answers() -> bool:
        assert process.poll() is None, (folder / "log").read_text()
        with contextlib.suppress(requests.ConnectionError):
            return isinstance(server.request("GET", "/dicom-web/studies"), list)
        return False

    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(["Orthanc", str(folder / "orthanc.json")], stdout=log, stderr=log) as process,
    ):
        try:
            wait_for(answers)
            yield server
        finally:
            process.terminate()


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
