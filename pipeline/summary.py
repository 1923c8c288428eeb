"""What a person sees at the end of a run: the table, where everything is, and what to do next."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from components.cxr.decision import load_decision
from components.cxr.report import load_report
from components.cxr.storage.pointers import read_pointer
from components.cxr.storage.storage import Root, Storage
from components.evaluate.table import print_report
from pipeline.config import PipelineConfig

__all__ = ["print_summary"]


def print_summary(
    config: PipelineConfig, evaluation: Storage, *, config_file: Path, overrides: Sequence[str], seconds: float
) -> None:
    """Print the per-pathology table, the folders and the next commands.

    Args:
        overrides: of the configuration file, by which the commands find the same root.
    """
    root = Root(config.root)
    print()
    print_report(load_report(evaluation), load_decision(evaluation))
    rows = {
        "data": read_pointer(root, "manifest", made_by="preprocess"),
        "model": read_pointer(root, "bundle", made_by="train"),
        "evaluation": evaluation.uri,
        "deployed": root.deployed().uri,
    }
    print(f"\nDone in {int(seconds // 60)} min {int(seconds % 60)} s. Everything is under {root.uri}:")
    for name, uri in rows.items():
        print(f"  {name:<11} {uri}")
    mlflow, serve = f"make mlflow CONFIG={config_file}", f"make serve CONFIG={config_file} "
    if overrides:
        options = shlex.join(["--config", str(config_file), *(part for each in overrides for part in ("--set", each))])
        mlflow, serve = f"python -m pipeline mlflow {options}", f"python -m components.serve {options}"
    print(f"\nNext:\n  {mlflow}   curves, metrics and the registered model in a browser")
    print(f"  {serve}   the deployed model on http://127.0.0.1:8000")
