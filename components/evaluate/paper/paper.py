"""`python -m components.evaluate paper`: what a paper needs of one evaluation, from what its root holds."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Annotated

import matplotlib
import typer
from matplotlib.figure import Figure

from components.cxr.bundle_info import describe
from components.cxr.errors import UserError
from components.cxr.operating_points import MODEL_CARD, load_operating_points
from components.cxr.report import load_predictions, load_report
from components.cxr.shards import load_manifest
from components.cxr.storage.pointers import read_pointer
from components.cxr.storage.storage import Root, Storage, open_storage
from components.evaluate.figures import figures
from components.evaluate.log import panels, subtitle_of
from components.evaluate.paper.checklists import claim_table, tripod_table
from components.evaluate.paper.drawings import decision_curves, flow_figure, forest
from components.evaluate.paper.participants import flow_of, table_one
from components.evaluate.paper.results import result_tables
from components.evaluate.paper.table import PaperTable
from components.evaluate.table import CAVEAT, leaky_warning

__all__ = ["paper"]

_FORMATS = ("pdf", "svg")


def paper(
    out: Annotated[
        str, typer.Argument(help="Folder for the tables and figures, local or gs://; made if it is not there.")
    ],
    root: Annotated[str, typer.Option("--root", metavar="URI", help="Where the pipeline keeps everything.")],
    evaluation: Annotated[str | None, typer.Option(metavar="URI", help="Default: the newest.")] = None,
    manifest: Annotated[str | None, typer.Option(metavar="URI", help="Its data set; default: the newest.")] = None,
    bundle: Annotated[str | None, typer.Option(metavar="URI", help="Its model; default: the newest.")] = None,
) -> None:
    """Write paper.md, tables (Markdown, LaTeX, CSV), vector figures, filled-in checklists and the model card.

    Nothing in them names a patient, a study or a film.
    """
    where = Root(root)
    found = open_storage(evaluation or read_pointer(where, "evaluation", made_by="evaluate"))
    report = load_report(found)
    loaded = load_manifest(open_storage(manifest or read_pointer(where, "manifest", made_by="preprocess")))
    model = describe(open_storage(bundle or read_pointer(where, "bundle", made_by="train")))
    _check("--manifest", "data set", loaded.hash, report.manifest_hash)
    _check("--bundle", "model", model.hash, report.bundle_hash)
    points = load_operating_points(found, bundle_hash=model.hash)
    flow = flow_of(loaded)
    tables = [table_one(loaded), *result_tables(report, points)]
    checklists = [make(model, report, points, loaded) for make in (claim_table, tripod_table)]
    shown = panels(load_predictions(found), report.headline)
    drawings: dict[str, Figure] = {"flow": flow_figure(flow), "forest": forest(report.headline)}
    for name, figure in figures(shown, report.headline, subtitle=subtitle_of(report)).items():
        drawings[name.removesuffix(".png")] = figure
    drawings["decision_curves"] = decision_curves(shown)
    folder = open_storage(out)
    _write(folder, tables, checklists, drawings, warning=leaky_warning(report))
    folder.write(MODEL_CARD, found.read(MODEL_CARD).data)
    print(f"paper: {len(tables)} tables, {len(drawings)} figures and {len(checklists)} checklists in {out}", flush=True)


def _check(option: str, what: str, found: str, expected: str) -> None:
    if found != expected:
        raise UserError(
            "another-evaluation",
            f"the evaluation is of another {what}",
            where=option,
            found=found[:12],
            expected=expected[:12],
            remedy=f"Name the evaluation's {what} with {option}.",
        )


def _write(
    out: Storage,
    tables: list[PaperTable],
    checklists: list[PaperTable],
    drawings: Mapping[str, Figure],
    *,
    warning: str,
) -> None:
    with matplotlib.rc_context({"pdf.fonttype": 42, "svg.fonttype": "none"}):  # text stays text
        for name, figure in drawings.items():
            for kind in _FORMATS:
                drawn = io.BytesIO()
                figure.savefig(drawn, format=kind)
                out.write(f"figures/{name}.{kind}", drawn.getvalue())
    for table in (*tables, *checklists):
        out.write(f"tables/{table.name}.tex", table.latex().encode())
        out.write(f"tables/{table.name}.csv", table.csv().encode())
    parts = [
        "# Tables and figures",
        *([f"> **{warning}**"] if warning else []),
        CAVEAT,
        *(f"![{name}](figures/{name}.svg)" for name in drawings),
        *(table.markdown() for table in (*tables, *checklists)),
    ]
    out.write("paper.md", ("\n\n".join(parts) + "\n").encode())
