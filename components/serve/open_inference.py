"""The Open Inference Protocol, version 2, at /v2: what the clients of KServe and Triton speak, over the same answer.

https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md; tensors may also
be plain bytes behind the JSON, as Triton's binary tensor data extension has them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel

from components.serve.config import ServeConfig
from components.serve.errors import RequestError
from components.serve.fields import StudyForm
from components.serve.form import parsed, read_body
from components.serve.infer_schemas import (
    ERRORS,
    INFER_BODY,
    INFERRED,
    INPUTS,
    OUTPUTS,
    Live,
    ModelMetadata,
    ModelReady,
    Ready,
    ServerMetadata,
    TensorMetadata,
)
from components.serve.schemas import INTENDED_USE, PredictReply
from components.serve.tensors import InferRequest, OutputTensor, read_infer_request, write_infer_reply

__all__ = ["MODEL", "open_inference", "output_tensors"]

MODEL = "cxrflow"
"""The model's name in the protocol."""
HEADER_LENGTH = "inference-header-content-length"


def open_inference(
    answer: Callable[[Callable[[], Awaitable[StudyForm]]], Awaitable[PredictReply]],
    *,
    config: ServeConfig,
    version: str,
    bundle_hash: str,
    num_pathologies: int,
    ready: Callable[[], bool],
) -> APIRouter:
    """The protocol's routes.

    Args:
        answer: reads a request's fields by the function that it is given, in its turn, and answers them.
        version: of the model.
        ready: whether the model answers.
    """
    router = APIRouter(prefix="/v2", tags=["Open Inference Protocol"])
    metadata = _model_metadata(config, version=version, bundle_hash=bundle_hash, num_pathologies=num_pathologies)
    base, of_version = f"/models/{MODEL}", f"/models/{MODEL}/versions/{{version}}"

    def check_version(request: Request) -> None:
        if request.path_params.get("version") not in (None, version, bundle_hash):
            raise RequestError(404, "unknown-version", "This server has another version of the model.")

    @router.get("")
    async def describe_server() -> ServerMetadata:
        """What answers, and which extensions of the protocol it knows."""
        return ServerMetadata(name=MODEL, version=version, extensions=["binary_tensor_data"])

    @router.get("/health/live")
    async def is_live() -> Live:
        """Whether the process is up."""
        return Live(live=True)

    @router.get("/health/ready", response_model=Ready, responses=_overdue(Ready))
    async def is_ready() -> JSONResponse:
        """Whether the model answers, as /readyz."""
        return JSONResponse({"ready": ready()}, status_code=200 if ready() else 503)

    @router.get(of_version, include_in_schema=False)
    @router.get(base)
    async def describe_model(request: Request) -> ModelMetadata:
        """The model's inputs and outputs."""
        check_version(request)
        return metadata

    @router.get(f"{of_version}/ready", include_in_schema=False)
    @router.get(f"{base}/ready", response_model=ModelReady, responses=_overdue(ModelReady))
    async def model_is_ready(request: Request) -> JSONResponse:
        """Whether the model answers."""
        check_version(request)
        return JSONResponse({"name": MODEL, "ready": ready()}, status_code=200 if ready() else 503)

    @router.post(f"{of_version}/infer", include_in_schema=False)
    @router.post(f"{base}/infer", responses=INFERRED | ERRORS, openapi_extra=INFER_BODY, response_class=Response)
    async def infer(request: Request) -> Response:
        """Answer one study; its fields are named tensors."""
        check_version(request)
        asked: list[InferRequest] = []

        async def read() -> StudyForm:
            body, length = await read_body(request, config), request.headers.get(HEADER_LENGTH)
            asked.append(await parsed(read_infer_request, body, length, config))
            return asked[0].form

        reply = await answer(read)
        head = {
            "model_name": MODEL,
            "model_version": version,
            "parameters": {"bundle_hash": bundle_hash, "intended_use": INTENDED_USE},
        }
        body, length = write_infer_reply(head, output_tensors(reply), asked[0])
        if length is None:
            return Response(body, media_type="application/json")
        return Response(body, media_type="application/octet-stream", headers={HEADER_LENGTH: str(length)})

    return router


def output_tensors(reply: PredictReply) -> list[OutputTensor]:
    """An answer as tensors: one element per pathology, one of the whole study, and all of it as JSON in `reply`."""
    answers = reply.answers.values()
    values: dict[str, list[Any]] = {
        "pathology": list(reply.answers),
        "condition": [reply.condition],
        "overall": [reply.overall],
        "warnings": [warning.code for warning in reply.warnings],
        "reply": [reply.model_dump_json()],
    }
    for name in OUTPUTS.keys() - values.keys():
        values[name] = [getattr(answer, name) for answer in answers]
    return [OutputTensor(name, datatype, values[name]) for name, datatype in OUTPUTS.items()]


def _overdue(model: type[BaseModel]) -> dict[int | str, dict[str, Any]]:
    return {503: {"model": model, "description": "An answer is overdue."}}


def _model_metadata(config: ServeConfig, *, version: str, bundle_hash: str, num_pathologies: int) -> ModelMetadata:
    sizes = {"condition": 1, "overall": 1, "reply": 1, "warnings": -1}
    inputs = [
        TensorMetadata(
            name=name,
            datatype="FP32" if name == "age_years" else "BYTES",
            shape=[-1 if name in ("files", "view_positions", "explain") else 1],
            parameters={"description": text},
        )
        for name, text in INPUTS.items()
    ]
    outputs = [
        TensorMetadata(name=name, datatype=datatype, shape=[sizes.get(name, num_pathologies)])
        for name, datatype in OUTPUTS.items()
    ]
    parameters = {"bundle_hash": bundle_hash, "intended_use": INTENDED_USE, "max_files": str(config.max_files)}
    return ModelMetadata(
        name=MODEL,
        versions=[version],
        platform="pytorch_cxrflow",
        inputs=inputs,
        outputs=outputs,
        parameters=parameters,
    )
