"""The parts of a prediction request, read within limits and into memory alone."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from python_multipart.exceptions import FormParserError
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import FormParser, MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from components.cxr.ages import MAX_AGE_YEARS, read_age
from components.serve.config import ServeConfig
from components.serve.errors import RequestError

__all__ = ["FORM_SCHEMA", "StudyForm", "read_form"]

FIELDS = ("files", "text", "age_years", "sex", "view_positions")
_MAX_BYTES_A_CHAR = 4

FORM_SCHEMA = {
    "type": "object",
    "description": "One study. Anything may be missing, but not both films and text.",
    "properties": {
        "files": {
            "type": "array",
            "items": {"type": "string", "format": "binary"},
            "description": "Films as DICOM, PNG or JPEG, of any view.",
        },
        "text": {
            "type": "string",
            "description": "Indication, or a whole report, of which the model's sections are read.",
        },
        "age_years": {
            "type": "number",
            "minimum": 0,
            "maximum": 130,
            "description": "An age as DICOM writes it, such as 058Y or 6M, is read too. Default: the DICOM header's.",
        },
        "sex": {"type": "string", "enum": ["F", "M"], "description": "Default: the DICOM header's."},
        "view_positions": {
            "type": "string",
            "description": "PA, AP, LATERAL or LL for each film, empty where unknown; separated by commas, or as "
            "repeated fields. Default: the DICOM headers'.",
        },
    },
}
"""The request body in OpenAPI's words."""

logging.getLogger("python_multipart").setLevel(logging.CRITICAL + 1)  # its records quote the body


@dataclass(frozen=True, kw_only=True)
class StudyForm:
    """The fields of one request, empty ones absent."""

    files: list[bytes]
    text: str
    age_years: float | None
    sex: str | None
    view_positions: list[str | None] | None


async def read_form(request: Request, config: ServeConfig) -> StudyForm:
    """Read multipart/form-data (or, without films, application/x-www-form-urlencoded).

    Raises:
        RequestError: over a limit, too slow, unknown or malformed fields.
    """
    try:
        async with asyncio.timeout(config.timeout_s):
            data = await _parse(request, config)
    except TimeoutError:
        raise RequestError(408, "slow-upload", f"The request did not arrive within {config.timeout_s:g} s.") from None
    except ClientDisconnect:
        raise RequestError(400, "disconnected", "The connection closed before the request was complete.") from None
    except (MultiPartException, FormParserError):
        raise RequestError(
            400,
            "bad-form",
            f"The form cannot be read: it is damaged, has more than {config.max_files} films or too long a text.",
        ) from None
    try:
        return await _fields(data, config)
    finally:
        await data.close()


class _InMemory(MultiPartParser):
    """Starlette's parser, never spooling a patient's film to the disk: the request's size is limited already."""

    spool_max_size = 1 << 62


async def _parse(request: Request, config: ServeConfig) -> FormData:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    stream = _within(request, max_bytes=config.max_request_bytes)
    max_field_bytes = (config.max_text_chars + 1) * _MAX_BYTES_A_CHAR
    max_fields = len(FIELDS) + config.max_files
    if kind == "multipart/form-data":
        # One more than allowed, so that the refusal can name the limit.
        parser = _InMemory(
            request.headers,
            stream,
            max_files=config.max_files + 1,
            max_fields=max_fields,
            max_part_size=max_field_bytes,
        )
        return await parser.parse()
    if kind == "application/x-www-form-urlencoded":
        return await FormParser(
            request.headers, stream, max_fields=max_fields, max_part_size=3 * max_field_bytes
        ).parse()
    if not kind and not b"".join([chunk async for chunk in stream]):
        return FormData()  # nothing at all, which is refused for what is missing
    raise RequestError(415, "not-a-form", "The request is not a form.", remedy="Send multipart/form-data.")


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


async def _fields(data: FormData, config: ServeConfig) -> StudyForm:
    for name, value in data.multi_items():
        if name not in FIELDS:
            fields = ", ".join(FIELDS)
            raise RequestError(
                422, "unknown-field", "The form has an unknown field.", remedy=f"Known fields: {fields}."
            )
        if isinstance(value, str) == (name == "files") and value != "":
            what = "`files` must be uploads" if name == "files" else f"`{name}` must be plain text, not a file"
            raise RequestError(422, "bad-field", f"The field {what}.")
    return StudyForm(
        files=await _files(data, config),
        text=_text(data, config),
        age_years=_age(_single(data, "age_years")),
        sex=_single(data, "sex").upper() or None,
        view_positions=_views(data),
    )


async def _files(data: FormData, config: ServeConfig) -> list[bytes]:
    uploads = [item for item in data.getlist("files") if isinstance(item, UploadFile)]
    # A browser sends an empty, nameless part for a file input without a choice.
    uploads = [upload for upload in uploads if upload.filename or upload.size]
    if len(uploads) > config.max_files:
        raise RequestError(413, "too-many-films", f"The request has more than {config.max_files} films.")
    for position, upload in enumerate(uploads, start=1):
        if (upload.size or 0) > config.max_file_bytes:
            raise RequestError(413, "film-too-large", f"Film {position} has more than {config.max_file_bytes} bytes.")
    return [await upload.read() for upload in uploads]


def _text(data: FormData, config: ServeConfig) -> str:
    text = _single(data, "text")
    if len(text) > config.max_text_chars:
        raise RequestError(413, "text-too-long", f"The text has more than {config.max_text_chars} characters.")
    return text


def _age(text: str) -> float | None:
    if not text:
        return None
    try:
        age = read_age(text)
    except ValueError:
        age = None
    if age is None:
        raise RequestError(
            422,
            "bad-age",
            f"The age is no number from 0 to {MAX_AGE_YEARS}.",
            remedy="Give it in years, such as 63 or 0.5, or as DICOM does, such as 058Y or 6M.",
        )
    return age


def _views(data: FormData) -> list[str | None] | None:
    """Every view position in order; None when the field is absent or empty."""
    parts = [part.strip().upper() for value in data.getlist("view_positions") for part in str(value).split(",")]
    return [part or None for part in parts] if any(parts) else None


def _single(data: FormData, name: str) -> str:
    values = data.getlist(name)
    if len(values) > 1:
        raise RequestError(422, "repeated-field", f"The field `{name}` is there {len(values)} times, expected once.")
    return str(values[0]).strip() if values else ""
