"""A PACS behind DICOMweb: searched by QIDO-RS through dicomweb-client, its objects retrieved by WADO-RS as stored.

No message here names a study, a patient or a credential: addresses of requests hold the first two, so that the
exceptions of requests are never shown or chained.
"""

from __future__ import annotations

import errno
import logging
import re
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, TypeVar

import requests
from requests.auth import AuthBase

from components.cxr.dicomweb_server import DicomwebServer, authorization, refused
from components.cxr.errors import UserError
from components.cxr.storage.interface import deadline_of

__all__ = ["DEADLINE_VARIABLE", "UID", "Dicomweb", "value_of"]

DEADLINE_VARIABLE = "CXRFLOW_DICOMWEB_DEADLINE_S"
"""Environment variable: seconds for which one request is tried again (429, 5xx, broken connections, stalls)."""

UID = re.compile(r"[0-9]+(\.[0-9]+)*")
"""What may stand in an address as a UID."""

_DEADLINE_S = 120.0
_STALL_S = 30.0
"""Seconds without a byte after which a connection counts as broken; a quarter of a shorter deadline."""
_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
_PAGE = 500
"""Results that are asked for at a time; a server may give fewer."""
_AS_STORED = 'multipart/related; type="application/dicom"; transfer-syntax=*'

T = TypeVar("T")

logging.getLogger("dicomweb_client").setLevel(logging.CRITICAL)  # its lines hold addresses, with what is searched for


class Dicomweb:
    """A client of one server. Every method raises UserError where the server refuses or keeps failing.

    So does the making of one where the deadline's variable holds no seconds.

    Args:
        once: whether a request that fails is not tried again.
    """

    def __init__(self, server: DicomwebServer, *, once: bool = False) -> None:
        from dicomweb_client.web import DICOMwebClient  # in the images of preprocess and serve alone

        self.uri = server.url
        self._once = once
        self._deadline_s = deadline_of(DEADLINE_VARIABLE, _DEADLINE_S)
        self._timeout = min(_STALL_S, self._deadline_s / 4)
        self._session = requests.Session()
        self._session.auth = _Authorization(
            authorization(server.token_variable, server.user_variable, server.password_variable)
        )
        self._client = DICOMwebClient(server.url, session=self._session, permissive_uid=True, timeout=self._timeout)
        self._client.set_http_retry_params(retry=False)

    def studies(self, filters: dict[str, str]) -> Iterator[dict[str, Any]]:
        """The studies that match, each once, as DICOM JSON."""
        return self._pages("StudyInstanceUID", self._client.search_for_studies, filters)

    def series(self, study: str) -> Iterator[dict[str, Any]]:
        """The series of a study, as DICOM JSON."""
        fields = ["Modality", "BodyPartExamined"]
        return self._pages("SeriesInstanceUID", self._client.search_for_series, {}, study, fields=fields)

    def instances(self, study: str, series: str) -> Iterator[dict[str, Any]]:
        """The objects of a series, as DICOM JSON."""
        return self._pages("SOPInstanceUID", self._client.search_for_instances, {}, study, series)

    def retrieve(self, study: str, series: str, instance: str) -> bytes:
        """One object's file, in the transfer syntax in which it is stored.

        Raises:
            FileNotFoundError: it is not there any more.
        """
        address = f"{self.uri}/studies/{study}/series/{series}/instances/{instance}"

        def get() -> bytes:
            answer = self._session.get(address, headers={"Accept": _AS_STORED}, timeout=self._timeout)
            answer.raise_for_status()
            return _only_part(answer)

        try:
            return self._tried(get)
        except _GoneError:
            raise FileNotFoundError(errno.ENOENT, "the PACS found it and has it no more") from None

    def _pages(
        self, keyword: str, search: Callable[..., Any], filters: dict[str, str], *ids: str, **options: Any
    ) -> Iterator[dict[str, Any]]:
        """Ask for page after page until one brings nothing new, as some servers do not count from `offset`."""
        seen: set[str] = set()
        while True:
            asked = partial(search, *ids, **options, offset=len(seen), limit=_PAGE, search_filters=filters)
            try:
                page = self._tried(asked)
            except _GoneError:
                if ids:  # the study went away during the search
                    return
                raise self._no_dicomweb("404 Not Found") from None
            if not isinstance(page, list) or not all(isinstance(each, dict) for each in page):
                raise self._no_dicomweb("JSON of another form")
            new = {uid: each for each in page if (uid := value_of(each, keyword)) not in seen}
            if not all(UID.fullmatch(uid) and len(uid) <= 64 for uid in new):
                raise self._no_dicomweb(f"a result without a {keyword}")
            if not new:
                return
            seen |= new.keys()
            yield from new.values()

    def _tried(self, request: Callable[[], T]) -> T:
        """The result of a request, which is tried again until the deadline."""
        deadline, pause = time.monotonic() + self._deadline_s, 0.2
        while True:
            try:
                return request()
            except requests.HTTPError as error:
                status = error.response.status_code
                found = f"{status} {error.response.reason}"
                if status in (404, 410):
                    raise _GoneError from None
                if status in (401, 403):
                    raise refused(self.uri, status) from None
                if status not in _AGAIN:
                    raise self._no_dicomweb(found) from None
            except requests.exceptions.JSONDecodeError:
                raise self._no_dicomweb("no JSON") from None
            except (requests.exceptions.InvalidURL, requests.exceptions.TooManyRedirects):
                raise self._no_dicomweb("an address that leads nowhere") from None
            except _FormError as error:
                raise self._no_dicomweb(str(error)) from None
            except requests.RequestException as error:
                found = type(error).__name__
            if self._once or time.monotonic() + pause > deadline:
                raise self._failing(found)
            time.sleep(pause)
            pause = min(2 * pause, 10.0)

    def _no_dicomweb(self, found: str) -> UserError:
        return UserError(
            "not-dicomweb",
            "no DICOMweb server answers",
            where=self.uri,
            found=found,
            expected="QIDO-RS and WADO-RS",
            remedy="Give the root of its DICOMweb services, such as https://host/dicom-web.",
        )

    def _failing(self, found: str) -> UserError:
        return UserError(
            "pacs-fails",
            "the PACS does not answer",
            where=self.uri,
            found=f"{found}, for {self._deadline_s:g} s",
            remedy=f"Run the same command again; what is done is kept. {DEADLINE_VARIABLE} sets how long is waited.",
        )


