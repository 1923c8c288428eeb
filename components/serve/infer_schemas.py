"""What the Open Inference Protocol sends and takes, in OpenAPI's words, with an example."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

__all__ = [
    "ERRORS", "INFERRED", "INFER_BODY", "INPUTS", "OUTPUTS",
    "Live", "ModelMetadata", "ModelReady", "Ready", "ServerMetadata", "TensorMetadata",
]  # fmt: skip

INPUTS = {
    "files": "Films as DICOM, PNG or JPEG: bytes, or base64 in the JSON.",
    "text": "Indication, or a whole report, of which the model's sections are read.",
    "age_years": "In [0, 130]; any number's datatype, or BYTES as DICOM writes it, such as 058Y.",
    "sex": "F or M.",
    "view_positions": "PA, AP, LATERAL or LL for each film, empty where unknown.",
    "study_uid": "Given back in `reply`; never logged.",
    "explain": "Pathologies whose heatmaps are wanted; they come in `reply`.",
}
"""By name; each may be missing. One request is one study."""
OUTPUTS = {
    "pathology": "BYTES", "probability": "FP64", "uncertain": "FP64", "state": "INT8", "threshold": "FP64",
    "low_support": "BOOL", "valid": "BOOL", "condition": "BYTES", "overall": "BYTES", "warnings": "BYTES",
    "reply": "BYTES",
}  # fmt: skip


class _Loose(BaseModel):
    model_config = ConfigDict(extra="allow", use_attribute_docstrings=True)


class ServerMetadata(BaseModel):
    """What answers."""

    name: str
    version: str
    extensions: list[str]


class Live(BaseModel):
    """Whether the process is up."""

    live: bool


class Ready(BaseModel):
    """Whether the model answers."""

    ready: bool


class ModelReady(BaseModel):
    """Whether the model answers."""

    name: str
    ready: bool


class TensorMetadata(BaseModel):
    """A tensor that can be sent or asked for; a size of -1 is any."""

    name: str
    datatype: str
    shape: list[int]
    parameters: dict[str, str] = {}


class ModelMetadata(BaseModel):
    """The model in service."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]
    parameters: dict[str, str]


class OutputTensorReply(_Loose):
    """One tensor of an answer."""

    name: str
    datatype: str
    shape: list[int]
    data: list[Any] | None = None
    """Absent where the tensor follows as plain bytes."""


class InferReply(_Loose):
    """The answer for one study."""

    model_name: str
    model_version: str
    id: str | None = None
    parameters: dict[str, Any] = {}
    outputs: list[OutputTensorReply]


class ProtocolError(BaseModel):
    """Every answer with a status of 400 or more; the text ends with the error's code in brackets."""

    error: str = Field(examples=["There is neither a film nor a text. Send at least one of them. [nothing-to-read]"])


ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ProtocolError, "description": text}
    for status, text in (
        (400, "No request of the protocol."),
        (401, "The server wants an API key."),
        (404, "Another version of the model."),
        (408, "The upload took too long."),
        (413, "Over a limit."),
        (415, "A compressed body."),
        (422, "A film, text or value that cannot be used."),
        (429, "Busy; ask again after as many seconds as Retry-After says."),
        (503, "The answer took too long."),
    )
}
INFERRED: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "JSON; with an Inference-Header-Content-Length, tensors follow it as plain bytes.",
        "content": {
            "application/json": {"schema": InferReply.model_json_schema(ref_template="#/components/schemas/{model}")},
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        },
    }
}
_PARAMETERS: dict[str, Any] = {"type": "object"}
_TENSOR: dict[str, Any] = {
    "type": "object",
    "required": ["name", "datatype", "shape"],
    "properties": {
        "name": {"type": "string", "enum": list(INPUTS)},
        "datatype": {"type": "string", "enum": ["BYTES", "FP32", "FP64", "INT32", "INT64"]},
        "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1, "maxItems": 3},
        "parameters": _PARAMETERS,
        "data": {"type": "array", "items": {}},
    },
}
INFER_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "; ".join(f"`{name}`: {text}" for name, text in INPUTS.items()),
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["inputs"],
                    "properties": {
                        "id": {"type": "string", "maxLength": 256},
                        "parameters": _PARAMETERS,
                        "inputs": {"type": "array", "items": _TENSOR, "minItems": 1, "maxItems": 32},
                        "outputs": {
                            "type": "array",
                            "maxItems": 32,
                            "items": {
                                "type": "object",
                                "required": ["name"],
                                "properties": {
                                    "name": {"type": "string", "enum": list(OUTPUTS)},
                                    "parameters": _PARAMETERS,
                                },
                            },
                        },
                    },
                },
                "examples": {
                    "indication": {
                        "summary": "An indication alone",
                        "value": {
                            "inputs": [
                                {
                                    "name": "text",
                                    "datatype": "BYTES",
                                    "shape": [1],
                                    "data": ["Cough and fever for three days."],
                                }
                            ],
                            "outputs": [{"name": "pathology"}, {"name": "probability"}],
                        },
                    }
                },
            }
        },
    }
}
