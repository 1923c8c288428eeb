"""Any data set in one CSV table with a row per image: NIH ChestX-ray14, a hospital's export, …"""

from __future__ import annotations

import difflib
import posixpath
from collections.abc import Mapping, Sequence

from components.cxr.errors import UserError
from components.cxr.films.pixels import view_of
from components.cxr.ids import IdKey
from components.cxr.storage.storage import open_storage
from components.cxr.storage.tables import Table, open_table, shown
from components.preprocess.config import CsvData, LabelList, SplitName
from components.preprocess.records import FilmRef, Folder, Source, SourceStudy, hash_source
from components.preprocess.splits import check_patients, split_by_hash

__all__ = ["read_csv_table"]

States = tuple[int | None, ...]


def read_csv_table(config: CsvData, *, key: IdKey) -> Source:
    """Read the table and group its rows into studies.

    Raises:
        UserError: folder, table or column missing, no label column, a bad value, an image listed twice, a study whose
            rows disagree, or a patient in two splits.
    """
    images = open_storage(config.image_dir, user_project=config.user_project)
    sizes = images.sizes()
    if not sizes:
        raise UserError(
            "missing-folder",
            "folder is missing or empty",
            where=images.uri,
            expected="films",
            remedy="Check data.image_dir.",
        )
    table = open_table(config.table, user_project=config.user_project)
    columns = {
        field: _cells(table, config, field)
        for field in ("image", "patient", "study", "view_position", "age_years", "sex")
    }
    pathologies, states, labeled = _labels(table, config)
    splits = _splits(table, config, columns["patient"], key)
    check_patients(zip(columns["patient"], splits, strict=True), where=table.where, key=key)
    texts, reports = _texts(table, config), _cells(table, config, "report")
    rows_of: dict[str, list[int]] = {}
    seen: set[str] = set()
    for i, image in enumerate(columns["image"]):
        if image in seen or not image:
            where = table.cell(i, config.columns.image)
            raise UserError(
                "duplicate-film" if image else "missing-id",
                "image is listed twice" if image else "image has no name",
                where=where,
                expected="one row per image",
            )
        seen.add(image)
        rows_of.setdefault(columns["study"][i] if config.columns.study else image, []).append(i)
    studies = []
    for study_id, rows in rows_of.items():
        first = rows[0]
        for i in rows[1:]:
            if (states[i], labeled[i], columns["patient"][i]) != (
                states[first],
                labeled[first],
                columns["patient"][first],
            ):
                raise UserError(
                    "study-rows-disagree",
                    "rows of one study disagree",
                    where=f"{table.where} lines {table.line(first)} and {table.line(i)}",
                    expected="the same patient and labels",
                    remedy="Set data.columns.study to null if labels belong to images.",
                )
        ages = [age for i in rows if (age := _age(table, config, i, columns["age_years"][i])) is not None]
        studies.append(
            SourceStudy(
                study_id=study_id,
                patient_id=columns["patient"][first],
                split=splits[first],
                films=tuple(_film(columns["image"][i], columns["view_position"][i], sizes) for i in rows),
                labels=states[first],
                labeled=labeled[first],
                text=next((texts[i] for i in rows if texts[i]), {}),
                report=None,
                report_text=next((reports[i] for i in rows if reports[i]), None),
                age_years=ages[0] if ages else None,
                sex=next((sex for i in rows if (sex := columns["sex"][i][:1].upper()) in ("F", "M")), None),
            )
        )
    paths = [film.path for study in studies for film in study.films]
    return Source(
        where=table.where,
        films=Folder(images.uri, config.user_project),
        pathologies=pathologies,
        studies=tuple(studies),
        hash=hash_source([(table.name, table.sha256)], ((path, sizes.get(path)) for path in paths)),
    )


def _film(image: str, view: str, sizes: Mapping[str, int]) -> FilmRef:
    path = posixpath.normpath(image)
    return FilmRef(image_id=image, path=path, exists=path in sizes, view_position=view_of(view))


def _cells(table: Table, config: CsvData, field: str) -> list[str]:
    """One cell per row of the column configured for `field`; empty cells where none is."""
    name = getattr(config.columns, field)
    if name is None:
        return [""] * len(table)
    return table.cells(name, field=f"data.columns.{field}")


