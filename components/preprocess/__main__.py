"""`python -m components.preprocess`: all partitions and the manifest, a part of them, or the export of a data set."""

from __future__ import annotations

import os
import sys
from collections import Counter
from typing import Annotated

import typer

from components.cxr.cli import ConfigOption, RootOption, SetOption, load_config, open_root, run_cli, terminate_cleanly
from components.cxr.config import section
from components.cxr.errors import UserError
from components.cxr.shards import MANIFEST, SPLITS, LoadedManifest
from components.preprocess.collect import collect, read_rejects
from components.preprocess.config import PreprocessConfig, parse_data
from components.preprocess.export import export
from components.preprocess.preprocess import run_partition


def main(
    config: ConfigOption,
    overrides: SetOption,
    root: RootOption = None,
    partition: Annotated[int | None, typer.Option(help="Only this partition's shards, from 0.")] = None,
    num_partitions: Annotated[int, typer.Option(min=1, help="How many partitions there are.")] = 1,
    collect_only: Annotated[
        bool, typer.Option("--collect-only", help="Only the manifest, after all partitions.")
    ] = False,
) -> None:
    """Turn films and reports into Parquet shards.

    `export OUT --to hf` writes a data set for other tools; it has its own --help.
    """
    values = load_config(config, overrides)
    data = parse_data(section(values, "data"))
    step = PreprocessConfig.parse(section(values, "preprocess"), where="preprocess")
    where = open_root(values, root)
    if partition is not None and collect_only:
        raise UserError("exclusive-options", "options exclude each other", where="--partition and --collect-only")
    if partition is not None:
        run_partition(data, step, root=where, partition=partition, num_partitions=num_partitions)
        return
    if not collect_only:
        for index in range(num_partitions):
            run_partition(data, step, root=where, partition=index, num_partitions=num_partitions)
    _print_summary(collect(data, step, root=where))


def _print_summary(loaded: LoadedManifest) -> None:
    print(f"{'split':<10}{'patients':>10}{'studies':>10}{'images':>10}{'labeled':>10}")
    for split in SPLITS:
        counts = loaded.manifest.counts[split]
        print(f"{split:<10}{counts.patients:>10}{counts.studies:>10}{counts.images:>10}{counts.labeled_studies:>10}")
    codes = Counter(read_rejects(loaded).column("code").to_pylist())
    reasons = ", ".join(f"{code} {count}" for code, count in codes.most_common()) or "none"
    print(f"rejected films: {reasons}")
    for reason, count in loaded.manifest.left_out.items():
        print(f"left out: {count} {reason}")
    for reason, count in loaded.manifest.unknown.items():
        print(f"unknown: {count} {reason}")
    if not loaded.manifest.deidentified:
        print("ids: hashed with a public salt; set CXRFLOW_ID_KEY for ids that nobody can guess")
    print(f"manifest: {loaded.storage.uri}/{MANIFEST}")


if __name__ == "__main__":
    terminate_cleanly()
    try:
        if sys.argv[1:2] == ["export"]:
            del sys.argv[1]
            run_cli(export, "export")
        run_cli(main)
    except SystemExit as ended:
        # All is written. A thread of Arrow's that meets the end of Python would abort the process.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(ended.code if isinstance(ended.code, int) else int(bool(ended.code)))
