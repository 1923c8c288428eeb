"""Where the router's studies come from: Orthanc's change feed, or a folder of DICOM files."""

from __future__ import annotations

import hashlib
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import httpx

from components.cxr.dicomweb_server import refused
from components.cxr.errors import UserError
from components.cxr.films.dicom_headers import Header, read_headers
from components.cxr.storage.storage import open_storage
from components.serve.route_errors import UnavailableError, VanishedError

__all__ = ["FilmPlace", "FolderSource", "OrthancSource", "Source"]

MODALITIES = ("CR", "DX")
_PAGE = 1000
"""Changes asked for at a time."""


class FilmPlace(NamedTuple):
    """A film before it is read."""

    uid: str
    """(0008,0018); in a folder the file's name, where it has none."""
    place: str
    """Of the source's own."""


class Source(Protocol):
    """Studies that arrive."""

    @property
    def name(self) -> str:
        """What a state is tied to."""

    def arrived(self, seen: int | None) -> tuple[list[str], int, bool]:
        """Names of studies that there is news of since `seen`, up to where that is, and whether that is all."""

    def films(self, study: str) -> list[FilmPlace] | None:
        """Its films by UID; None while it still grows. Raises VanishedError."""

    def read(self, film: FilmPlace) -> bytes:
        """A film's file. Raises VanishedError, UnavailableError."""


class OrthancSource:
    """Orthanc's REST API; a study's name is Orthanc's, a hash.

    Args:
        client: whose base is the API's root.
        from_now: at the first start, leave out what is there already.
    """

    def __init__(self, client: httpx.Client, *, from_now: bool) -> None:
        self.name = str(client.base_url)
        self._client, self._from_now = client, from_now

    def check(self) -> None:
        """See whether it is an Orthanc that lets us in.

        Raises:
            UserError: it is not.
        """
        try:
            system = self._get("/system")
        except (UnavailableError, VanishedError) as error:
            found = error.found if isinstance(error, UnavailableError) else "404"
            remedy = "Check the address: it is the root of the REST API, without /dicom-web."
            raise UserError("no-orthanc", "no Orthanc answers", where=self.name, found=found, remedy=remedy) from None
        if not isinstance(system, dict) or "ApiVersion" not in system:
            raise UserError("no-orthanc", "this is no Orthanc", where=self.name, expected="the root of its REST API")

    def arrived(self, seen: int | None) -> tuple[list[str], int, bool]:
        """As Source's."""
        last = int(self._get("/changes?last")["Last"])
        if seen is None and self._from_now:
            return [], last, True
        start = 0 if seen is None or seen > last else seen  # a database that was emptied counts from the start
        page = self._get(f"/changes?since={start}&limit={_PAGE}")
        studies = [change["ID"] for change in page["Changes"] if change["ChangeType"] in ("NewStudy", "StableStudy")]
        return list(dict.fromkeys(studies)), int(page["Last"]), bool(page["Done"])

    def films(self, study: str) -> list[FilmPlace] | None:
        """As Source's."""
        if not self._get(f"/studies/{study}")["IsStable"]:
            return None
        series = self._get(f"/studies/{study}/series")
        ids = {i for each in series if each["MainDicomTags"].get("Modality") in MODALITIES for i in each["Instances"]}
        if not ids:
            return []
        instances = self._get(f"/studies/{study}/instances")
        return sorted(FilmPlace(i["MainDicomTags"]["SOPInstanceUID"], i["ID"]) for i in instances if i["ID"] in ids)

    def read(self, film: FilmPlace) -> bytes:
        """As Source's."""
        return self._response(f"/instances/{film.place}/file").content

    def _get(self, path: str) -> Any:
        try:
            return self._response(path).json()
        except ValueError:
            raise UnavailableError("source", "no JSON", is_up=True) from None

    def _response(self, path: str) -> httpx.Response:
        try:
            response = self._client.get(path)
        except httpx.TransportError as error:
            raise UnavailableError("source", type(error).__name__) from None
        if response.status_code in (401, 403):
            raise refused(self.name, response.status_code)
        if response.status_code == 404 and not path.startswith("/changes"):
            raise VanishedError
        if response.status_code != 200:
            raise UnavailableError("source", str(response.status_code), is_up=True)
        return response


