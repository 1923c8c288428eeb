"""Where MLflow's server is and how its failures are told, for everything that talks to it."""

from __future__ import annotations

import os
import re

from components.cxr.errors import UserError
from components.cxr.storage.storage import Root

__all__ = ["QUIET_ENVIRONMENT", "MlflowError", "first_line", "tracking_uri", "without_secret"]

QUIET_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "GIT_PYTHON_REFRESH": "quiet",
}
"""Defaults that keep MLflow quiet and quick to give up; the user's own settings win."""


class MlflowError(Exception):
    """MLflow refused a request or did not answer.

    Attributes:
        refused: the server answered, with a refusal.
        unknown: what was asked for does not exist.
    """

    def __init__(self, line: str, *, refused: bool, unknown: bool) -> None:
        super().__init__(line)
        self.refused, self.unknown = refused, unknown


def tracking_uri(root: Root) -> str:
    """MLFLOW_TRACKING_URI, else an SQLite file under a local root.

    Raises:
        UserError: a gs:// root without MLFLOW_TRACKING_URI.
    """
    if uri := os.environ.get("MLFLOW_TRACKING_URI"):
        return uri
    folder = root.storage.local_path("mlflow")
    if folder is None:
        raise UserError(
            "no-mlflow",
            "no MLflow server",
            where="MLFLOW_TRACKING_URI",
            expected="a server's address, because the root is in a bucket",
            remedy="Start `mlflow server` and set MLFLOW_TRACKING_URI.",
        )
    return f"sqlite:///{folder}/mlflow.db"


def without_secret(uri: str) -> str:
    """The address without user and password."""
    return re.sub(r"//[^/@]*@", "//", uri)


def first_line(error: Exception) -> str:
    """What an error says, in one line of at most 160 characters without user and password."""
    return without_secret(str(error).splitlines()[0] if str(error) else type(error).__name__)[:160]
