"""The address of a PACS in a configuration; its client is in dicomweb.py."""

from __future__ import annotations

from pydantic import Field, field_validator

from components.cxr.config import Config

__all__ = ["DicomwebServer"]


class DicomwebServer(Config):
    """Where a PACS answers, and which environment variables hold the credentials; they are never in a file."""

    url: str = Field(pattern=r"^https?://[^/]")
    """Root of its DICOMweb services, such as https://pacs.example.org/dicom-web."""
    token_variable: str = "CXRFLOW_PACS_TOKEN"
    """Environment variable with a bearer token; where it is empty, user and password count."""
    user_variable: str = "CXRFLOW_PACS_USER"
    """Environment variable with a user's name, for basic authentication; where it is empty too, there is none."""
    password_variable: str = "CXRFLOW_PACS_PASSWORD"
    """Environment variable with the user's password."""

    @field_validator("url")
    @classmethod
    def _without_credentials(cls, url: str) -> str:
        if "@" in url or "?" in url or "#" in url:
            raise ValueError("an address without credentials or a query")
        return url.rstrip("/")
