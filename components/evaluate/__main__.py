"""`python -m components.evaluate`: a bundle and a data set in, a report and a decision out."""

from __future__ import annotations

from typing import Annotated

import typer

from components.cxr.cli import ConfigOption, RootOption, SetOption, load_config, open_root, run_cli
from components.cxr.config import section
from components.cxr.shards import load_manifest
from components.cxr.storage.pointers import read_pointer
from components.cxr.storage.storage import open_storage
from components.evaluate.config import EvaluateConfig
from components.evaluate.evaluate import run


def main(
    config: ConfigOption,
    overrides: SetOption,
    root: RootOption = None,
    manifest: Annotated[str | None, typer.Option(metavar="URI", help="Data set; default: the newest.")] = None,
    bundle: Annotated[str | None, typer.Option(metavar="URI", help="Model; default: the newest.")] = None,
) -> None:
    """Score a model on the test split and decide whether it replaces the deployed one."""
    values = load_config(config, overrides)
    step = EvaluateConfig.parse(section(values, "evaluate"), where="evaluate")
    where = open_root(values, root)
    data = load_manifest(open_storage(manifest or read_pointer(where, "manifest", made_by="preprocess")))
    model = open_storage(bundle or read_pointer(where, "bundle", made_by="train"))
    run(step, root=where, manifest=data, bundle=model)


if __name__ == "__main__":
    run_cli(main)
