"""The request bodies in OpenAPI's words, with examples."""

from __future__ import annotations

from typing import Any

__all__ = ["EXPLAINED_BODY", "FILM_BODY", "REPLY_EXAMPLE", "STUDY_BODY"]

_DESCRIPTION = "One study. Anything may be missing, but not both films and text."
_FIELDS: dict[str, Any] = {
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
    "study_uid": {
        "type": "string",
        "pattern": r"^[0-9]+(\.[0-9]+)*$",
        "maxLength": 64,
        "description": "Given back with the answer; never logged.",
    },
}
_TEXTS = {"type": "array", "items": {"type": "string"}}
_VIEWS = "PA, AP, LATERAL or LL for each film, empty where unknown; "
_FILM = "Films as DICOM, PNG or JPEG, of any view."


def _form(files: dict[str, Any], several: dict[str, Any], how: str) -> dict[str, Any]:
    properties = {
        "files": {"type": "array", "items": files, "description": _FILM},
        **_FIELDS,
        "view_positions": {**several, "description": f"{_VIEWS}{how}Default: the DICOM headers'."},
        "explain": {**_TEXTS, "description": "Pathologies whose heatmaps are wanted, one per value. Default: none."},
    }
    return {"type": "object", "description": _DESCRIPTION, "properties": properties, "additionalProperties": False}


_MULTIPART = _form(
    {"type": "string", "format": "binary"}, {"type": "string"}, "separated by commas, or as repeated fields. "
)
_JSON = _form({"type": "string", "format": "byte"}, _TEXTS, "")

_PNG = (
    "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAAAAADhZOFXAAAAK0lEQVQIHSXBQRHAIADAsPWuQpCCFKRMClKQghQeTfgMwzANy/AbtuEYrnl7"
    "nARpKrCqJAAAAABJRU5ErkJggg=="
)  # a ramp of 8 x 8
_STUDY: dict[str, Any] = {
    "text": "Cough and fever for three days.",
    "age_years": 63,
    "sex": "F",
    "study_uid": "2.25.329800735698586629295641978511506172918",
}
_ALONE = "Without a film the model reads the text alone."
REPLY_EXAMPLE: dict[str, Any] = {
    "answers": {
        "No Finding": {
            "probability": 0.41,
            "uncertain": 0.02,
            "state": 1,
            "threshold": 0.34,
            "auroc": {"value": 0.62, "ci": {"low": 0.55, "high": 0.69}},
            "low_support": False,
            "valid": True,
        },
        "Edema": {
            "probability": 0.06,
            "uncertain": 0.04,
            "state": 0,
            "threshold": 0.19,
            "auroc": {"value": 0.58, "ci": {"low": 0.41, "high": 0.74}},
            "low_support": True,
            "valid": True,
        },
    },
    "condition": "text",
    "overall": "no-finding",
    "in_distribution": None,
    "films": [],
    "seen": {"films": 0, "view_positions": [], "text": True, "age_years": None, "sex": None},
    "inputs": [
        {"name": "text", "film": None, "used": True, "source": "request", "why": None},
        {"name": "age_years", "film": None, "used": False, "source": "request", "why": _ALONE},
        {"name": "sex", "film": None, "used": False, "source": "request", "why": _ALONE},
    ],
    "warnings": [{"code": "text-left-out", "message": "The model does not read this part of the text: findings."}],
    "heatmaps": [],
    "study_uid": _STUDY["study_uid"],
    "model_version": "7",
    "bundle_hash": "0" * 64,
    "intended_use": "For research and education. Not a medical device: not for diagnosis, triage or treatment.",
}
"""An answer of `POST /v1/predict`."""

STUDY_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": _MULTIPART,
                "examples": {"indication": {"summary": "An indication alone", "value": _STUDY}},
            },
            "application/json": {
                "schema": _JSON,
                "examples": {
                    "indication": {"summary": "An indication alone", "value": _STUDY},
                    "film": {
                        "summary": "A film in base64, and its view",
                        "value": {"files": [_PNG], "view_positions": ["PA"]},
                    },
                },
            },
        },
    }
}
"""Of `POST /v1/predict`."""


def _film_body(fields: dict[str, Any]) -> dict[str, Any]:
    """A request's body of one film."""
    form, many = (
        {"type": "string", "format": "binary"},
        {"type": "array", "items": {"type": "string", "format": "byte"}},
    )
    kinds = {"multipart/form-data": {**form, "description": "One film."}, "application/json": many}
    content: dict[str, Any] = {
        kind: {
            "schema": {
                "type": "object",
                "required": ["files"],
                "properties": {"files": files, **fields},
                "additionalProperties": False,
            }
        }
        for kind, files in kinds.items()
    }
    content["application/json"]["examples"] = {"film": {"summary": "A film in base64", "value": {"files": [_PNG]}}}
    return {"requestBody": {"required": True, "content": content}}


FILM_BODY = _film_body({})
"""Of `POST /v1/render`."""
EXPLAINED_BODY = _film_body(
    {"view_positions": {"type": "string", "description": "PA, AP, LATERAL or LL. Default: the DICOM header's."}}
)
"""Of `POST /v1/explain`."""
