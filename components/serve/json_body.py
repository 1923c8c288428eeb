"""A request as JSON, its films in base64."""

from __future__ import annotations

import binascii
import json
from typing import Any

from components.serve.config import ServeConfig
from components.serve.errors import RequestError
from components.serve.fields import FIELDS, StudyForm, study_form

__all__ = ["read_json", "read_object"]


def read_json(body: bytes, config: ServeConfig) -> StudyForm:
    """Read one object with the form's fields: `files` a list of base64 texts, `view_positions` and `explain`
    lists or one text.

    >>> read_json(b'{"text": "cough", "age_years": 63}', ServeConfig()).age_years
    63.0

    Raises:
        RequestError: as a form is refused.
    """
    if not body.strip():
        return study_form([], {}, config)
    found = read_object(body, config)
    values = {name: _texts(name, value) for name, value in found.items() if name != "files"}
    return study_form(_films(found.get("files"), config), values, config)


def read_object(body: bytes, config: ServeConfig) -> dict[str, Any]:
    """One JSON object, no key of which is there twice.

    Raises:
        RequestError: anything else.
    """
    # Base64 has none of these; a body of nothing else would become 20 times as large in memory.
    if sum(body.count(mark) for mark in (b",", b"[", b"{")) > config.max_text_chars + 1000:
        raise _damaged()
    try:
        found = json.loads(body, object_pairs_hook=_once)
    except (ValueError, RecursionError):
        raise _damaged() from None
    if not isinstance(found, dict):
        raise _damaged()
    return found


def _damaged() -> RequestError:
    return RequestError(400, "bad-json", "The JSON cannot be read: it is damaged, or no object of the fields.")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise RequestError(422, "repeated-field", "The JSON has a field twice, expected once.")
    return found


def _films(value: Any, config: ServeConfig) -> list[bytes]:
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(film, str) for film in value):
        raise RequestError(422, "bad-field", "The field `files` must be a list of films in base64.")
    if len(value) > config.max_files:
        raise RequestError(413, "too-many-films", f"The request has more than {config.max_files} films.")
    films = []
    for position, film in enumerate(value, start=1):
        try:
            films.append(binascii.a2b_base64(film, strict_mode=True))
        except ValueError:
            raise RequestError(422, "bad-base64", f"Film {position} is not base64.") from None
    return films


def _texts(name: str, value: Any) -> list[str]:
    """A field's value as the form has it."""
    if value is None:
        return []
    if (
        name in ("view_positions", "explain")
        and isinstance(value, list)
        and all(isinstance(v, str | None) for v in value)
    ):
        return [v or "" for v in value]
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if isinstance(value, str) or (name == "age_years" and number):
        return [str(value).encode("utf-8", "replace").decode()]  # half a surrogate pair is no text
    if name not in FIELDS:
        return [""]
    raise RequestError(422, "bad-field", f"The field `{name}` must be plain text.")
