"""The HTTP interface around one predictor; server.py runs it."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware

from components.serve.answers import explain_reply, film_heatmaps, model_reply, predict_reply
from components.serve.config import ServeConfig
from components.serve.connections import calm
from components.serve.errors import RequestError
from components.serve.fields import FIELDS, StudyForm
from components.serve.form import read_form
from components.serve.guard import Guard
from components.serve.heatmap import overlay
from components.serve.json_log import milliseconds, note
from components.serve.keys import KeyCheck, KeyRing, told_of_keys
from components.serve.open_inference import open_inference
from components.serve.openapi import EXPLAINED_BODY, FILM_BODY, REPLY_EXAMPLE, STUDY_BODY
from components.serve.predictor import ReadStudy, StudyPredictor
from components.serve.replies import error_reply
from components.serve.schemas import ErrorReply, ExplainReply, FilmHeatmap, ModelReply, PredictReply, Status
from components.serve.shadow import AfterAnswer, Shadow
from components.serve.shadow_telemetry import ShadowTelemetry
from components.serve.telemetry import Telemetry
from components.serve.uploads import Uploads
from components.serve.worker import Batcher, Worker

__all__ = ["create_app"]

PAGE = Path(__file__).with_name("page.html")
EXAMPLES = Path(__file__).with_name("examples")
"""Synthetic studies for the page to try; `python -m pipeline.synthetic.examples` draws them."""
_PAGE_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

_REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorReply, "description": text}
    for status, text in (
        (400, "The form or the JSON is damaged."),
        (401, "The server wants an API key."),
        (408, "The upload took too long."),
        (413, "Over a limit."),
        (415, "Neither a form nor JSON."),
        (422, "A film, text or value that cannot be used."),
        (429, "Busy; ask again after as many seconds as Retry-After says."),
        (503, "The answer took too long."),
    )
}
_ANSWERED: dict[int | str, dict[str, Any]] = {200: {"content": {"application/json": {"example": REPLY_EXAMPLE}}}}
_RENDERED: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {"image/png": {"schema": {"type": "string", "format": "binary"}}},
        "description": "8-bit gray PNG.",
    }
}
_EXPLAINED: dict[int | str, dict[str, Any]] = {
    200: {
        "model": ExplainReply,
        "content": {"image/png": {"schema": {"type": "string", "format": "binary"}}},
        "description": "8-bit RGBA PNG to lay over the film: orange speaks for the pathology, blue against it.",
        "headers": {"x-bundle-hash": {"schema": {"type": "string"}, "description": "SHA-256 of the model, in hex."}},
    }
}
_MOST_SHOWN = 2048
"""Side of a film's largest picture in pixels."""
_MAP_SIDE, _MOST_NUMBERS = 64, 256
"""Longer side of a heatmap, which knows no more, and the most of one in numbers."""
_BAD_QUERIES = {
    "size": (
        f"The size must be a whole number from 16 to {_MOST_SHOWN}, of a heatmap in numbers to {_MOST_NUMBERS}.",
        "Leave it out for that of the model's own films, or 64 for a heatmap.",
    ),
    "format": ("The format must be png or json.", "Leave it out for png."),
    "pathology": ("The pathology is missing.", "Give one of those that /v1/model names."),
}

T = TypeVar("T")
Reading = Callable[[], Awaitable[StudyForm]]
"""Reads the fields of a request from its body."""


