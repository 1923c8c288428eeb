"""`python -m benchmarks.statistics`: do intervals hold the truth, is a lucky model promoted, and what does it cost.

Coverage is simulated (benchmarks/coverage.py), promotion likewise (benchmarks/promotion_draws.py, which keeps a file of
its own), and an evaluation of a full-size test set is timed from its predictions on. What is found is kept in
benchmarks/results/statistics.json; `--report` prints the table that docs/evaluation.md has, and the JSON line.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks import promotion_draws
from benchmarks.coverage import METHODS, coverage
from benchmarks.evaluation_cost import time_evaluation
from components.cxr.cli import run_cli

__all__ = ["Part", "coverage_range", "coverage_table", "json_line", "main"]

RESULTS = Path(__file__).parent / "results" / "statistics.json"
SIZES = (150, 300, 3000)
NUM_SETS, NUM_RESAMPLES = 500, 1000
ENOUGH = 250
"""Sets with an interval and without a star, below which a coverage is not told: its 95 % error would pass .027."""
PRODUCT = "expanded"
"""The method of components/evaluate/bootstrap.py."""

Row = Mapping[str, Any]


class Part(StrEnum):
    """What can be measured alone."""

    COVERAGE = "coverage"
    PROMOTION = "promotion"
    COST = "cost"


def main(
    only: Annotated[Part | None, typer.Option(help="Measure this alone; all by default.", show_default=False)] = None,
    report: Annotated[bool, typer.Option("--report", help="Print what is kept; measure nothing.")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="Little of everything, kept nowhere: does it run?")] = False,
) -> None:
    """Simulate and time what is asked for, and print the table and the JSON line of everything that is kept."""
    found = {} if quick or not RESULTS.exists() else json.loads(RESULTS.read_text())
    for part in () if report else (Part if only is None else (only,)):
        found |= _measure(part, quick=quick)
        if not quick:
            RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    enough = 10 if quick else ENOUGH
    if rows := found.get("coverage"):
        print(coverage_table(rows, enough=enough))
    print(json.dumps(json_line(found, enough=enough)))


def json_line(found: Mapping[str, Any], *, enough: int = ENOUGH) -> dict[str, Any]:
    """What is told in one line."""
    line: dict[str, Any] = {"benchmark": "statistics"}
    if rows := found.get("coverage"):
        line |= dict(zip(("coverage_low", "coverage_high"), coverage_range(rows, enough=enough), strict=True))
    if promotion_draws.RESULTS.exists():
        promotion = json.loads(promotion_draws.RESULTS.read_text())
        line |= {name: promotion[name] for name in ("false_promotion", "power_0.02") if name in promotion}
    return line | {name: found[name] for name in ("evaluate_s",) if name in found}


def coverage_table(rows: Sequence[Row], *, enough: int = ENOUGH) -> str:
    """Share of the intervals that hold the truth, by method, with the binomial's 95 % half width.

    Of sets in which the row has no star; of starred ones the product's alone, beside the share without interval.
    """
    lines = [f"{'Patients':>8}  {'AUROC of':22}" + "".join(f"{name:>15}" for name in METHODS)]
    lines[0] += f"{'starred':>9}{'theirs':>8}{'none':>6}"
    for row in rows:
        starred, product = row["sets"] - row["supported"], row[PRODUCT]
        cells = [_share(row[name], "supported", enough) for name in METHODS]
        undefined = 1 - (product["supported_defined"] + product["starred_defined"]) / row["sets"]
        theirs = _share(product, "starred", enough).split(" ")[0]
        line = f"{row['patients']:>8}  {row['row']:22}" + "".join(f"{cell:>15}" for cell in cells)
        lines.append(line + f"{starred / row['sets']:>9.0%}{theirs:>8}{undefined:>6.0%}")
    return "\n".join(lines)


def coverage_range(rows: Sequence[Row], *, enough: int = ENOUGH) -> tuple[float, float]:
    """Lowest and highest coverage of the product's intervals, over all sizes, pathologies and means without a star."""
    told = [row[PRODUCT] for row in rows if row[PRODUCT]["supported_defined"] >= enough]
    shares = [round(each["supported_covered"] / each["supported_defined"], 4) for each in told]
    return min(shares), max(shares)


def _share(counts: Mapping[str, int], kind: str, enough: int) -> str:
    total = counts[f"{kind}_defined"]
    if total < enough:
        return "–"
    share = counts[f"{kind}_covered"] / total
    return f"{share:.3f} ± {1.96 * (share * (1 - share) / total) ** 0.5:.3f}"


def _measure(part: Part, *, quick: bool) -> dict[str, Any]:
    if part is Part.COVERAGE:
        sizes, num_sets, num_resamples = ((60, 150), 20, 200) if quick else (SIZES, NUM_SETS, NUM_RESAMPLES)
        rows = [
            row for size in sizes for row in coverage(size, num_sets=num_sets, num_resamples=num_resamples, say=print)
        ]
        return {"resamples": num_resamples, "coverage": rows}
    if part is Part.COST:
        return {"evaluate_s": round(time_evaluation(num_bootstrap=100 if quick else 1000), 1)}
    if quick:
        promotion_draws.measure(draws=2, cells=promotion_draws.CELLS[:1])
    else:
        promotion_draws.measure(kept=promotion_draws.RESULTS)
    return {}


if __name__ == "__main__":
    run_cli(main)
