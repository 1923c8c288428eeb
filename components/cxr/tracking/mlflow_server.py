"""Where MLflow's server is, how it is called, and how its failures are told."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import re
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from components.cxr.errors import UserError
from components.cxr.storage.storage import Root

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = [
    "QUIET_ENVIRONMENT", "MlflowError",
    "mlflow_errors", "quiet_mlflow", "tracking_uri", "warn", "with_client", "without_secret",
]  # fmt: skip

T = TypeVar("T")

_initialized: set[str] = set()
"""Databases whose tables are known to be there."""

QUIET_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # of a server started here: seven processes for language models
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


def with_client(root: Root, call: Callable[[MlflowClient], T]) -> T:
    """Call MLflow's tracking server and model registry.

    Raises:
        MlflowError: it refused or did not answer.
        UserError: see tracking_uri.
    """
    uri = tracking_uri(root)
    with mlflow_errors():
        from mlflow import MlflowClient

        registry = os.environ.get("MLFLOW_REGISTRY_URI") or uri
        if uri not in _initialized and not uri.startswith("http"):
            _initialize(uri, registry)
        return call(MlflowClient(tracking_uri=uri, registry_uri=registry))


def _initialize(uri: str, registry: str) -> None:
    """Let MLflow create its tables, one process at a time beside SQLite; elsewhere who comes second tries again.

    Its own lock lies in the temporary folder, which two containers do not share, and not everything is done under it.
    """
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    with contextlib.ExitStack() as stack:
        if uri.startswith("sqlite:///"):
            database = Path(uri.removeprefix("sqlite:///"))
            database.parent.mkdir(parents=True, exist_ok=True)
            lock = stack.enter_context(database.with_name(f"{database.name}.lock").open("w"))
            fcntl.flock(lock, fcntl.LOCK_EX)
        for wait_s in (1.0, 2.0, 4.0, None):
            try:
                MlflowClient(tracking_uri=uri, registry_uri=registry).search_experiments(max_results=1)
            except (MlflowException, SQLAlchemyError):
                if wait_s is None:
                    raise
                time.sleep(wait_s)
            else:
                _initialized.add(uri)
                return


@contextlib.contextmanager
def mlflow_errors() -> Iterator[None]:
    """MLflow's and the network's errors as MlflowError, without MLflow's own noise."""
    with quiet_mlflow():
        from alembic.util import CommandError
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        try:
            yield
        except MlflowException as error:
            refused, unknown = error.get_http_status_code() < 500, error.error_code == "RESOURCE_DOES_NOT_EXIST"
            raise MlflowError(_first_line(error), refused=refused, unknown=unknown) from error
        except (OSError, SQLAlchemyError, CommandError) as error:
            raise MlflowError(_first_line(error), refused=False, unknown=False) from error


@contextlib.contextmanager
def quiet_mlflow() -> Iterator[None]:
    """MLflow without its notes on migrations, git and web addresses, and quick to give up on a server."""
    for name, value in QUIET_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlflow  # noqa: F401 - its import sets the level of its loggers

        loggers = [logging.getLogger(name) for name in ("mlflow", "alembic", "urllib3", "git")]
        levels = [logger.level for logger in loggers]
        try:
            for logger in loggers:
                logger.setLevel(logging.CRITICAL)  # errors arrive as exceptions
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def without_secret(uri: str) -> str:
    """The address without user and password, in which an `@` or a `/` may stand as it is."""
    return re.sub(r"//\S*@", "//", uri)


def _first_line(error: Exception) -> str:
    """What an error says, in one line of at most 160 characters without user and password."""
    return without_secret(str(error).splitlines()[0] if str(error) else type(error).__name__)[:160]


def warn(line: str) -> None:
    """Print one line to stderr."""
    print(f"warning: {line}", file=sys.stderr, flush=True)
