"""The one exception for a user's mistake; every command line prints it as one line and exits with code 2."""

from __future__ import annotations

import re

__all__ = ["UserError"]


class UserError(Exception):
    """Something the user can fix: what is wrong, where, what was found, what was expected, and the remedy.

    The message is one line without a patient's text or id; the code is for scripts, which need not match English:

    >>> error = UserError("other-schema-version", "another schema version", where="manifest.json", found=2, expected=1)
    >>> print(error.line)
    error: another schema version: manifest.json; found 2, expected 1  [other-schema-version]
    """

    def __init__(
        self,
        code: str,
        what: str,
        *,
        where: object = None,
        found: object = None,
        expected: object = None,
        remedy: str | None = None,
    ) -> None:
        self.code = code
        self.what, self.where, self.found, self.expected, self.remedy = what, where, found, expected, remedy
        facts = [f"{name} {value}" for name, value in (("found", found), ("expected", expected)) if value is not None]
        message = what if where is None else f"{what}: {where}"
        if facts:
            message += "; " + ", ".join(facts)
        if remedy:
            message += f". {remedy}"
        super().__init__(message)

    @property
    def line(self) -> str:
        """What a command prints: `error: <message>  [<code>]`."""
        return f"error: {self}  [{self.code}]"

    @classmethod
    def from_line(cls, line: str) -> UserError:
        """The error of another process, from the line that it printed."""
        match = re.fullmatch(r"error: (.*?)(?:  \[([a-z0-9-]+)\])?", line.rstrip(), re.DOTALL)
        message, code = match.groups() if match else (line, None)
        return cls(code or "failed", message)

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (self.code, self.what, self.where, self.found, self.expected, self.remedy)


def _rebuild(code: str, what: str, where: object, found: object, expected: object, remedy: str | None) -> UserError:
    """Unpickle across worker processes, which keyword-only arguments would otherwise prevent."""
    return UserError(code, what, where=where, found=found, expected=expected, remedy=remedy)
