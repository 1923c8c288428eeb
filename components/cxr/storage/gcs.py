"""Files under a gs:// prefix; `open_storage` imports it for such an address alone: Google's client is slow to load."""

from __future__ import annotations

import base64
import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import google_crc32c
from google.api_core.exceptions import GoogleAPICallError, NotFound, PreconditionFailed, RetryError
from google.api_core.retry import Retry, if_exception_type
from google.auth.exceptions import GoogleAuthError, TransportError
from google.cloud.storage import Blob, Bucket, Client
from google.cloud.storage.exceptions import DataCorruption, InvalidResponse
from google.cloud.storage.retry import DEFAULT_RETRY
from requests.exceptions import RequestException, Timeout

from components.cxr.errors import UserError
from components.cxr.storage.atomic import renamed_to
from components.cxr.storage.interface import StaleWriteError, Storage, Versioned, deadline_of

__all__ = ["DEADLINE_VARIABLE", "GcsStorage"]

# For its traces the client asks for the bucket's metadata in a thread of its own, without user_project; a
# requester-pays bucket refuses, and the client asks again with every request.
os.environ.setdefault("DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA", "true")

DEADLINE_VARIABLE = "CXRFLOW_GCS_DEADLINE_S"
"""Environment variable: seconds for which one request is tried again (429, 5xx, broken connections, stalls)."""

_DEADLINE_S = 120.0
_STALL_S = 30.0
"""Seconds without a byte after which a connection counts as broken; a quarter of a shorter deadline."""

_BINARY = "application/octet-stream"

T = TypeVar("T")


