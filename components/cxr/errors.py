"""The one exception for a user's mistake; every command line prints it as one line and exits with code 2."""

from __future__ import annotations

__all__ = ["UserError"]


class UserError(Exception):
    """Something the user can mend: what is wrong, where, what was found, what was expected, and the remedy.

    The message is one line without a patient's text or id, for example::

        another schema version: data/ab12/manifest.json: schema_version; found 2, expected 1. Run preprocess again.
    """

    def __init__(
        self,
        what: str,
        *,
        where: object = None,
        found: object = None,
        expected: object = None,
        remedy: str | None = None,
    ) -> None:
        self.what, self.where, self.found, self.expected, self.remedy = what, where, found, expected, remedy
        facts = [f"{name} {value}" for name, value in (("found", found), ("expected", expected)) if value is not None]
        message = what if where is None else f"{what}: {where}"
        if facts:
            message += "; " + ", ".join(facts)
        if remedy:
            message += f". {remedy}"
        super().__init__(message)

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (self.what, self.where, self.found, self.expected, self.remedy)


def _rebuild(what: str, where: object, found: object, expected: object, remedy: str | None) -> UserError:
    """Unpickle across worker processes, which keyword-only arguments would otherwise prevent."""
    return UserError(what, where=where, found=found, expected=expected, remedy=remedy)
