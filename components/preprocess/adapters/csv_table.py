"""Any data set in one CSV table with a row per image: NIH ChestX-ray14, a hospital's export, …"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence

from components.cxr.errors import UserError
from components.cxr.films.pixels import view_of
from components.cxr.ids import IdKey
from components.cxr.storage.joins import check_join, shape_of
from components.cxr.storage.storage import open_storage
from components.cxr.storage.tables import Table, is_unknown, open_table, shown
from components.cxr.text.text import unescape_column
from components.preprocess.adapters.csv_ages import read_ages
from components.preprocess.adapters.csv_labels import States, labels_by_key, read_labels
from components.preprocess.adapters.csv_rows import film_paths, ids_in_paths, listed_splits, merged
from components.preprocess.adapters.film_paths import check_links, check_spelling
from components.preprocess.config import CsvData, SplitName
from components.preprocess.records import FilmRef, Folder, Source, SourceStudy, hash_source
from components.preprocess.splits import check_patients, split_by_hash

__all__ = ["read_csv_table"]

_SEXES = {"f": "F", "female": "F", "m": "M", "male": "M"}


def read_csv_table(config: CsvData, *, key: IdKey) -> Source:
    """Read the table and group its rows into studies.

    Raises:
        UserError: folder, table or column missing, no label column, a bad value, a film whose rows disagree or that is
            spelled otherwise than on the disk, a study whose rows disagree, or a patient in two splits.
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
    paths = film_paths(table, config, sizes, folder=images.uri)
    patients, named_studies = ids_in_paths(config.path_ids, paths, table=table, column=config.columns.image)
    patients = _ids(table, config, "patient") if patients is None else patients
    named_studies = _ids(table, config, "study") if named_studies is None else named_studies
    labels = table if config.label_table is None else open_table(config.label_table, user_project=config.user_project)
    pathologies, states, labeled = read_labels(labels, config)
    warnings = []
    if config.label_key is not None:
        states, labeled, warning = labels_by_key(table, labels, config.label_key, states)
        warnings = [warning] if warning else []
    if config.repeated != "refuse":
        ids = [study or path for study, path in zip(named_studies, paths, strict=True)]
        states, labeled = merged(ids, states, labeled, config.repeated)
    listed, lists = listed_splits(config, paths, table=table)
    views, splits = _views(table, config), _cells(table, config, "split")
    sexes, num_bad_sexes = _sexes(table, config)
    ages, num_bad_ages = read_ages(table, config)
    texts, reports = _texts(table, config), unescape_column(_cells(table, config, "report"))
    same: list[Sequence[object]] = [
        patients,
        named_studies,
        states,
        labeled,
        views,
        sexes,
        splits,
        ages,
        texts,
        reports,
    ]
    spelled = [path if path in sizes or not path else posixpath.normpath(path.replace("\\", "/")) for path in paths]
    rows = table.once(config.columns.image, spelled, what="film", same=same)
    check_spelling((paths[i] for i in rows), sizes, folder=images.uri, where=table.where)
    rows_of: dict[str, list[int]] = {}
    for i in rows:
        rows_of.setdefault(named_studies[i] or paths[i], []).append(i)
    patient_of = _patients(table, rows_of, patients, states, labeled)
    for told in (texts, ages, sexes):  # reports of one study differ in CheXpert Plus, by the film that they name
        _check_studies(table, rows_of, told)
    filled = list(patients)
    for study_id, of_study in rows_of.items():
        for i in of_study:
            filled[i] = patient_of[study_id]
    check_links({paths[i]: filled[i] for i in rows}, folder=images.uri)
    our_splits = _splits(table, config, filled, key, listed=listed)
    check_patients(((filled[i], our_splits[i]) for i in rows), where=table.where, key=key)
    studies = [
        SourceStudy(
            study_id=study_id,
            patient_id=patient_of[study_id],
            split=our_splits[of_study[0]],
            films=tuple(_film(paths[i], views[i], sizes) for i in of_study),
            labels=states[of_study[0]],
            labeled=labeled[of_study[0]],
            text=next((texts[i] for i in of_study if texts[i]), {}),
            report=None,
            report_text=next((reports[i] for i in of_study if reports[i]), None),
            age_years=next((age for i in of_study if (age := ages[i]) is not None), None),
            sex=next((sex for i in of_study if (sex := sexes[i]) is not None), None),
        )
        for study_id, of_study in rows_of.items()
    ]
    unknown = {
        "ages that are no number from 0 to 130": num_bad_ages,
        "sexes that are not F, Female, M or Male": num_bad_sexes,
        "patients of studies, each of which counts as a patient of its own": sum(
            not any(patients[i] for i in of_study) for of_study in rows_of.values()
        ),
        "studies of films, each of which counts as a study of its own": sum(not named_studies[i] for i in rows)
        if config.columns.study
        else 0,
    }
    return Source(
        where=table.where,
        films=Folder(images.uri, config.user_project),
        pathologies=pathologies,
        studies=tuple(studies),
        files_like=shape_of(sizes),
        left_out={"rows that repeat another": len(table) - len(rows)}
        if len(rows) < len(table) and config.repeated == "refuse"
        else {},
        unknown={reason: count for reason, count in unknown.items() if count},
        warnings=(
            *warnings,
            *_few_films(paths, rows, sizes, where=table.where),
            *(
                ()
                if any(labeled)
                else (f"no row has a label: {table.where}; its films can be predicted, not trained on",)
            ),
        ),
        hash=hash_source(
            [*{(t.name, t.sha256) for t in (table, labels)}, *lists], ((paths[i], sizes.get(paths[i])) for i in rows)
        ),
    )


