"""What the command lines of all steps share: their common options and one clean line for a user's mistake."""

from __future__ import annotations

import functools
import io
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, NoReturn, ParamSpec, TypeVar

import typer

from components.cxr.config import load_yaml, with_overrides
from components.cxr.errors import UserError
from components.cxr.storage.atomic import discard_partials
from components.cxr.storage.storage import Root

__all__ = [
    "ConfigOption", "RootOption", "SetOption", "Terminated",
    "clean_errors", "load_config", "open_root", "run_cli", "terminate_cleanly",
]  # fmt: skip

P = ParamSpec("P")
R = TypeVar("R")

ConfigOption = Annotated[
    Path, typer.Option("--config", "-c", metavar="FILE", help="YAML configuration.", show_default=False)
]
SetOption = Annotated[
    list[str],
    typer.Option(
        "--set",
        metavar="SECTION.FIELD=VALUE",
        help="Override one value; repeatable.",
        default_factory=list,
        show_default=False,
    ),
]
RootOption = Annotated[
    str | None,
    typer.Option("--root", metavar="URI", help="Where everything is kept, local or gs://; overrides `root`."),
]


class Terminated(KeyboardInterrupt):
    """SIGTERM, once `terminate_cleanly` was called."""


def terminate_cleanly() -> None:
    """Let SIGTERM, by which batch systems stop a task, end this process as Ctrl-C does."""

    def terminate(number: int, _frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_IGN)  # the second must not interrupt what the first lets end
        raise Terminated

    signal.signal(signal.SIGTERM, terminate)


def run_cli(main: Callable[..., Any], command: str | None = None) -> NoReturn:
    """Run a function with typer annotations as this process's command and exit.

    Exit codes: 0 done, 2 a user's mistake (one line on stderr), 130 interrupted, 143 terminated.

    Args:
        command: the word after the module's name, which the caller took from sys.argv.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a dash that the terminal's encoding lacks must not end a long run
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command()(clean_errors(main))
    module = sys.modules["__main__"].__spec__
    app(prog_name=f"python -m {module.name.removesuffix('.__main__')} {command}" if module and command else None)
    raise AssertionError("typer exits by itself")


def clean_errors(function: Callable[P, R]) -> Callable[P, R]:
    """Decorator of a typer command: UserError, Ctrl-C and SIGTERM become one line and an exit code."""

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except UserError as error:
            _fail(error.line, 2)
        except Terminated:
            discard_partials()  # a signal's exception can fall into the very removal of what it interrupts
            _fail("error: terminated; run the same command again to continue", 143)
        except KeyboardInterrupt:
            discard_partials()
            _fail("error: interrupted; run the same command again to continue", 130)

    return wrapped


def load_config(config: Path, overrides: list[str]) -> dict[str, Any]:
    """The configuration file with the `--set` overrides applied; keys are components.cxr.config.SECTIONS.

    Raises:
        UserError: see load_yaml and with_overrides.
    """
    return with_overrides(load_yaml(config), overrides)


def open_root(values: dict[str, Any], option: str | None) -> Root:
    """The root from `--root`, else from the configuration's `root`.

    Raises:
        UserError: neither is given, or it is no text.
    """
    uri = option if option is not None else values.get("root")
    if not isinstance(uri, str) or not uri:
        raise UserError(
            "no-root",
            "no place to keep results",
            where="root",
            found=uri,
            expected="a local folder or gs://bucket/prefix",
            remedy="Set root or --root.",
        )
    return Root(uri)


def _fail(message: str, code: int) -> NoReturn:
    print(message, file=sys.stderr)
    raise typer.Exit(code)
