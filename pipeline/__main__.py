"""`python -m pipeline`: run the pipeline here."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from components.cxr.cli import ConfigOption, SetOption, clean_errors
from pipeline.config import load_pipeline_config

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.callback()
def main() -> None:
    """Chest X-rays and reports in, a deployed classifier out."""


@app.command()
@clean_errors
def run(
    config: ConfigOption,
    overrides: SetOption,
    log: Annotated[str, typer.Option(metavar="FILE", help="Everything the steps and kfp print.")] = "runs/pipeline.log",
) -> None:
    """Run the whole pipeline on this machine; finished steps are reused."""
    from pathlib import Path

    from pipeline.run import run_locally
    from pipeline.summary import print_summary

    started = time.monotonic()
    pipeline = load_pipeline_config(config, overrides)
    evaluation = run_locally(pipeline, log=Path(log))
    print_summary(pipeline, evaluation, config_file=config, seconds=time.monotonic() - started)


if __name__ == "__main__":
    app()