def _labels(table: Table, config: CsvData) -> tuple[tuple[str, ...], list[States], list[bool]]:
    """Pathologies, and each row's states and whether it was labeled at all."""
    if config.label_list is not None:
        return _listed_labels(table, config, config.label_list)
    used = set(config.columns.used())
    pathologies = config.pathologies or tuple(name for name in table.header if name not in used)
    if not pathologies:
        raise UserError(
            "no-label-column",
            "table has no label column",
            where=table.where,
            found=", ".join(table.header),
            expected="a column per pathology besides those in data.columns",
            remedy="Set data.label_list if one column names all labels.",
        )
    remedy = None if config.pathologies else "Name the label columns in data.pathologies."
    columns = [table.states(name, field="data.pathologies", remedy=remedy) for name in pathologies]
    states: list[States] = list(zip(*columns, strict=True))
    return pathologies, states, [any(state is not None for state in row) for row in states]


def _listed_labels(
    table: Table, config: CsvData, label_list: LabelList
) -> tuple[tuple[str, ...], list[States], list[bool]]:
    cells = table.cells(label_list.column, field="data.label_list.column")
    named = [[name.strip() for name in cell.split(label_list.separator) if name.strip()] for cell in cells]
    known = {name for names in named for name in names}
    if not known:
        where = f"{table.where} column {label_list.column}"
        raise UserError(
            "no-labels", "table has no labels", where=where, found="only empty cells", expected="names of pathologies"
        )
    first = [label_list.none] if label_list.none in known else []
    pathologies = config.pathologies or (*first, *sorted(known - set(first)))
    for name in pathologies:
        if name not in known:
            where = f"{table.where} column {label_list.column}"
            close = difflib.get_close_matches(name, known, n=1, cutoff=0.8)
            remedy = f"Did you mean {close[0]}? " if close else ""
            raise UserError(
                "unknown-pathology",
                "pathology occurs nowhere",
                where=where,
                found=f"{len(known)} other names",  # unquoted: the wrong column may hold patients' names
                expected=name,
                remedy=f"{remedy}Check data.pathologies and data.label_list.column.",
            )
    absent = 0 if config.not_mentioned == "0" else None
    states: list[States] = [
        tuple(1 if name in names else absent for name in pathologies) if names else (None,) * len(pathologies)
        for names in named
    ]
    return pathologies, states, [bool(names) for names in named]


def _splits(table: Table, config: CsvData, patients: Sequence[str], key: IdKey) -> list[str]:
    """Our split of each row; a validation split is carved from train by patient where the table has none."""
    if config.columns.split is None:
        return [split_by_hash(patient, fractions=config.fractions, key=key) for patient in patients]
    splits = []
    for i, name in enumerate(_cells(table, config, "split")):
        if name not in config.splits:
            raise UserError(
                "unknown-split",
                "unknown split",
                where=table.cell(i, config.columns.split),
                found=shown(name),
                expected=", ".join(config.splits),
                remedy="Set data.splits.",
            )
        splits.append(str(config.splits[name]))
    if "validate" in splits:
        return splits
    shares: dict[SplitName, float] = {"train": 1 - config.validate_fraction, "validate": config.validate_fraction}
    return [
        split_by_hash(patient, fractions=shares, key=key) if split == "train" else split
        for patient, split in zip(patients, splits, strict=True)
    ]


def _texts(table: Table, config: CsvData) -> list[dict[str, str]]:
    """Report sections of each row, where each has a column."""
    columns = {
        name: table.cells(column, field=f"data.columns.text.{name}") for name, column in config.columns.text.items()
    }
    return [
        {name: text for name, cells in columns.items() if (text := " ".join(cells[i].split()))}
        for i in range(len(table))
    ]


def _age(table: Table, config: CsvData, row: int, cell: str) -> float | None:
    if not cell:
        return None
    try:
        age = float(cell)
    except ValueError:
        where = table.cell(row, str(config.columns.age_years))
        raise UserError("bad-age", "bad age", where=where, expected="years as a number, or nothing") from None
    return age
