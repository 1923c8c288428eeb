"""`python -m components.evaluate`: a bundle and a data set in, a report and a decision out."""

from __future__ import annotations

import importlib
import sys
from typing import Annotated

import typer

from components.cxr.cli import ConfigOption, RootOption, SetOption, load_config, open_root, run_cli
from components.cxr.config import section
from components.cxr.shards import load_manifest
from components.cxr.storage.pointers import read_pointer
from components.cxr.storage.storage import open_storage
from components.evaluate.config import EvaluateConfig


def main(
    config: ConfigOption,
    overrides: SetOption,
    root: RootOption = None,
    manifest: Annotated[str | None, typer.Option(metavar="URI", help="Data set; default: the newest.")] = None,
    bundle: Annotated[str | None, typer.Option(metavar="URI", help="Model; default: the newest.")] = None,
) -> None:
    """Score a model on the test split and decide whether it replaces the deployed one.

    `score FILE` and `compare FILE FILE` need tables of scores and labels alone, `paper --root R OUT` what an evaluation
    left behind, and `external --config F --manifest M OUT` another data set; each has its own --help.
    """
    values = load_config(config, overrides)
    step = EvaluateConfig.parse(section(values, "evaluate"), where="evaluate")
    where = open_root(values, root)
    data = load_manifest(open_storage(manifest or read_pointer(where, "manifest", made_by="preprocess")))
    model = open_storage(bundle or read_pointer(where, "bundle", made_by="train"))
    from components.evaluate.evaluate import run  # torch takes seconds: what is wrong above is said before

    run(step, root=where, manifest=data, bundle=model)


_COMMANDS = {
    "score": "components.evaluate.score_file",
    "compare": "components.evaluate.score_file",
    "paper": "components.evaluate.paper.paper",
    "external": "components.evaluate.external",
}
"""What evaluates something else than a new model on its own data: a function of this name in this module."""

if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1] in _COMMANDS:
        command = sys.argv.pop(1)
        run_cli(getattr(importlib.import_module(_COMMANDS[command]), command), command)
    run_cli(main)