def _film(path: str, view: str, sizes: Mapping[str, int]) -> FilmRef:
    return FilmRef(image_id=path, path=path, exists=path in sizes, view_position=view_of(view))


def _few_films(paths: Sequence[str], rows: Sequence[int], sizes: Mapping[str, int], *, where: str) -> tuple[str, ...]:
    """A line where under half of the films are there; that none is there, the plan tells."""
    listed = [paths[i] for i in rows]
    matched = sum(path in sizes for path in listed)
    if not matched:
        return ()
    warning = check_join(listed, matched, sizes, what="films", where=where, remedy="Check data.image_dir.")
    return () if warning is None else (warning,)


def _patients(
    table: Table,
    rows_of: Mapping[str, Sequence[int]],
    patients: Sequence[str],
    states: Sequence[States],
    labeled: Sequence[bool],
) -> dict[str, str]:
    """The patient of each study: what any of its rows says, else one of its own, as splits are made by patient."""
    patient_of: dict[str, str] = {}
    for study_id, rows in rows_of.items():
        known = next((i for i in rows if patients[i]), rows[0])
        for i in rows:
            if (states[i], labeled[i], patients[i] or patients[known]) != (
                states[rows[0]],
                labeled[rows[0]],
                patients[known],
            ):
                raise UserError(
                    "study-rows-disagree",
                    "rows of one study disagree",
                    where=f"{table.where} lines {table.line(rows[0])} and {table.line(i)}",
                    expected="the same patient and labels",
                    remedy="Set data.repeated to any, or data.columns.study to null if labels belong to images.",
                )
        patient_of[study_id] = patients[known] or f"unknown patient of {study_id}"
    return patient_of


def _check_studies(table: Table, rows_of: Mapping[str, Sequence[int]], told: Sequence[object]) -> None:
    """Refuse a study of which two rows say different things; rows that say nothing do not count."""
    for rows in rows_of.values():
        known = [i for i in rows if told[i] or told[i] == 0]
        for i in known[1:]:
            if told[i] != told[known[0]]:
                raise UserError(
                    "study-rows-disagree",
                    "rows of one study disagree",
                    where=f"{table.where} lines {table.line(known[0])} and {table.line(i)}",
                    expected="the same text, age and sex",
                    remedy="Correct the table, or set data.columns.study to null if they belong to images.",
                )


def _cells(table: Table, config: CsvData, field: str) -> list[str]:
    """One cell per row of the column configured for `field`; empty cells where none is."""
    name = getattr(config.columns, field)
    if name is None:
        return [""] * len(table)
    return table.cells(name, field=f"data.columns.{field}")


def _views(table: Table, config: CsvData) -> list[str]:
    """Each row's view as the first of its columns that says one says it, translated by `data.views`."""
    words = [
        [config.views.get(cell, cell) for cell in table.cells(name, field="data.columns.view_position")]
        for name in config.columns.view_columns()
    ]
    return [next((cell for of_row in words if not is_unknown(cell := of_row[i])), "") for i in range(len(table))]


def _sexes(table: Table, config: CsvData) -> tuple[list[str | None], int]:
    """Each row's sex, F or M, and how many cells say something else."""
    cells = _cells(table, config, "sex")
    sexes = [_SEXES.get(cell.casefold()) for cell in cells]
    return sexes, sum(sex is None and not is_unknown(cell) for sex, cell in zip(sexes, cells, strict=True))


def _ids(table: Table, config: CsvData, field: str) -> list[str]:
    """One id per row of the column configured for `field`; empty ones where none is."""
    name = getattr(config.columns, field)
    return [""] * len(table) if not name else table.ids(name, field=f"data.columns.{field}")


def _splits(
    table: Table, config: CsvData, patients: Sequence[str], key: IdKey, *, listed: list[str] | None
) -> list[str]:
    """Our split of each row; a validation split is carved from train by patient where the source has none."""
    if config.columns.split is None and listed is None:
        return [split_by_hash(patient, fractions=config.fractions, key=key) for patient in patients]
    splits = listed or []
    for i, name in enumerate([] if listed else _cells(table, config, "split")):
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
        name: unescape_column(table.cells(column, field=f"data.columns.text.{name}"))
        for name, column in config.columns.text.items()
    }
    return [{name: cells[i] for name, cells in columns.items() if cells[i].strip()} for i in range(len(table))]