def value_of(found: dict[str, Any], keyword: str) -> str:
    """The first value of an element of DICOM JSON as text; empty where there is none."""
    values = found.get(_TAGS[keyword], {}).get("Value") or [""]
    return str(values[0] or "").strip(" \0")


_TAGS = {
    "AccessionNumber": "00080050",
    "Modality": "00080060",
    "BodyPartExamined": "00180015",
    "PatientID": "00100020",
    "StudyInstanceUID": "0020000D",
    "SeriesInstanceUID": "0020000E",
    "SOPInstanceUID": "00080018",
}


class _GoneError(Exception):
    """404 or 410."""


class _FormError(Exception):
    """The answer is whole, and none of DICOMweb's."""


class _Authorization(AuthBase):  # type: ignore[misc]
    """Unlike a header of the session, this one is not replaced by what ~/.netrc holds; nor is none."""

    def __init__(self, value: str | None) -> None:
        self._value = value

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._value is not None:
            request.headers["Authorization"] = self._value
        return request


def _only_part(answer: requests.Response) -> bytes:
    """The file in a multipart answer, which ends by its boundary or was cut off."""
    kind = answer.headers.get("Content-Type", "")
    if kind.lower().startswith("application/dicom") and "json" not in kind.lower():
        return bytes(answer.content)  # some servers send the one part bare
    named = re.search(r'boundary="?([^";]+)"?', kind)
    if not kind.lower().startswith("multipart/related") or named is None:
        raise _FormError("no multipart of DICOM")
    boundary = named[1].strip().encode()
    body: bytes = answer.content
    if not body.rstrip(b"\r\n ").endswith(b"--" + boundary + b"--"):
        raise requests.exceptions.ChunkedEncodingError("cut off")
    start = body.find(b"\r\n\r\n", body.find(b"--" + boundary))
    end = body.rfind(b"\r\n--" + boundary + b"--")
    if start < 0 or end < start:
        raise _FormError("a multipart without a part")
    return body[start + 4 : end]