class GcsStorage(Storage):
    """A prefix of a Google Cloud Storage bucket, through google-cloud-storage and its own retries.

    Where the service refuses or keeps failing, every method raises UserError, without an object's name.
    """

    def __init__(self, uri: str, *, user_project: str | None = None) -> None:
        bucket, _, prefix = uri.removeprefix("gs://").partition("/")
        if not bucket:
            raise UserError("no-bucket", "bucket is missing", where=uri, expected="gs://bucket/prefix")
        self.bucket_name, self.prefix, self.user_project = bucket, prefix.strip("/"), user_project
        self.uri = f"gs://{bucket}/{self.prefix}".rstrip("/")

    @cached_property
    def bucket(self) -> Bucket:
        return Client().bucket(self.bucket_name, user_project=self.user_project)

    @cached_property
    def deadline_s(self) -> float:
        return deadline_of(DEADLINE_VARIABLE, _DEADLINE_S)

    @cached_property
    def _retry(self) -> dict[str, Any]:
        return {
            "retry": DEFAULT_RETRY.with_timeout(self.deadline_s),
            "timeout": min(_STALL_S, self.deadline_s / 4),
        }

    def _key(self, name: str) -> str:
        return f"{self.prefix}/{name}" if self.prefix else name

    def _blob(self, name: str) -> Blob:
        return self.bucket.blob(self._key(name))

    def sizes(self, prefix: str = "") -> dict[str, int]:
        folder = self._key(prefix).rstrip("/") + "/" if self._key(prefix) else ""
        start = len(self.prefix) + 1 if self.prefix else 0
        fields = "items(name,size),nextPageToken"
        with self._clear_errors():
            blobs = self.bucket.client.list_blobs(self.bucket, prefix=folder, fields=fields, **self._retry)
            return dict(sorted((blob.name[start:], int(blob.size)) for blob in blobs if not blob.name.endswith("/")))

    def read(self, name: str) -> Versioned:
        def attempt() -> Versioned:
            blob = self._blob(name)
            data = blob.download_as_bytes(checksum="crc32c", **self._retry)
            _check(blob, google_crc32c.value(data))
            return Versioned(data, int(blob.generation))

        with self._clear_errors(missing=name):
            return self._again_if_corrupt(attempt)

    def read_range(self, name: str, start: int, num_bytes: int) -> bytes:
        with self._clear_errors(missing=name):
            end = start + num_bytes - 1
            data: bytes = self._blob(name).download_as_bytes(start=start, end=end, **self._retry)
        return data

    def stamp(self, name: str) -> tuple[int, int]:
        blob = self._blob(name)
        with self._clear_errors(missing=name):
            blob.reload(**self._retry)
        return int(blob.size or 0), int(blob.generation or 0)

    def write(self, name: str, data: bytes, *, if_generation: int | None = None) -> None:
        expected, crc32c = if_generation, google_crc32c.value(data)

        def attempt() -> None:
            nonlocal expected
            blob = self._blob(name)
            blob.upload_from_string(
                data, content_type=_BINARY, if_generation_match=expected, checksum="crc32c", **self._retry
            )
            if if_generation is not None and blob.generation is not None:
                expected = int(blob.generation)  # if what arrived is damaged, that is to be replaced
            _check(blob, crc32c)

        try:
            with self._clear_errors():
                self._again_if_corrupt(attempt)
        except PreconditionFailed:
            if self.read(name).data != data:  # else an answer got lost and the client tried what was done already
                raise StaleWriteError(f"{self.uri}/{name}") from None

    def upload(self, source: Path, name: str) -> None:
        crc32c = _crc32c_of(source)

        def attempt() -> None:
            blob = self._blob(name)
            blob.upload_from_filename(str(source), content_type=_BINARY, checksum="crc32c", **self._retry)
            _check(blob, crc32c)

        with self._clear_errors():
            self._again_if_corrupt(attempt)

    @contextlib.contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix="cxrflow-") as folder, renamed_to(Path(folder, "file")) as path:
            yield path
            self.upload(path, name)

    def download(self, name: str, target: Path) -> None:
        def attempt(partial: Path) -> None:
            blob = self._blob(name)
            blob.download_to_filename(str(partial), checksum="crc32c", **self._retry)
            _check(blob, _crc32c_of(partial))

        with renamed_to(target) as partial:
            with self._clear_errors(missing=name):
                self._again_if_corrupt(lambda: attempt(partial))
            partial.replace(target)

    def remove_partials(self) -> None:
        return

    def exists(self, name: str) -> bool:
        with self._clear_errors():
            return bool(self._blob(name).exists(**self._retry))

    def delete(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError), self._clear_errors(missing=name):
            self._blob(name).delete(**self._retry)

    def child(self, name: str) -> Storage:
        return GcsStorage(f"{self.uri}/{name}", user_project=self.user_project)

    def _again_if_corrupt(self, attempt: Callable[[], T]) -> T:
        """The client tells damaged bytes by their checksum but does not ask for them again."""
        again: Callable[[], T] = Retry(if_exception_type(DataCorruption), timeout=self.deadline_s)(attempt)
        return again()

    @contextlib.contextmanager
    def _clear_errors(self, *, missing: str | None = None) -> Iterator[None]:
        """Turn what the client raises after its retries into one line; PreconditionFailed passes.

        Args:
            missing: the object that a 404 is about; None where it is about the bucket.
        """
        try:
            yield
        except NotFound as error:
            if missing is not None:
                raise FileNotFoundError(f"{self.uri}/{missing}") from None
            raise self._refused(error) from None
        except PreconditionFailed:
            raise
        except GoogleAPICallError as error:
            raise self._refused(error) from None
        except (RetryError, RequestException, ConnectionError, TransportError, DataCorruption) as error:
            raise UserError(
                "gcs-unavailable",
                "Google Cloud Storage keeps failing",
                where=self.uri,
                found=_described(error) + (f" for {self.deadline_s:.0f} s" if isinstance(error, RetryError) else ""),
                remedy=f"Run the same command again to continue; {DEADLINE_VARIABLE} sets how many seconds it tries.",
            ) from None
        except GoogleAuthError:
            raise UserError(
                "gcs-credentials",
                "no credentials for Google Cloud",
                where=self.uri,
                remedy="Run `gcloud auth application-default login`.",
            ) from None

    def _refused(self, error: GoogleAPICallError) -> UserError:
        return UserError(
            "gcs-refuses",
            f"Google Cloud Storage answered {_code(error.code)} {type(error).__name__}",
            where=self.uri,
            remedy="Check the bucket's name, your login and the role Storage Object User on it.",
        )


def _crc32c_of(path: Path) -> int:
    with path.open("rb") as file:
        checksum = google_crc32c.Checksum()
        for _ in checksum.consume(file, 1 << 20):
            pass
    return int.from_bytes(checksum.digest(), "big")


def _check(blob: Blob, crc32c: int) -> None:
    """Compare with the object's checksum, which Google computes from the bytes that it has.

    The client does so too, but not for a download that it continued after a broken connection, and for a small upload
    it leaves that to the server.
    """
    if blob.crc32c is not None and int.from_bytes(base64.b64decode(blob.crc32c), "big") != crc32c:
        raise DataCorruption(None, "the bytes do not match the object's crc32c")


def _described(error: BaseException) -> str:
    """What went wrong, without a URL, which may name a patient."""
    cause = error.cause if isinstance(error, RetryError) else error
    match cause:
        case InvalidResponse():
            return f"answer {cause.response.status_code}"
        case GoogleAPICallError():
            return f"answer {_code(cause.code)} {type(cause).__name__}"
        case DataCorruption():
            return "bytes that do not match their checksum"
        case Timeout():
            return "no answer"
        case _:
            return "broken connections"


def _code(code: Any) -> int:
    return int(code)
