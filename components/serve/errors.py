"""Why a request gets no answer; app.py turns it into a status and one JSON object."""

from __future__ import annotations

__all__ = ["RequestError"]


class RequestError(Exception):
    """A request that cannot be answered.

    Args:
        status: HTTP status: 4xx for a mistake in the request, 429 for a busy server, 503 for an answer that is overdue.
        code: stable name for programs, such as `film-truncated`.
        message: one sentence for people, without anything from the request's text, names or ids.
        remedy: what to do about it.
        film: the film, from 1, that cannot be used; None where it is something else.
    """

    def __init__(
        self, status: int, code: str, message: str, *, remedy: str | None = None, film: int | None = None
    ) -> None:
        super().__init__(status, code, message, remedy)
        self.status, self.code, self.message, self.remedy, self.film = status, code, message, remedy, film
