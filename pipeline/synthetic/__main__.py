"""`python -m pipeline.synthetic OUT`: a synthetic MIMIC-CXR, a contact sheet, and label rates beside the real ones."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from components.cxr.cli import run_cli
from pipeline.synthetic.dataset import CONTACT_SHEET, Labels, generate
from pipeline.synthetic.films.syntaxes import Syntax
from pipeline.synthetic.presets import PresetName, Prevalence, Settings
from pipeline.synthetic.tables.tables import label_rates


def main(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write; kept if it holds this data set.")],
    studies: Annotated[int, typer.Option(min=1, help="Number of studies.")] = 400,
    preset: Annotated[PresetName, typer.Option(help="How hard films and reports are.")] = "medium",
    prevalence: Annotated[Prevalence, typer.Option(help="Published rates, or rare findings raised.")] = "mimic",
    confounding: Annotated[float, typer.Option(min=0, max=1, help="Links that are no medicine.")] = 0.0,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same bytes.")] = 7,
    size: Annotated[int, typer.Option(min=64, help="Long side in pixels; 3056 gives 3056 x 2544.")] = 512,
    transfer_syntax: Annotated[Syntax, typer.Option(help="How pixels are stored.")] = "explicit-little",
    jobs: Annotated[int, typer.Option(min=1, help="Worker processes.")] = 1,
) -> None:
    """Generate a synthetic MIMIC-CXR: DICOM films, reports and tables."""
    settings = Settings(seed=seed, preset=preset, prevalence=prevalence, confounding=confounding)
    drawn = generate(out, num_studies=studies, settings=settings, size=size, syntax=transfer_syntax, num_jobs=jobs)
    _print_rates(drawn.labels)
    print(f"synthetic: {studies} studies in {out}; look at {out / CONTACT_SHEET}")


def _print_rates(labels: Labels) -> None:
    table = Table(title="Labels, % of studies (in brackets: MIMIC-CXR, published)", title_justify="left")
    table.add_column("pathology")
    for state in ("1", "0", "-1", "blank"):
        table.add_column(state, justify="right")
    for pathology, here, published in label_rates(labels.values()):
        cells = [f"{100 * ours:.1f} ({100 * theirs:.1f})" for ours, theirs in zip(here, published, strict=True)]
        table.add_row(pathology, *cells)
    Console(width=100, highlight=False).print(table)


if __name__ == "__main__":
    run_cli(main)
