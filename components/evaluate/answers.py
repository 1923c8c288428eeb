"""`python -m components.evaluate.answers`: a model's answers for every study of a data set, labeled or not."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.parquet as pq
import typer

from components.cxr.bundle import load_bundle
from components.cxr.bundle_info import check_same_input
from components.cxr.cli import ConfigOption, RootOption, SetOption, load_config, open_root, run_cli
from components.cxr.config import section
from components.cxr.errors import UserError
from components.cxr.film_check import in_distribution, load_film_check
from components.cxr.model.dataset import StudyDataset
from components.cxr.model.device import pick_device
from components.cxr.model.predictor import answer, condition_of
from components.cxr.operating_points import load_operating_points
from components.cxr.shards import SPLITS, LoadedManifest, load_manifest
from components.cxr.storage.pointers import read_pointer
from components.cxr.storage.storage import Storage, file_at, open_storage
from components.evaluate.config import EvaluateConfig
from components.evaluate.predict import Job, run_model

__all__ = ["answers", "write_table"]


def answers(
    config: EvaluateConfig,
    *,
    manifest: LoadedManifest,
    bundle: Storage,
    evaluation: Storage,
    splits: Sequence[str] = SPLITS,
) -> pa.Table:
    """The answers to every study with all it has, as the server gives them; nothing is written.

    Calibration and thresholds are the evaluation's, of the condition that fits the study (condition_of).

    One row per study: study_id, split, in_distribution (false where a film is no chest film; null where nothing tells),
    and per pathology `probability/<name>` (calibrated) and `uncertain/<name>`, both in [0, 1], and `state/<name>` (1, 0
    or -1).

    Raises:
        UserError: films of another pixel preset than the model's, an evaluation of another model, no study, or no
            such device.
    """
    pick_device(config.device, where="evaluate.device")
    model = load_bundle(bundle)
    points = load_operating_points(evaluation, bundle_hash=model.hash, pathologies=model.info.pathologies)
    film_check = load_film_check(evaluation)
    check_same_input(model.info, manifest.manifest, where=manifest.storage.uri)
    tables = []
    for split in splits:
        studies = StudyDataset(manifest, splits=[split], text=model.info.text)
        if len(studies) == 0:
            continue
        (logits,) = run_model(model, [Job(studies, "all")], config=config)
        columns: dict[str, list[Any]] = {"study_id": list(studies.study_ids), "split": [split] * len(studies)}
        chest_films = []
        for row, study in enumerate(studies):
            condition = condition_of(study)
            chest_films.append(in_distribution(film_check, study.films))
            for name, told in answer(model, logits, points, condition=condition, row=row).items():
                columns.setdefault(f"probability/{name}", []).append(told.probability)
                columns.setdefault(f"uncertain/{name}", []).append(told.uncertain)
                columns.setdefault(f"state/{name}", []).append(told.state)
        table = pa.table(columns)
        tables.append(table.add_column(2, "in_distribution", pa.array(chest_films, pa.bool_())))
    if not tables:
        found = f"0 studies in {', '.join(splits)}"
        raise UserError(
            "nothing-to-predict", "nothing to predict", where=manifest.storage.uri, found=found, expected="a study"
        )
    return pa.concat_tables(tables)


def write_table(table: pa.Table, path: str) -> None:
    """Write `path`, local or gs://, whole or not at all, as Parquet when it ends so, else as CSV."""
    buffer = io.BytesIO()
    if path.endswith(".parquet"):
        pq.write_table(table, buffer, compression="zstd")
    else:
        arrow_csv.write_csv(table, buffer)
    storage, name = file_at(path)
    storage.write(name, buffer.getvalue())


def main(
    config: ConfigOption,
    output: Annotated[str, typer.Option(metavar="FILE", help="Table to write: .csv or .parquet; gs:// too.")],
    overrides: SetOption,
    root: RootOption = None,
    manifest: Annotated[str | None, typer.Option(metavar="URI", help="Data set; default: the newest.")] = None,
    bundle: Annotated[str | None, typer.Option(metavar="URI", help="Model; default: the newest.")] = None,
    evaluation: Annotated[
        str | None, typer.Option(metavar="URI", help="Its operating points; default: the newest evaluation.")
    ] = None,
) -> None:
    """Answer for every study of a data set; it needs no labels."""
    values = load_config(config, overrides)
    step = EvaluateConfig.parse(section(values, "evaluate"), where="evaluate")
    where = open_root(values, root)
    data = load_manifest(open_storage(manifest or read_pointer(where, "manifest", made_by="preprocess")))
    model = open_storage(bundle or read_pointer(where, "bundle", made_by="train"))
    points = open_storage(evaluation or read_pointer(where, "evaluation", made_by="evaluate"))
    table = answers(step, manifest=data, bundle=model, evaluation=points)
    write_table(table, output)
    print(f"answers: {table.num_rows} studies in {output}", flush=True)


if __name__ == "__main__":
    run_cli(main)
