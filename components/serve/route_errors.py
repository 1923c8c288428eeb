"""Why a study has no answer now, or none at all."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["NoAnswerError", "UnavailableError", "UnusableFilmsError", "VanishedError"]


class NoAnswerError(Exception):
    """There will be no answer to these films; the reason is a stable name."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class UnusableFilmsError(NoAnswerError):
    """Some of the films cannot be used: those at these places, from 0."""

    def __init__(self, reason: str, *, places: Sequence[int]) -> None:
        super().__init__(reason)
        self.places = tuple(places)


class VanishedError(NoAnswerError):
    """The study was there and is no more."""

    def __init__(self) -> None:
        super().__init__("study-vanished")


class UnavailableError(Exception):
    """A server does not answer now, or fails.

    Args:
        who: `source`, `server` or `pacs`.
        found: what it said, without anything of a study.
        is_up: it was reached, so that it may be this study that it fails on.
    """

    def __init__(self, who: str, found: str, *, is_up: bool = False) -> None:
        super().__init__(who, found)
        self.who, self.found, self.is_up = who, found, is_up
