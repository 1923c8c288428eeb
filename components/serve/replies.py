"""An error as its protocol words it."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.responses import JSONResponse

from components.serve.schemas import ErrorBody, ErrorReply

__all__ = ["error_reply"]


def error_reply(
    path: str,
    status: int,
    code: str,
    message: str,
    *,
    remedy: str | None = None,
    film: int | None = None,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """The error of a request: an object with its code, or one text under /v2, whose clients print just that.

    Args:
        path: of the request.
    """
    if path == "/v2" or path.startswith("/v2/"):
        return JSONResponse({"error": f"{message} {remedy or ''}".rstrip() + f" [{code}]"}, status, headers)
    reply = ErrorReply(error=ErrorBody(code=code, message=message, remedy=remedy, film=film))
    return JSONResponse(reply.model_dump(), status, headers)
