"""Files under a gs:// prefix; `open_storage` imports it for such an address alone: Google's client is slow to load."""

from __future__ import annotations

import contextlib
import os
from functools import cached_property
from pathlib import Path

from google.api_core.exceptions import NotFound, PreconditionFailed
from google.cloud.storage import Blob, Bucket, Client
from google.cloud.storage.retry import DEFAULT_RETRY

from components.cxr.errors import UserError
from components.cxr.storage import StaleWriteError, Storage, Versioned, renamed_to

__all__ = ["GcsStorage"]

# For its traces the client asks for the bucket's metadata in a thread of its own, without user_project; a
# requester-pays bucket refuses, and the client asks again with every request.
os.environ.setdefault("DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA", "true")

DEADLINE_S = 120.0
"""Seconds the client may retry one request (429, 5xx, broken connections) before the error reaches the caller."""


class GcsStorage(Storage):
    """A prefix of a Google Cloud Storage bucket, through google-cloud-storage and its own retries."""

    def __init__(self, uri: str, *, user_project: str | None = None) -> None:
        bucket, _, prefix = uri.removeprefix("gs://").partition("/")
        if not bucket:
            raise UserError("bucket is missing", where=uri, expected="gs://bucket/prefix")
        self.bucket_name, self.prefix, self.user_project = bucket, prefix.strip("/"), user_project
        self.uri = f"gs://{bucket}/{self.prefix}".rstrip("/")

    @cached_property
    def bucket(self) -> Bucket:
        return Client().bucket(self.bucket_name, user_project=self.user_project)

    @cached_property
    def _retry(self) -> dict[str, object]:
        return {"retry": DEFAULT_RETRY.with_timeout(DEADLINE_S)}

    def _key(self, name: str) -> str:
        return f"{self.prefix}/{name}" if self.prefix else name

    def _blob(self, name: str) -> Blob:
        return self.bucket.blob(self._key(name))

    def sizes(self, prefix: str = "") -> dict[str, int]:
        folder = self._key(prefix).rstrip("/") + "/" if self._key(prefix) else ""
        blobs = self.bucket.client.list_blobs(self.bucket, prefix=folder, **self._retry)
        start = len(self.prefix) + 1 if self.prefix else 0
        return dict(sorted((blob.name[start:], int(blob.size)) for blob in blobs if not blob.name.endswith("/")))

    def read(self, name: str) -> Versioned:
        blob = self._blob(name)
        try:
            data = blob.download_as_bytes(**self._retry)
        except NotFound:
            raise FileNotFoundError(f"{self.uri}/{name}") from None
        return Versioned(data, int(blob.generation))

    def read_start(self, name: str, num_bytes: int) -> bytes:
        try:
            data: bytes = self._blob(name).download_as_bytes(start=0, end=num_bytes - 1, **self._retry)
        except NotFound:
            raise FileNotFoundError(f"{self.uri}/{name}") from None
        return data

    def write(self, name: str, data: bytes, *, if_generation: int | None = None) -> None:
        try:
            self._blob(name).upload_from_string(
                data, content_type="application/octet-stream", if_generation_match=if_generation, **self._retry
            )
        except PreconditionFailed:
            raise StaleWriteError(f"{self.uri}/{name}") from None

    def upload(self, source: Path, name: str) -> None:
        self._blob(name).upload_from_filename(str(source), content_type="application/octet-stream", **self._retry)

    def download(self, name: str, target: Path) -> None:
        with renamed_to(target) as partial:
            try:
                self._blob(name).download_to_filename(str(partial), **self._retry)
            except NotFound:
                raise FileNotFoundError(f"{self.uri}/{name}") from None
            partial.replace(target)

    def exists(self, name: str) -> bool:
        return bool(self._blob(name).exists(**self._retry))

    def delete(self, name: str) -> None:
        with contextlib.suppress(NotFound):
            self._blob(name).delete(**self._retry)

    def child(self, name: str) -> Storage:
        return GcsStorage(f"{self.uri}/{name}", user_project=self.user_project)
