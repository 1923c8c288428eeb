"""The HTTP interface around one predictor; server.py runs it."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.exceptions import HTTPException

from components.serve.config import ServeConfig
from components.serve.errors import RequestError
from components.serve.form import FORM_SCHEMA, read_form
from components.serve.guard import Guard
from components.serve.predictor import Prediction, StudyPredictor
from components.serve.schemas import (
    ErrorBody,
    ErrorReply,
    Limits,
    ModelReply,
    PathologyAnswer,
    PredictReply,
    Seen,
    Status,
)
from components.serve.worker import Worker

__all__ = ["create_app"]

PAGE = Path(__file__).with_name("page.html")
_PAGE_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

_REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorReply, "description": text}
    for status, text in (
        (400, "The form is damaged."),
        (408, "The upload took too long."),
        (413, "Over a limit."),
        (415, "Not a form."),
        (422, "A film, text or value that cannot be used."),
        (503, "Busy, or the answer took too long."),
    )
}
_BODY = {
    "requestBody": {
        "required": True,
        "content": {"multipart/form-data": {"schema": FORM_SCHEMA}},
    }
}


def create_app(predictor: StudyPredictor, config: ServeConfig) -> FastAPI:
    """The application that serves one model until its process ends."""
    worker = Worker(config.readers)
    places = asyncio.Semaphore(config.max_requests)
    page = PAGE.read_text(encoding="utf-8")
    model = _model_reply(predictor, config)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        worker.close()

    app = FastAPI(title="cxrflow", description=model.intended_use, lifespan=lifespan, docs_url=None, redoc_url=None)

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def show_page() -> HTMLResponse:
        return HTMLResponse(page, headers={"content-security-policy": _PAGE_POLICY})

    @app.get("/healthz")
    async def healthz() -> Status:
        """Whether the process is up."""
        return Status(status="ok")

    @app.get("/readyz", responses={503: {"model": Status, "description": "An answer is overdue."}})
    async def readyz() -> JSONResponse:
        """Whether the model answers: it did so at the start, and no answer is overdue."""
        status = Status(status="stuck" if worker.stuck else "ready")
        return JSONResponse(status.model_dump(), status_code=503 if worker.stuck else 200)

    @app.get("/v1/model")
    async def describe_model() -> ModelReply:
        """The model in service."""
        return model

    @app.post("/v1/predict", responses=_REFUSALS, openapi_extra=_BODY)
    async def predict_study(request: Request) -> PredictReply:
        """Probabilities and states of every pathology for one study."""
        if places.locked():
            raise RequestError(503, "busy", "The server is busy.", remedy="Try again in a moment.")
        async with places:
            form = await read_form(request, config)
            job = functools.partial(
                predictor.predict,
                form.files,
                text=form.text,
                age_years=form.age_years,
                sex=form.sex,
                view_positions=form.view_positions,
            )
            try:
                found = await worker.run(job, timeout_s=config.timeout_s)
            except TimeoutError:
                message = f"There was no answer within {config.timeout_s:g} s."
                raise RequestError(503, "too-slow", message, remedy="Try again, or send fewer films.") from None
        return _predict_reply(found, bundle_hash=predictor.bundle.hash)

    @app.exception_handler(RequestError)
    async def refused(_: Request, refusal: RequestError) -> JSONResponse:
        headers = {"retry-after": "5"} if refusal.status == 503 else None
        return _error(refusal.status, refusal.code, refusal.message, remedy=refusal.remedy, headers=headers)

    @app.exception_handler(HTTPException)
    async def http_error(_: Request, error: HTTPException) -> JSONResponse:
        names = {404: "There is no such page.", 405: "This page does not take that method."}
        message = names.get(error.status_code, "The request cannot be answered.")
        return _error(error.status_code, f"http-{error.status_code}", message, headers=dict(error.headers or {}))

    paths = frozenset(path for route in app.routes if (path := getattr(route, "path", None)))
    app.add_middleware(Guard, paths=paths)
    return app


def _error(
    status: int, code: str, message: str, *, remedy: str | None = None, headers: dict[str, str] | None = None
) -> JSONResponse:
    reply = ErrorReply(error=ErrorBody(code=code, message=message, remedy=remedy))
    return JSONResponse(reply.model_dump(), status_code=status, headers=headers)


def _predict_reply(found: Prediction, *, bundle_hash: str) -> PredictReply:
    study = found.study
    return PredictReply(
        answers={name: PathologyAnswer(**answer._asdict()) for name, answer in found.answers.items()},
        condition=found.condition,
        seen=Seen(
            films=len(study.films),
            view_positions=tuple(study.view_positions),
            text=bool(study.text),
            age_years=study.age_years,
            sex=study.sex,
        ),
        bundle_hash=bundle_hash,
    )


def _model_reply(predictor: StudyPredictor, config: ServeConfig) -> ModelReply:
    bundle, info = predictor.bundle, predictor.bundle.info
    return ModelReply(
        bundle_hash=bundle.hash,
        operating_points_hash=predictor.points.hash,
        pathologies=info.pathologies,
        pixel_preset=info.pixel_preset,
        pixel_preset_hash=info.pixel_preset_hash,
        text_sections=info.text.sections,
        section_reader=info.section_reader,
        leaky=info.leaky,
        label_policy=info.label_policy,
        thresholds={
            condition: {name: point.threshold for name, point in points.items()}
            for condition, points in predictor.points.conditions.items()
        },
        num_parameters=info.num_parameters,
        manifest_hash=info.manifest_hash,
        mlflow_run_id=info.mlflow_run_id,
        git_revision=info.git_revision,
        limits=Limits(
            max_files=config.max_files,
            max_file_bytes=config.max_file_bytes,
            max_request_bytes=config.max_request_bytes,
            max_pixels=config.limits.max_pixels,
            max_text_chars=config.max_text_chars,
        ),
    )