class FolderSource:
    """A local folder and all folders in it; a study's name is a hash of its UID, or of the file without one.

    Args:
        settle_s: seconds without a change after which a study is whole.
    """

    def __init__(self, folder: Path, *, settle_s: float) -> None:
        self.name = str(folder.resolve())
        self._storage, self._folder, self._settle_s = open_storage(str(folder)), folder, settle_s
        self._known: dict[str, tuple[int, int]] = {}
        """By file its size and time of change, as they were when its header was read."""
        self._studies: dict[str, dict[str, str]] = {}
        """By study its films' files and UIDs."""
        self._failing: set[str] = set()
        """Files whose headers the disk did not give."""
        self._lock = threading.Lock()

    def arrived(self, seen: int | None) -> tuple[list[str], int, bool]:
        """As Source's; a file that the disk does not give now is tried again."""
        present = {}
        try:
            names = self._storage.sizes()
        except UserError as error:
            raise UnavailableError("source", error.what) from None
        for name in names:
            status = self._stat(name)
            if status is not None:
                present[name] = status
        changed = {name: status[0] for name, status in present.items() if self._known.get(name) != status}
        headers, failing = self._headers(changed)
        touched, growing = set(), set()
        with self._lock:
            for study, films in self._studies.items():
                for name in films.keys() & (changed.keys() | (self._known.keys() - present.keys())):
                    del films[name]
                    if name in changed:  # a film that is gone is no news: what was answered may be tidied up
                        touched.add(study)
            for name, header in headers:
                has_uids = header.study_id and header.image_id
                if header.is_image and not has_uids and not self._is_settled(present[name]):
                    growing.add(name)  # its header may not be whole yet
                elif header.is_image:  # one without UIDs gets a reason
                    study = hashlib.sha256((header.study_id or name).encode()).hexdigest()[:40]
                    self._studies.setdefault(study, {})[name] = header.image_id or name
                    touched.add(study)
            self._known = {name: status for name, status in present.items() if name not in failing | growing}
        return sorted(touched), seen or 0, not growing

    def films(self, study: str) -> list[FilmPlace] | None:
        """As Source's."""
        found: dict[str, FilmPlace] = {}
        with self._lock:
            films = {name: (uid, self._known[name]) for name, uid in sorted(self._studies.get(study, {}).items())}
        for name, (uid, known) in films.items():
            status = self._stat(name)
            if status is None:
                continue
            if status != known or not self._is_settled(status):
                return None
            found.setdefault(uid, FilmPlace(uid, name))
        if not found:
            raise VanishedError
        return sorted(found.values())

    def read(self, film: FilmPlace) -> bytes:
        """As Source's."""
        try:
            return self._storage.read(film.place).data
        except FileNotFoundError:
            raise VanishedError from None
        except OSError as error:
            raise UnavailableError("source", error.strerror or type(error).__name__, is_up=True) from None

    def _headers(self, sizes: Mapping[str, int]) -> tuple[list[tuple[str, Header]], set[str]]:
        headers: list[tuple[str, Header]] = []
        failing: set[str] = set()
        for name, size in sizes.items():
            try:
                read = read_headers(self._storage, {name: size})
                headers.extend((name, header) for name, header in read if header is not None)
            except UserError as error:
                failing.add(name)
                if name not in self._failing:
                    print(f"route: {error.what} ({error.found}); tried again", file=sys.stderr, flush=True)
        self._failing = failing
        return headers, failing

    def _is_settled(self, status: tuple[int, int]) -> bool:
        return time.time() - status[1] / 1e9 >= self._settle_s

    def _stat(self, name: str) -> tuple[int, int] | None:
        try:
            status = (self._folder / name).stat()
        except OSError:
            return None
        return status.st_size, status.st_ctime_ns  # a copy may keep its original's time of modification
