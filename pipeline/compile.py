"""`python pipeline/compile.py`: write the pipeline as YAML for Kubeflow Pipelines."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

if __package__ in (None, ""):  # run as a file: this folder is first on sys.path, the repository's is not there at all
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import typer
from kfp.compiler import Compiler

from components.cxr.cli import SetOption, run_cli
from components.cxr.config import load_yaml, section, with_overrides
from pipeline.config import CONFIGS, Platform
from pipeline.dag import build

__all__ = ["compile_pipeline", "main"]


def compile_pipeline(platform: Platform, output: Path) -> None:
    """Write the pipeline for `platform` to a YAML file."""
    output.parent.mkdir(parents=True, exist_ok=True)
    Compiler().compile(build(platform), str(output))


def main(
    overrides: SetOption,
    config: Annotated[
        Path, typer.Option("--config", "-c", metavar="FILE", help="YAML configuration; `platform` is read.")
    ] = CONFIGS / "demo.yaml",
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="Where to write.")] = Path(
        "cxr_pipeline.yaml"
    ),
) -> None:
    """Compile the pipeline; run parameters (root, data, preprocess, train, evaluate, serve) are given at submission."""
    values = with_overrides(load_yaml(config), overrides)
    compile_pipeline(Platform.parse(section(values, "platform"), where="platform"), output)
    print(f"wrote {output}; submit it with: kfp run create -e cxr -f {output}")


if __name__ == "__main__":
    run_cli(main)