def create_app(
    predictor: StudyPredictor,
    config: ServeConfig,
    *,
    model_version: str | None = None,
    hosts: Sequence[str] = ("*",),
    keys: KeyRing | None = None,
) -> FastAPI:
    """The application that serves one model until its process ends.

    Args:
        model_version: in MLflow's registry, for the answers.
        hosts: what a request's Host header may say.
        keys: those that may enter; None for everybody.
    """
    worker = Worker(config.readers)
    model = Batcher(predictor.answer, size_of=_num_films, most=config.max_batch_films)
    page = PAGE.read_text(encoding="utf-8")
    examples = {path.name: path.read_bytes() for path in EXAMPLES.iterdir() if path.is_file()}
    facts = model_reply(predictor, config, model_version)
    telemetry = Telemetry(predictor.bundle.info.pathologies, predictor.points, bundle_hash=predictor.bundle.hash)

    shadow = None
    if config.shadow is not None:
        shadow = Shadow(config, ShadowTelemetry(telemetry.registry, predictor.bundle.info.pathologies))

    def is_ready() -> bool:
        return not (worker.stuck or model.stuck)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        calm(asyncio.get_running_loop())
        if shadow is not None:
            shadow.start()
        yield
        worker.close()
        model.close()
        if shadow is not None:
            await asyncio.to_thread(shadow.close)

    app = FastAPI(
        title="cxrflow",
        description=facts.intended_use,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        # To http:// behind whatever ends TLS before this server, and a client sends the films there.
        redirect_slashes=False,
    )

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def show_page() -> HTMLResponse:
        return HTMLResponse(page, headers={"content-security-policy": _PAGE_POLICY})

    @app.get("/examples/{name}", include_in_schema=False)
    async def show_example(name: str) -> Response:
        if name not in examples:
            raise HTTPException(404)
        kind = "application/json" if name.endswith(".json") else "application/octet-stream"
        return Response(examples[name], media_type=kind)

    @app.head("/healthz", include_in_schema=False)
    @app.get("/healthz")
    async def healthz() -> Status:
        """Whether the process is up."""
        return Status(status="ok")

    @app.head("/readyz", include_in_schema=False)
    @app.get("/readyz", responses={503: {"model": Status, "description": "An answer is overdue."}})
    async def readyz() -> JSONResponse:
        """Whether the model answers: it did so at the start, and no answer is overdue."""
        status = Status(status="ready" if is_ready() else "stuck")
        return JSONResponse(status.model_dump(), status_code=200 if is_ready() else 503)

    @app.get("/metrics", response_class=PlainTextResponse)
    async def show_metrics() -> Response:
        """Requests, latency, errors by reason, answers and their drift from validation, for Prometheus."""
        return Response(telemetry.exposition(), media_type=CONTENT_TYPE_LATEST)

    @app.get("/v1/model")
    async def describe_model() -> ModelReply:
        """The model in service."""
        return facts

    @app.get("/v1/model/card", response_class=PlainTextResponse)
    async def show_card() -> PlainTextResponse:
        """The model card in Markdown, as evaluation wrote it."""
        return PlainTextResponse(predictor.model_card)

    async def answered(read: Reading, job: Callable[[StudyForm], T]) -> tuple[StudyForm, T]:
        """The request's fields and what `job` makes of them, in its turn and in time."""
        form = await read()
        note(films=len(form.files))
        started = time.perf_counter()
        with _in_time(config.timeout_s):
            found = await worker.run(functools.partial(job, form), timeout_s=config.timeout_s)
        note(read_ms=milliseconds(started))
        return form, found

    async def answer_study(read: Reading) -> PredictReply:
        """The answer to a study, whatever protocol it came by."""

        def job(form: StudyForm) -> tuple[ReadStudy, tuple[FilmHeatmap, ...]]:
            study = predictor.read(
                form.files,
                text=form.text,
                age_years=form.age_years,
                sex=form.sex,
                view_positions=form.view_positions,
            )
            return study, film_heatmaps(predictor.heatmaps(study, form.explain, size=_MAP_SIDE))

        form, (study, heatmaps) = await answered(read, job)
        read_at = time.perf_counter()
        with _in_time(config.timeout_s):
            found = await model.answer(study, timeout_s=config.timeout_s)
        note(model_ms=milliseconds(read_at))
        telemetry.answered(found)
        if shadow is not None:
            shadow.note(form, found)
        return predict_reply(form, found, predictor, model_version, heatmaps=heatmaps)

    @app.post("/v1/predict", responses=_ANSWERED | _REFUSALS, openapi_extra=STUDY_BODY)
    async def predict_study(request: Request) -> PredictReply:
        """Probabilities and states of every pathology for one study."""
        return await answer_study(functools.partial(read_form, request, config))

    @app.post("/v1/render", responses=_RENDERED | _REFUSALS, openapi_extra=FILM_BODY, response_class=Response)
    async def render_film(
        request: Request, size: Annotated[int | None, Query(ge=16, le=_MOST_SHOWN)] = None
    ) -> Response:
        """One film as the server reads it: the model's very pixels, or the same reading with `size` of them a side."""

        def job(form: StudyForm) -> bytes:
            return predictor.render(_alone(form), size=size)

        _, png = await answered(functools.partial(read_form, request, config), job)
        return Response(png, media_type="image/png")

    @app.post("/v1/explain", responses=_EXPLAINED | _REFUSALS, openapi_extra=EXPLAINED_BODY, response_model=None)
    async def explain_film(
        request: Request,
        pathology: str = Query(json_schema_extra={"enum": [*predictor.bundle.info.pathologies]}),
        size: Annotated[int | None, Query(ge=16, le=_MOST_SHOWN)] = None,
        format: Literal["png", "json"] = "png",
    ) -> Response:
        """Where one film's patches speak for a pathology or against it, edge to edge over the film as it was sent.

        The expert of patches is one part of the answer; of what the encoder, the text and the metadata add there is no
        map.
        """

        def job(form: StudyForm) -> tuple[bytes, str]:
            if format == "json" and (size or _MAP_SIDE) > _MOST_NUMBERS:
                message, remedy = _BAD_QUERIES["size"]
                raise RequestError(422, "bad-size", message, remedy=remedy)
            study = predictor.read([_alone(form, "view_positions")], view_positions=form.view_positions)
            found = predictor.heatmaps(study, [pathology], size=size or _MAP_SIDE)
            if not found:
                message = "The film looks unlike a chest film: another picture, turned or inverted?"
                raise RequestError(422, "not-a-chest-film", message)
            if format == "png":
                return overlay(found[0].map_HW), "image/png"
            return explain_reply(found[0], predictor, model_version).model_dump_json().encode(), "application/json"

        _, (body, kind) = await answered(functools.partial(read_form, request, config), job)
        return Response(body, media_type=kind, headers={"x-bundle-hash": predictor.bundle.hash})

    app.include_router(
        open_inference(
            answer_study,
            config=config,
            version=model_version or predictor.bundle.hash[:16],
            bundle_hash=predictor.bundle.hash,
            num_pathologies=len(predictor.bundle.info.pathologies),
            ready=is_ready,
        )
    )

    @app.exception_handler(RequestValidationError)
    async def bad_query(request: Request, error: RequestValidationError) -> JSONResponse:
        name = str(error.errors()[0]["loc"][-1])
        message, remedy = _BAD_QUERIES[name]
        telemetry.refused(f"bad-{name}")
        note(code=f"bad-{name}")
        return error_reply(request.url.path, 422, f"bad-{name}", message, remedy=remedy)

    @app.exception_handler(RequestError)
    async def refused(request: Request, refusal: RequestError) -> JSONResponse:
        telemetry.refused(refusal.code)
        note(code=refusal.code)
        headers = {"retry-after": "5"} if refusal.status in (429, 503) else None
        path, told = request.url.path, (refusal.status, refusal.code, refusal.message)
        return error_reply(path, *told, remedy=refusal.remedy, film=refusal.film, headers=headers)

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> JSONResponse:
        names = {404: "There is no such page.", 405: "This page does not take that method."}
        message = names.get(error.status_code, "The request cannot be answered.")
        note(code=f"http-{error.status_code}")
        told = (error.status_code, f"http-{error.status_code}", message)
        return error_reply(request.url.path, *told, headers=dict(error.headers or {}))

    app.add_middleware(Uploads, config=config)
    if shadow is not None:
        app.add_middleware(AfterAnswer, offer=shadow.offer)
    if keys is not None:
        app.add_middleware(KeyCheck, keys=keys)
        app.openapi_schema = told_of_keys(app.openapi())
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False)
    app.add_middleware(Guard, telemetry=telemetry)
    return app


@contextmanager
def _in_time(timeout_s: float) -> Iterator[None]:
    try:
        yield
    except TimeoutError:
        message = f"There was no answer within {timeout_s:g} s."
        raise RequestError(503, "too-slow", message, remedy="Try again, or send fewer films.") from None


def _alone(form: StudyForm, *known: str) -> bytes:
    """The film of a request that has one, and of other fields at most the `known`."""
    if len(form.files) != 1:
        message = f"There are {len(form.files)} films, expected one."
        raise RequestError(422, "not-one-film", message, remedy="Send one film at a time.")
    wanted = ("files", *known)
    if any(getattr(form, name) not in (None, "", ()) for name in FIELDS if name not in wanted):
        remedy = f"Known fields: {', '.join(wanted)}."
        raise RequestError(422, "unknown-field", "The request has a field that is not for one film.", remedy=remedy)
    return form.files[0]


def _num_films(read: ReadStudy) -> int:
    return max(1, len(read.films))
