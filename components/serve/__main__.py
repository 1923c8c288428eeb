"""`python -m components.serve`: the deployed model, or any evaluated bundle, behind HTTP."""

from __future__ import annotations

from typing import Annotated

import typer

from components.cxr.cli import ConfigOption, RootOption, SetOption, load_config, open_root, run_cli
from components.cxr.config import section
from components.cxr.errors import UserError
from components.cxr.storage.storage import open_storage
from components.serve.config import ServeConfig
from components.serve.deployment import read_deployment


def main(
    config: ConfigOption,
    overrides: SetOption,
    root: RootOption = None,
    bundle: Annotated[str | None, typer.Option(metavar="URI", help="Model; default: the deployed one.")] = None,
    evaluation: Annotated[
        str | None, typer.Option(metavar="URI", help="Its operating points; default: those beside it, once deployed.")
    ] = None,
) -> None:
    """Serve a model until the process is stopped."""
    values = load_config(config, overrides)
    step = ServeConfig.parse(section(values, "serve"), where="serve")
    if bundle is None:
        where = open_root(values, root)
        current, _ = read_deployment(where)
        if current is None:
            remedy = "Run the pipeline, or pass --bundle."
            raise UserError("nothing-deployed", "nothing is deployed", where=where.deployed().uri, remedy=remedy)
        bundle = current.bundle
    from components.serve.server import (
        serve,
    )  # seconds of imports that a mistake in the command need not wait for

    serve(open_storage(bundle), step, evaluation=None if evaluation is None else open_storage(evaluation))


if __name__ == "__main__":
    run_cli(main)
