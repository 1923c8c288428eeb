"""Named tensors of the Open Inference Protocol v2: one JSON object and, behind it, tensors as plain bytes."""

from __future__ import annotations

import binascii
import itertools
import json
import math
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from components.serve.config import ServeConfig
from components.serve.errors import RequestError
from components.serve.fields import FIELDS, StudyForm, study_form
from components.serve.infer_schemas import OUTPUTS
from components.serve.json_body import read_object

__all__ = ["DTYPES", "InferRequest", "OutputTensor", "read_infer_request", "write_infer_reply"]

DTYPES = {
    "BOOL": "?", "UINT8": "u1", "UINT16": "<u2", "UINT32": "<u4", "UINT64": "<u8", "INT8": "i1", "INT16": "<i2",
    "INT32": "<i4", "INT64": "<i8", "FP16": "<f2", "FP32": "<f4", "FP64": "<f8",
}  # fmt: skip
"""NumPy's names of the protocol's numbers, little-endian as its binary extension has them; BYTES is none."""
_MOST_ID_CHARS = 256
_MOST_TENSORS = 32
_LENGTH = struct.Struct("<I")
"""Before every element of a BYTES tensor."""


class InferRequest(NamedTuple):
    """One study and how its answer is wanted."""

    form: StudyForm
    id: str | None
    """Given back with the answer, and nothing else."""
    outputs: tuple[str, ...] | None
    """Names of the wanted tensors; None for all."""
    binary: frozenset[str] | bool
    """Those that are wanted as plain bytes; a truth value for all or none."""


class OutputTensor(NamedTuple):
    """One tensor of one dimension."""

    name: str
    datatype: str
    values: Sequence[Any]
    """Texts for BYTES."""


def read_infer_request(body: bytes, header: str | None, config: ServeConfig) -> InferRequest:
    """Read the body of `POST /v2/models/<name>/infer`: inputs named as the fields of the other protocols.

    Args:
        header: Inference-Header-Content-Length: where the JSON object ends and plain bytes begin; None for JSON alone.

    Raises:
        RequestError: no request of the protocol, or as a form is refused.
    """
    length = _header_length(header, body)
    found, rest = read_object(body[:length], config), memoryview(body)[length:]
    inputs, wanted = _objects(found, "inputs"), _objects(found, "outputs")
    if not inputs:
        raise _bad("There are no `inputs`.")
    files: list[bytes] = []
    values: dict[str, list[str]] = {}
    seen: set[str] = set()
    for tensor in inputs:
        name = tensor.get("name")
        if not isinstance(name, str) or name not in FIELDS:
            remedy = f"Known inputs: {', '.join(FIELDS)}."
            raise RequestError(422, "unknown-field", "The request has an unknown input.", remedy=remedy)
        if name in seen:
            raise RequestError(422, "repeated-field", f"The input `{name}` is there twice, expected once.")
        seen.add(name)
        elements, rest = _elements(tensor, name, rest, config)
        if name == "files":
            files = [_film(element, position) for position, element in enumerate(elements, start=1)]
        else:
            values[name] = [_text(element, name) for element in elements]
    if len(rest):
        raise _bad("There are more bytes behind the JSON than its inputs have.")
    binary = bool(_parameters(found).get("binary_data_output"))
    names = tuple(_name(output) for output in wanted)
    settings = [_parameters(output).get("binary_data", binary) for output in wanted]  # an output's own comes first
    chosen = frozenset(name for name, is_binary in zip(names, settings, strict=True) if is_binary)
    return InferRequest(
        form=study_form(files, values, config),
        id=_id(found.get("id")),
        outputs=names or None,
        binary=chosen if names else binary,
    )


def write_infer_reply(
    head: Mapping[str, Any], tensors: Sequence[OutputTensor], request: InferRequest
) -> tuple[bytes, int | None]:
    """The body of the answer, and where its JSON ends if plain bytes follow.

    Args:
        head: the answer's other members.
        tensors: all that there are.
    """
    known = {tensor.name: tensor for tensor in tensors}
    names = request.outputs or tuple(known)
    outputs, rest = [], []
    for name in names:
        tensor = known[name]
        told: dict[str, Any] = {"name": name, "datatype": tensor.datatype, "shape": [len(tensor.values)]}
        if request.binary if isinstance(request.binary, bool) else name in request.binary:
            data = _packed(tensor)
            told["parameters"] = {"binary_data_size": len(data)}
            rest.append(data)
        else:
            told["data"] = list(tensor.values)
        outputs.append(told)
    members = {**head, **({} if request.id is None else {"id": request.id}), "outputs": outputs}
    text = json.dumps(members, allow_nan=False).encode()
    return b"".join([text, *rest]), len(text) if rest else None


def _bad(what: str) -> RequestError:
    return RequestError(422, "bad-infer-request", what, remedy="See the Open Inference Protocol, version 2.")


def _header_length(header: str | None, body: bytes) -> int:
    if header is None:
        return len(body)
    if not (header.isascii() and header.isdigit() and int(header[:12]) <= len(body) and len(header) <= 12):
        raise _bad("Inference-Header-Content-Length is no length of a JSON object within the body.")
    return int(header)


