"""`python -m components.train`: shards in, a bundle out."""

from __future__ import annotations

from typing import Annotated

import typer

from components.cxr.cli import ConfigOption, RootOption, SetOption, load_config, open_root, run_cli
from components.cxr.config import section
from components.cxr.storage.pointers import read_pointer
from components.cxr.storage.storage import open_storage
from components.train.config import TrainConfig


def main(
    config: ConfigOption,
    overrides: SetOption,
    root: RootOption = None,
    manifest: Annotated[str | None, typer.Option(metavar="URI", help="Data set; default: the newest.")] = None,
) -> None:
    """Train a model on a preprocessed data set."""
    values = load_config(config, overrides)
    step = TrainConfig.parse(section(values, "train"), where="train")
    where = open_root(values, root)
    data = open_storage(manifest or read_pointer(where, "manifest", made_by="preprocess"))
    from components.train.launch import launch  # torch takes seconds: what is wrong above is said before

    launch(step, root=where, manifest=data)


if __name__ == "__main__":
    run_cli(main)
