"""A request's body, as a form or as JSON, read within limits and into memory alone."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, Callable
from typing import ParamSpec, TypeVar
from urllib.parse import parse_qsl

from starlette.requests import ClientDisconnect, Request

from components.serve.config import ServeConfig
from components.serve.errors import RequestError
from components.serve.fields import FIELDS, StudyForm, study_form
from components.serve.json_body import read_json
from components.serve.json_log import milliseconds, note
from components.serve.multipart import DamagedFormError, Part, decoded, read_parts

__all__ = ["parsed", "read_body", "read_form"]

P = ParamSpec("P")
T = TypeVar("T")

_MAX_BYTES_A_CHAR = 4

logging.getLogger("python_multipart").setLevel(logging.CRITICAL + 1)  # its records quote the body


async def read_form(request: Request, config: ServeConfig) -> StudyForm:
    """Read multipart/form-data (or, without films, application/x-www-form-urlencoded) or application/json.

    Raises:
        RequestError: over a limit, too slow, unknown or malformed fields.
    """
    content_type = request.headers.get("content-type", "")
    if _kind(content_type) == "application/json":
        return await parsed(read_json, await read_body(request, config), config)
    chunks = await _read(request, config, max_bytes=config.max_request_bytes)
    return await parsed(_read_form, chunks, content_type, config)


async def parsed(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run what goes through a body outside of the event loop, which answers others meanwhile."""
    started = time.perf_counter()
    found = await asyncio.to_thread(function, *args, **kwargs)
    note(form_ms=milliseconds(started))
    return found


async def read_body(request: Request, config: ServeConfig) -> bytes:
    """The whole body; base64 has four characters for three bytes, so that the same films fit as in a form.

    Raises:
        RequestError: over a limit or too slow.
    """
    chunks = await _read(request, config, max_bytes=-(-config.max_request_bytes // 3) * 4)
    return await asyncio.to_thread(b"".join, chunks)


async def _read(request: Request, config: ServeConfig, *, max_bytes: int) -> list[bytes]:
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise RequestError(415, "compressed", "The body is compressed.", remedy="Send it as it is.")
    started = time.perf_counter()
    async with _uploaded(config):
        chunks = [chunk async for chunk in _within(request, max_bytes=max_bytes)]
    note(upload_ms=milliseconds(started))
    return chunks


@contextlib.asynccontextmanager
async def _uploaded(config: ServeConfig) -> AsyncGenerator[None, None]:
    try:
        async with asyncio.timeout(config.timeout_s):
            yield
    except TimeoutError:
        raise RequestError(408, "slow-upload", f"The request did not arrive within {config.timeout_s:g} s.") from None
    except ClientDisconnect:
        raise RequestError(400, "disconnected", "The connection closed before the request was complete.") from None


def _read_form(chunks: list[bytes], content_type: str, config: ServeConfig) -> StudyForm:
    try:
        parts = _parts(chunks, content_type, config)
    except DamagedFormError:
        raise RequestError(
            400,
            "bad-form",
            f"The form cannot be read: it is damaged, has more than {config.max_files} films or too long a text.",
        ) from None
    return _fields(parts, config)


def _parts(chunks: list[bytes], content_type: str, config: ServeConfig) -> list[Part]:
    max_field_bytes = (config.max_text_chars + 1) * _MAX_BYTES_A_CHAR
    max_fields = len(FIELDS) + config.max_files
    kind = _kind(content_type)
    if kind == "multipart/form-data":
        # One more than allowed, so that the refusal can name the limit.
        most = {"max_files": config.max_files + 1, "max_fields": max_fields, "max_field_bytes": max_field_bytes}
        return read_parts(chunks, content_type, **most)
    if kind == "application/x-www-form-urlencoded":
        try:
            pairs = parse_qsl(decoded(b"".join(chunks)), keep_blank_values=True, max_num_fields=max_fields)
        except ValueError:
            raise DamagedFormError("too many fields") from None
        return [Part(name, None, value.encode()) for name, value in pairs]
    if not kind and not any(chunks):
        return []  # nothing at all, which is refused for what is missing
    remedy = "Send multipart/form-data or application/json."
    raise RequestError(415, "not-a-form", "The request is neither a form nor JSON.", remedy=remedy)


def _kind(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


async def _within(request: Request, *, max_bytes: int) -> AsyncGenerator[bytes, None]:
    """The body up to `max_bytes`; as much again is read and dropped, so that most clients get to see the refusal."""
    num_bytes = 0
    async for chunk in request.stream():
        num_bytes += len(chunk)
        if num_bytes <= max_bytes:
            yield chunk
        elif num_bytes > 2 * max_bytes:
            break
    if num_bytes > max_bytes:
        raise RequestError(413, "request-too-large", f"The request has more than {max_bytes} bytes.")


def _fields(parts: list[Part], config: ServeConfig) -> StudyForm:
    texts: dict[str, list[str]] = {}
    films: list[bytes] = []
    for name, filename, data in parts:
        is_field = filename is None
        if is_field == (name == "files") and (data or not is_field) and name in FIELDS:
            what = "`files` must be uploads" if name == "files" else f"`{name}` must be plain text, not a file"
            raise RequestError(422, "bad-field", f"The field {what}.")
        if name != "files":
            texts.setdefault(name, []).append(decoded(data))
        elif filename or data:  # a browser sends an empty, nameless part for a file input without a choice
            films.append(data)
    return study_form(films, texts, config)
