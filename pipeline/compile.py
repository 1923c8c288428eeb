"""`python pipeline/compile.py`: write the pipeline as YAML for Kubeflow Pipelines or Vertex AI Pipelines."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

if __package__ in (None, ""):  # run as a file: this folder is first on sys.path, the repository's is not there at all
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import typer
from kfp.compiler import Compiler

from components.cxr.cli import SetOption, run_cli
from components.cxr.errors import UserError
from pipeline.config import CONFIGS, PipelineConfig, Target, load_pipeline_config
from pipeline.dag import build
from pipeline.encoders import check_encoders

__all__ = ["compile_pipeline", "main"]


def compile_pipeline(config: PipelineConfig, output: Path, *, target: Target | None = None) -> None:
    """Write the pipeline of a configuration to a YAML file.

    Args:
        target: None for a run on this machine.

    Raises:
        UserError: section `platform` asks for what the target cannot do, or the file has another ending than .yaml or
            cannot be written.
    """
    if output.suffix != ".yaml":
        raise UserError("not-yaml", "no name of a YAML file", where="--output", found=output, expected="NAME.yaml")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        Compiler().compile(build(config, target), str(output))
    except OSError as error:
        raise UserError("cannot-write", "cannot write", where=output, found=error.strerror) from None


def main(
    overrides: SetOption,
    config: Annotated[
        Path, typer.Option("--config", "-c", metavar="FILE", help="YAML configuration; the parameters' defaults.")
    ] = CONFIGS / "demo.yaml",
    target: Annotated[Target, typer.Option(help="Kubeflow Pipelines or Vertex AI Pipelines.")] = "kfp",
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="Where to write.")] = Path(
        "cxr_pipeline.yaml"
    ),
) -> None:
    """Compile the pipeline; a run can change its parameters: root, data, preprocess, train, evaluate, serve."""
    pipeline = load_pipeline_config(config, overrides)
    check_encoders(pipeline, here=False)
    compile_pipeline(pipeline, output, target=target)
    print(f"wrote {output} for {target}", end="")
    print(f"; run it with: kfp run create -e cxr -f {output}" if target == "kfp" else "")


if __name__ == "__main__":
    run_cli(main)