def _objects(found: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    value = found.get(name)
    value = [] if value is None else value
    if not isinstance(value, list) or len(value) > _MOST_TENSORS or not all(isinstance(each, dict) for each in value):
        raise _bad(f"`{name}` is no list of at most {_MOST_TENSORS} tensors.")
    return value


def _parameters(tensor: Mapping[str, Any]) -> dict[str, Any]:
    value = tensor.get("parameters")
    value = {} if value is None else value
    if not isinstance(value, dict):
        raise _bad("`parameters` is no object.")
    return value


def _name(output: Mapping[str, Any]) -> str:
    name = output.get("name")
    if not isinstance(name, str):
        raise _bad("An output has no name.")
    if name not in OUTPUTS:
        remedy = f"Known outputs: {', '.join(OUTPUTS)}."
        raise RequestError(422, "unknown-output", "The request asks for an unknown output.", remedy=remedy)
    return name


def _id(value: Any) -> str | None:
    if value is not None and (not isinstance(value, str) or len(value) > _MOST_ID_CHARS):
        raise _bad(f"`id` is no text of at most {_MOST_ID_CHARS} characters.")
    return value or None


def _elements(
    tensor: Mapping[str, Any], name: str, rest: memoryview, config: ServeConfig
) -> tuple[list[Any], memoryview]:
    """The tensor's elements in order, bytes for a BYTES tensor that is not in the JSON; and the bytes behind it."""
    datatype, shape = tensor.get("datatype"), tensor.get("shape")
    if datatype != "BYTES" and (name != "age_years" or datatype not in DTYPES or datatype == "BOOL"):
        raise _bad(f"The input `{name}` has not the datatype that the model's metadata say.")
    whole = isinstance(shape, list) and all(type(size) is int and 0 <= size < 1 << 31 for size in shape)
    if not whole or not isinstance(shape, list) or not 1 <= len(shape) <= 3:
        raise _bad(f"The shape of the input `{name}` is no list of one to three sizes.")
    expected = math.prod(shape)
    if name == "files" and expected > config.max_files:
        raise RequestError(413, "too-many-films", f"The request has more than {config.max_files} films.")
    size = _parameters(tensor).get("binary_data_size")
    if size is None:
        found = list(_flat(tensor.get("data"), name))
    else:
        if type(size) is not int or not 0 <= size <= len(rest):
            raise _bad(f"The input `{name}` has another `binary_data_size` than bytes behind the JSON.")
        found = list(_unpacked(rest[:size], str(datatype), name))
        rest = rest[size:]
    if len(found) != expected:
        raise _bad(f"The input `{name}` has {len(found)} elements, and its shape says {expected}.")
    return found, rest


def _flat(data: Any, name: str, depth: int = 3) -> Iterator[Any]:
    if not isinstance(data, list):
        raise _bad(f"The input `{name}` has no `data` in as many lists as its shape has sizes.")
    nested = [isinstance(element, list) for element in data]
    if not any(nested):
        return iter(data)
    if not all(nested) or depth == 1:
        raise _bad(f"The input `{name}` has no `data` in as many lists as its shape has sizes.")
    return itertools.chain.from_iterable([_flat(element, name, depth - 1) for element in data])


def _unpacked(data: memoryview, datatype: str, name: str) -> Iterable[Any]:
    if datatype != "BYTES":
        dtype = np.dtype(DTYPES[datatype])
        if len(data) % dtype.itemsize:
            raise _bad(f"The bytes of the input `{name}` are no whole {datatype} numbers.")
        return [float(number) for number in np.frombuffer(data, dtype)]
    elements = []
    while len(data):
        length = _LENGTH.unpack(data[:4])[0] if len(data) >= 4 else len(data)
        if length > len(data) - 4:
            raise _bad(f"The bytes of the input `{name}` are cut off.")
        elements.append(bytes(data[4 : 4 + length]))
        data = data[4 + length :]
    return elements


def _packed(tensor: OutputTensor) -> bytes:
    if tensor.datatype != "BYTES":
        return np.asarray(tensor.values, DTYPES[tensor.datatype]).tobytes()
    texts = [str(value).encode() for value in tensor.values]
    return b"".join(part for text in texts for part in (_LENGTH.pack(len(text)), text))


def _film(element: Any, position: int) -> bytes:
    if isinstance(element, bytes):
        return element
    if not isinstance(element, str):
        raise RequestError(422, "bad-field", "The input `files` must be films in base64, or binary data.")
    try:
        return binascii.a2b_base64(element, strict_mode=True)
    except ValueError:
        raise RequestError(422, "bad-base64", f"Film {position} is not base64.") from None


def _text(element: Any, name: str) -> str:
    if isinstance(element, bytes):
        try:
            return element.decode()
        except UnicodeDecodeError:
            raise RequestError(422, "bad-field", f"The input `{name}` is no text in UTF-8.") from None
    number = isinstance(element, int | float) and not isinstance(element, bool)
    if isinstance(element, str) or (name == "age_years" and number):
        return str(element).encode("utf-8", "replace").decode()  # half a surrogate pair is no text
    raise RequestError(422, "bad-field", f"The input `{name}` must be plain text.")
