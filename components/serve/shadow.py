"""Shadow mode: a challenger answers the same requests unseen, and its differences are in `/metrics`.

It is a server process of its own, so that it has the limits and the refusals of any server, its own seal and operating
points, and the lowest priority; and so that nothing it does, not even its end, reaches an answer.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, NamedTuple

import httpx
from starlette.types import ASGIApp, Receive, Scope, Send

from components.cxr.errors import UserError
from components.cxr.storage.storage import open_storage
from components.serve.client import open_client
from components.serve.config import ServeConfig
from components.serve.fields import StudyForm
from components.serve.golden import RunningServer, running_server
from components.serve.predictor import Prediction
from components.serve.shadow_telemetry import ShadowTelemetry

__all__ = ["AfterAnswer", "Shadow"]

RESTART_S, LONGEST_RESTART_S = 5.0, 600.0
"""Seconds until a challenger that has ended is started again; each failure doubles them."""
LOWEST_PRIORITY = 19
MAX_LOG_BYTES = 1 << 20
"""Of the challenger's lines, of which the last ones are told when it ends."""
CLOSING_S = 3.0
WATCH_S = 1.0
"""How often to look whether an idle challenger is still there."""

_log = logging.getLogger("cxrflow.shadow")
_answered: ContextVar[list[_Answered] | None] = ContextVar("answered", default=None)


class _Answered(NamedTuple):
    form: StudyForm
    found: Prediction

    @property
    def num_bytes(self) -> int:
        return sum(map(len, self.form.files)) + len(self.form.text)


class Shadow:
    """Passes answered requests on to a challenger, one after another, and drops them while it is behind.

    Args:
        config: of the server; `shadow` names the challenger.
        telemetry: that counts.
    """

    def __init__(self, config: ServeConfig, telemetry: ShadowTelemetry) -> None:
        self._config, self._telemetry = config, telemetry
        self._waiting: deque[_Answered] = deque()
        self._changed = threading.Condition()
        self._num_bytes, self._up, self._closing = 0, False, False
        self._thread = threading.Thread(target=self._run, name="shadow", daemon=True)

    def start(self) -> None:
        """Start the challenger, without waiting for it."""
        self._thread.start()

    def note(self, form: StudyForm, found: Prediction) -> None:
        """Remember an answer of this request, to be passed on once it has gone out."""
        if (answered := _answered.get()) is not None:
            answered.append(_Answered(form, found))

    def offer(self, answered: _Answered) -> None:
        """Pass on, or drop where the challenger is not there or has enough; never waits for it."""
        with self._changed:
            full = len(self._waiting) >= self._config.shadow_queue
            too_much = self._waiting and self._num_bytes + answered.num_bytes > self._config.max_request_bytes
            if not self._up or full or too_much:
                self._telemetry.dropped()
                return
            self._waiting.append(answered)
            self._num_bytes += answered.num_bytes
            self._changed.notify()

    def close(self) -> None:
        """End the challenger."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join(CLOSING_S)  # one that is just starting ends by itself, as its stdin breaks

    def _run(self) -> None:
        pause = RESTART_S
        while not self._closing:
            try:
                with self._challenger() as server:
                    pause = RESTART_S
                    self._serve(server)
            except UserError as error:
                _log.warning("the challenger does not answer, again in %.0f s: %s", pause, error.line)
            except Exception as error:  # a bug here must not end the thread in silence, nor quote a request
                _log.error("bug: %s; the challenger starts again in %.0f s", type(error).__name__, pause)
            self._set_up(False)
            with self._changed:
                self._changed.wait_for(lambda: self._closing, pause)
            pause = min(2 * pause, LONGEST_RESTART_S)

    def _challenger(self) -> Any:
        config = self._config
        assert config.shadow is not None
        evaluation = None if config.shadow_evaluation is None else open_storage(config.shadow_evaluation)
        return running_server(
            config, open_storage(config.shadow), evaluation, seal=config.shadow_seal, niceness=LOWEST_PRIORITY
        )

    def _serve(self, server: RunningServer) -> None:
        known = {"key": server.key, "certificate": server.certificate}
        with open_client(server.address, timeout_s=2 * self._config.timeout_s, **known) as client:
            self._telemetry.model(client.get("/v1/model").json()["bundle_hash"])
            self._set_up(True)
            _log.info("the challenger answers too")
            while not self._closing:
                if (answered := self._next()) is not None:
                    self._ask(client, answered)
                if server.process.poll() is not None:
                    raise server.died()
                if server.log.stat().st_size > MAX_LOG_BYTES:
                    os.truncate(server.log, 0)
        server.process.kill()  # at its priority it would take its time to end, and nobody waits for its answer

    def _next(self) -> _Answered | None:
        """The oldest answer that waits; None without one within a second, or when closing."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closing, WATCH_S)
            if self._closing or not self._waiting:
                return None
            answered = self._waiting.popleft()
            self._num_bytes -= answered.num_bytes
            return answered

    def _ask(self, client: httpx.Client, answered: _Answered) -> None:
        try:
            response = client.post("/v1/predict", **_request(answered.form))
            reply = response.json()
            if response.status_code == 200:
                self._telemetry.compare(answered.found.answers, reply["answers"])
            else:
                self._telemetry.refused(str(reply["error"]["code"]))
        except (httpx.HTTPError, ValueError, KeyError, TypeError):
            self._telemetry.failed()

    def _set_up(self, up: bool) -> None:
        with self._changed:
            self._up = up
            self._telemetry.up(up)
            if not up:
                for _ in range(len(self._waiting)):
                    self._telemetry.dropped()
                self._waiting.clear()
                self._num_bytes = 0


class AfterAnswer:
    """ASGI middleware that passes a request's answers on once they have been sent.

    Args:
        offer: takes them, at once.
    """

    def __init__(self, app: ASGIApp, offer: Callable[[_Answered], None]) -> None:
        self.app, self.offer = app, offer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, and then pass on."""
        answered: list[_Answered] = []
        token = _answered.set(answered)
        try:
            await self.app(scope, receive, send)
        finally:
            _answered.reset(token)
            for found in answered:
                self.offer(found)


def _request(form: StudyForm) -> dict[str, Any]:
    """A form again, as httpx's arguments; without the study's UID, which no answer depends on."""
    fields = {
        "text": form.text,
        "age_years": "" if form.age_years is None else repr(form.age_years),
        "sex": form.sex or "",
        "view_positions": ",".join(view or "" for view in form.view_positions or ()),
    }
    films = [("files", (f"{i}.bin", film, "application/octet-stream")) for i, film in enumerate(form.files)]
    return {"data": fields} | ({"files": films} if films else {})
