"""The address of a PACS in a configuration, and its credentials in the environment; its client is in dicomweb.py."""

from __future__ import annotations

import base64
import os

from pydantic import Field, field_validator

from components.cxr.config import Config
from components.cxr.errors import UserError

__all__ = ["PASSWORD_VARIABLE", "TOKEN_VARIABLE", "USER_VARIABLE", "DicomwebServer", "authorization", "refused"]

TOKEN_VARIABLE, USER_VARIABLE, PASSWORD_VARIABLE = "CXRFLOW_PACS_TOKEN", "CXRFLOW_PACS_USER", "CXRFLOW_PACS_PASSWORD"


class DicomwebServer(Config):
    """Where a PACS answers, and which environment variables hold the credentials; they are never in a file."""

    url: str = Field(pattern=r"^https?://[^/]")
    """Root of its DICOMweb services, such as https://pacs.example.org/dicom-web."""
    token_variable: str = TOKEN_VARIABLE
    """Environment variable with a bearer token, instead of a user and a password."""
    user_variable: str = USER_VARIABLE
    """Environment variable with a user's name, for basic authentication."""
    password_variable: str = PASSWORD_VARIABLE
    """Environment variable with the user's password."""

    @field_validator("url")
    @classmethod
    def _without_credentials(cls, url: str) -> str:
        if "@" in url or "?" in url or "#" in url:
            raise ValueError("an address without credentials or a query")
        return url.rstrip("/")


def authorization(
    token_variable: str = TOKEN_VARIABLE,
    user_variable: str = USER_VARIABLE,
    password_variable: str = PASSWORD_VARIABLE,
) -> str | None:
    """What to send as `Authorization`: a bearer token, or a user and a password (RFC 6750, RFC 7617).

    Returns:
        None where no variable is set.

    Raises:
        UserError: a token and a user, one of user and password alone, or letters that cannot be sent.
    """
    names = (token_variable, user_variable, password_variable)
    token, user, password = (os.environ.get(name, "").strip() for name in names)
    if (token and (user or password)) or bool(user) != bool(password):
        raise UserError(
            "bad-credentials",
            "the credentials of the PACS are not clear",
            where="environment",
            found=", ".join(name for name, value in zip(names, (token, user, password), strict=True) if value),
            expected=f"{token_variable}, or {user_variable} and {password_variable}, or none",
        )
    if not token.isascii() or not all(letter.isprintable() for letter in token + user + password):
        raise UserError("bad-credentials", "credentials of the PACS have characters that cannot be sent")
    if token:
        return f"Bearer {token}"
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}" if user else None


def refused(where: str, status: int) -> UserError:
    """The error of a PACS that answers 401 or 403."""
    return UserError(
        "pacs-refused",
        "the PACS refuses the credentials",
        where=where,
        found=status,
        expected="a token, or a user and a password, that may do this",
        remedy=f"Set {TOKEN_VARIABLE}, or {USER_VARIABLE} and {PASSWORD_VARIABLE}, or what the configuration names.",
    )
