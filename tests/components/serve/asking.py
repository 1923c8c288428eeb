"""The same study asked of a server in each of its protocols."""

from __future__ import annotations

import base64
import functools
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import cv2
import httpx
import numpy as np
import numpy.typing as npt
import tritonclient.http as triton

if TYPE_CHECKING:
    from components.cxr.model.batch import Study

__all__ = ["PROTOCOLS", "ask", "fields_of", "rendered", "web"]

PROTOCOLS = ("form", "json", "v2", "v2-binary")


def ask(address: str, protocol: str, *, films: list[bytes], fields: Mapping[str, Any]) -> dict[str, Any]:
    """`reply` as /v1/predict words it.

    Args:
        fields: text, age_years, sex and view_positions, those that there are.
    """
    if protocol == "v2-binary":
        return _triton(address, films, fields)
    if protocol == "form":
        files = [("files", (f"{i}", film)) for i, film in enumerate(films)]
        form = {name: str(value) if name == "age_years" else value for name, value in fields.items()}
        request: dict[str, Any] = {"data": form, "files": files or None}
        path = "/v1/predict"
    elif protocol == "json":
        path, request = "/v1/predict", {"json": {**fields, "files": [_base64(film) for film in films]}}
    else:
        path, request = "/v2/models/cxrflow/infer", {"json": {"inputs": list(_tensors(films, fields))}}
    response = web().post(f"{address}{path}", **request)
    assert response.status_code == 200, response.text
    if protocol != "v2":
        return response.json()
    outputs = {output["name"]: output["data"] for output in response.json()["outputs"]}
    reply = json.loads(outputs["reply"][0])
    assert [answer["probability"] for answer in reply["answers"].values()] == outputs["probability"]
    return reply


def fields_of(study: Study) -> dict[str, Any]:
    """Those of the server's fields that the study has."""
    found = {
        "text": study.text,
        "age_years": study.age_years,
        "sex": study.sex,
        "view_positions": [view or "" for view in study.view_positions],
    }
    return {name: value for name, value in found.items() if value not in (None, "", []) and value != [""]}


def rendered(address: str, film: bytes, protocol: str) -> npt.NDArray[np.uint8]:
    """The model's pixels of a film [H, W], by the server."""
    if protocol == "form":
        request: dict[str, Any] = {"files": {"files": ("f", film)}}
    else:
        request = {"json": {"files": [_base64(film)]}}
    png = web().post(f"{address}/v1/render", **request).content
    return cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)


@functools.cache
def web() -> httpx.Client:
    """One client for all requests: to make one takes longer than an answer."""
    return httpx.Client(timeout=60, trust_env=False)


def _tensors(films, fields):
    if films:
        data = [_base64(film) for film in films]
        yield {"name": "files", "datatype": "BYTES", "shape": [len(films)], "data": data}
    for name, value in fields.items():
        values = value if isinstance(value, list) else [value]
        datatype = "FP64" if name == "age_years" else "BYTES"
        yield {"name": name, "datatype": datatype, "shape": [len(values)], "data": values}


def _triton(address, films, fields):
    inputs = []
    for name, value in {**({"files": films} if films else {}), **fields}.items():
        values = value if isinstance(value, list) else [value]
        if name == "age_years":
            tensor, array = triton.InferInput(name, [1], "FP64"), np.array(values, np.float64)
        else:
            tensor = triton.InferInput(name, [len(values)], "BYTES")
            array = np.array([v if isinstance(v, bytes) else v.encode() for v in values], dtype=object)
        inputs.append(tensor.set_data_from_numpy(array, binary_data=True))
    with triton.InferenceServerClient(address.removeprefix("http://")) as client:
        found = client.infer("cxrflow", inputs)
    reply = json.loads(found.as_numpy("reply")[0])
    told = [answer["probability"] for answer in reply["answers"].values()]
    assert told == found.as_numpy("probability").tolist()
    return reply


def _base64(film: bytes) -> str:
    return base64.b64encode(film).decode()
