"""Whom the router takes from, asks and sends to: Orthanc or a folder, a cxrflow server, a PACS or a folder."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import NamedTuple, Protocol
from urllib.parse import urlsplit

import httpx
import pydicom
import requests
from dicomweb_client import DICOMwebClient

from components.cxr.dicomweb_server import PASSWORD_VARIABLE, USER_VARIABLE, authorization, refused
from components.cxr.errors import UserError
from components.cxr.storage.atomic import put_in_place, renamed_to
from components.serve.client import open_client
from components.serve.keys import API_KEY_VARIABLE
from components.serve.route_errors import NoAnswerError, UnavailableError, UnusableFilmsError
from components.serve.route_sources import FolderSource, OrthancSource, Source
from components.serve.schemas import ErrorReply, Limits, ModelReply, PredictReply

__all__ = ["Ends", "FolderSink", "Server", "Sink", "StowSink", "open_ends", "write_whole"]

TIMEOUT_S = 60.0
_BUSY = (408, 429, 502, 503, 504)


class Server:
    """A running cxrflow server.

    Args:
        client: whose base is the server's address, with a key where it asks for one.
    """

    def __init__(self, client: httpx.Client) -> None:
        self._client = client
        self.where = str(client.base_url)

    def limits(self) -> Limits:
        """What a study may hold.

        Raises:
            UserError: no cxrflow server there, or one that refuses the key.
        """
        try:
            response = self._client.get("/v1/model")
        except httpx.TransportError as error:
            raise UserError(
                "no-server",
                "no cxrflow server answers",
                where=self.where,
                found=type(error).__name__,
                remedy="Start one: python -m components.serve --config FILE.",
            ) from None
        self._check_key(response)
        try:
            return ModelReply.model_validate_json(response.content).limits
        except ValueError:
            remedy = "Use a server of the same version."
            raise UserError(
                "no-server", "this is no cxrflow server", where=self.where, found=response.status_code, remedy=remedy
            ) from None

    def ask(self, films: list[bytes]) -> PredictReply:
        """The answer to a study.

        Raises:
            UnusableFilmsError: the server refuses a film; its code is the reason.
            NoAnswerError: it refuses all of them together.
            UnavailableError: it does not answer, is busy, or fails.
            UserError: it refuses the key, or its answer is not of this version.
        """
        try:
            response = self._client.post("/v1/predict", files=[("files", ("film", film)) for film in films])
        except httpx.TransportError as error:
            raise UnavailableError("server", type(error).__name__) from None
        self._check_key(response)
        if response.status_code >= 500 or response.status_code in _BUSY:
            raise UnavailableError("server", str(response.status_code), is_up=response.status_code not in _BUSY)
        if response.status_code != 200:
            raise _refusal(response, num_films=len(films))
        try:
            return PredictReply.model_validate_json(response.content)
        except ValueError:
            raise UserError(
                "other-version",
                "the server's answer is of another version",
                where=self.where,
                remedy="Run the router of the server's version.",
            ) from None

    def _check_key(self, response: httpx.Response) -> None:
        if response.status_code in (401, 403):
            raise UserError(
                "server-refuses",
                "the server refuses the API key",
                where=self.where,
                found=response.status_code,
                remedy="Set CXRFLOW_API_KEY to a key of its file.",
            )


def _refusal(response: httpx.Response, *, num_films: int) -> NoAnswerError:
    try:
        error = ErrorReply.model_validate_json(response.content).error
    except ValueError:
        return NoAnswerError(f"server-{response.status_code}")
    if error.film is not None and 1 <= error.film <= num_films:
        return UnusableFilmsError(error.code, places=[error.film - 1])
    return NoAnswerError(error.code)


class Sink(Protocol):
    """Where reports go."""

    def send(self, report: bytes) -> None:
        """Put a report there; again is as good as once. Raises NoAnswerError, UnavailableError, UserError."""


class StowSink:
    """A PACS by STOW-RS.

    Args:
        address: the DICOMweb root.
        headers: with the credentials.
    """

    def __init__(self, address: str, headers: dict[str, str]) -> None:
        self._address, self._headers = address, headers

    def send(self, report: bytes) -> None:
        """As Sink's."""
        with requests.Session() as session:  # a session is not for several threads
            session.trust_env = False
            session.headers.update(self._headers)
            client = DICOMwebClient(self._address, session=session, timeout=TIMEOUT_S)
            client.set_http_retry_params(retry=False)  # the router tries again
            dataset = pydicom.dcmread(io.BytesIO(report))
            try:
                answer = client.store_instances([dataset])
            except requests.HTTPError as error:
                status = 500 if error.response is None else error.response.status_code
                if status in (401, 403):
                    raise refused(self._address, status) from None
                if status >= 500 or status in _BUSY:
                    raise UnavailableError("pacs", str(status), is_up=status not in _BUSY) from None
                if status in (404, 405):
                    raise UserError(
                        "no-stow",
                        "no STOW-RS here",
                        where=self._address,
                        found=status,
                        remedy="Check --to: it is the DICOMweb root, such as http://127.0.0.1:8042/dicom-web.",
                    ) from None
                raise NoAnswerError("report-refused") from None
            except requests.RequestException as error:
                raise UnavailableError("pacs", type(error).__name__) from None
            if answer.get("FailedSOPSequence"):
                raise NoAnswerError("report-refused")


class FolderSink:
    """A local folder with one file a report, by its UID."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def send(self, report: bytes) -> None:
        """As Sink's."""
        uid = pydicom.dcmread(io.BytesIO(report), specific_tags=["SOPInstanceUID"]).SOPInstanceUID
        write_whole(self._folder / f"{uid}.dcm", report)


def write_whole(path: Path, data: bytes) -> None:
    """A file that is there whole or not at all."""
    with renamed_to(path) as partial:
        partial.write_bytes(data)
        put_in_place(partial, path)


class Ends(NamedTuple):
    """What a study goes through."""

    source: Source
    server: Server
    sink: Sink
    fhir: Path | None
    """Folder of FHIR reports; None for none."""


def open_ends(
    source: str,
    *,
    server: str,
    to: str | None,
    fhir: Path | None,
    from_now: bool,
    settle_s: float,
    certificate: str | None,
) -> Ends:
    """Everything that a router speaks with; the arguments are the command's.

    Raises:
        UserError: an address with a password, no such folder, nowhere to send to, no Orthanc or cxrflow server there,
            credentials that are refused, or a certificate that cannot be read.
    """
    allowed = authorization()
    headers = {} if allowed is None else {"Authorization": allowed}
    found: Source
    if _is_address(source, "SOURCE"):
        client = httpx.Client(base_url=source, headers=headers, timeout=TIMEOUT_S, trust_env=False)
        found = OrthancSource(client, from_now=from_now)
        found.check()
        to = to or f"{source.rstrip('/')}/dicom-web"
    else:
        if not Path(source).is_dir():
            raise UserError("no-folder", "there is no such folder", where="SOURCE", expected="a URL or a folder")
        if from_now:
            raise UserError("bad-option", "--from-now is for Orthanc alone", remedy="Use an empty folder.")
        found = FolderSource(Path(source), settle_s=settle_s)
    if to is None:
        raise UserError("no-target", "there is nowhere to send reports to", where="--to", expected="a URL or a folder")
    if not _is_address(to, "--to") and Path(to).resolve().is_relative_to(Path(source).resolve()):
        raise UserError("bad-target", "reports would go into the source itself", where="--to")
    sink = StowSink(to, headers) if _is_address(to, "--to") else FolderSink(Path(to))
    _is_address(server, "--server", needed=True)
    key = os.environ.get(API_KEY_VARIABLE)
    asked = Server(open_client(server, timeout_s=TIMEOUT_S, key=key, certificate=certificate))
    return Ends(found, asked, sink, fhir)


def _is_address(text: str, option: str, *, needed: bool = False) -> bool:
    """Whether it is a URL; one with a user or a password in it would be in the list of processes."""
    parts = urlsplit(text)
    if parts.scheme in ("http", "https") and parts.hostname:
        if parts.username or parts.password:
            raise UserError(
                "password-in-address",
                "an address has a user or a password in it",
                where=option,
                remedy=f"Set {USER_VARIABLE} and {PASSWORD_VARIABLE} in the environment.",
            )
        return True
    if needed or "://" in text:
        raise UserError("bad-address", "this is no address of HTTP", where=option, expected="http:// or https://")
    return False
