"""Sections `data` and `preprocess` of the configuration."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import AfterValidator, Field, model_validator

from components.cxr.config import Config
from components.cxr.errors import UserError
from components.cxr.films.limits import DecodeLimits
from components.cxr.films.pixel_preset import PixelPreset
from components.cxr.labels import PATHOLOGIES
from components.cxr.pacs import Pacs
from components.cxr.text.text import SectionName, SectionReader

__all__ = [
    "Columns",
    "CsvData",
    "DataConfig",
    "DicomFolder",
    "DicomFolderData",
    "DicomwebData",
    "LabelList",
    "MimicCxrData",
    "OpeniData",
    "PreprocessConfig",
    "SplitName",
    "parse_data",
]

SplitName = Literal["train", "validate", "test"]

_FRACTIONS: Mapping[SplitName, float] = {"train": 0.7, "validate": 0.1, "test": 0.2}


def _zero_as_text(values: Any) -> Any:
    """YAML's `not_mentioned: 0` is a number, and a pipeline parameter makes it 0.0."""
    if isinstance(values, dict) and values.get("not_mentioned") == 0 and values["not_mentioned"] is not False:
        return {**values, "not_mentioned": "0"}
    return values


def _sum_to_1(fractions: dict[SplitName, float]) -> dict[SplitName, float]:
    if any(share < 0 for share in fractions.values()) or abs(sum(fractions.values()) - 1) > 1e-6:
        raise ValueError("fractions in [0, 1] that sum to 1")
    return fractions


Fractions = Annotated[dict[SplitName, float], AfterValidator(_sum_to_1)]


class DicomFolder(Config):
    """Films without labels, found by reading the headers of all files."""

    dir: str
    """Folder that is searched with all folders in it; files that are no DICOM are left out; local or gs://."""
    user_project: str | None = None
    """Project billed for a requester-pays bucket."""


class DicomFolderData(DicomFolder):
    """DICOM films without labels or reports, for prediction or as unlabeled training data."""

    adapter: Literal["dicom-folder"] = "dicom-folder"
    pathologies: tuple[str, ...] = Field(PATHOLOGIES, min_length=1)
    """Label columns of the data set, blank throughout: those of the model that is to score it."""
    split: Literal["train", "validate", "test", "hash"] = "test"
    """Split of every study; `hash` makes all three by a keyed hash of the patient."""
    fractions: Fractions = Field(default_factory=lambda: dict(_FRACTIONS))
    """Shares of the patients under `split: hash`; they sum to 1."""


class DicomwebData(Pacs):
    """Films of a PACS by DICOMweb, without labels or reports, for prediction."""

    adapter: Literal["dicomweb"] = "dicomweb"
    pathologies: tuple[str, ...] = Field(PATHOLOGIES, min_length=1)
    """Label columns of the data set, blank throughout: those of the model that is to score it."""
    split: Literal["train", "validate", "test", "hash"] = "test"
    """Split of every study; `hash` makes all three by a keyed hash of the patient."""
    fractions: Fractions = Field(default_factory=lambda: dict(_FRACTIONS))
    """Shares of the patients under `split: hash`; they sum to 1."""


class MimicCxrData(Config):
    """MIMIC-CXR 2.x as PhysioNet lays it out (Johnson et al. 2019)."""

    adapter: Literal["mimic-cxr"] = "mimic-cxr"
    dir: str
    """Folder with `files/`, optionally `mimic-cxr-reports/`, and the tables; local or gs://."""
    tables_dir: str | None = None
    """Folder of the tables that `dir` lacks, such as MIMIC-CXR-JPG's bucket: split, labels, metadata."""
    mimic_iv_dir: str | None = None
    """MIMIC-IV's folder, which holds `hosp/`: age and sex for the model; race and insurance for scores by subgroup."""
    user_project: str | None = None
    """Project billed for requester-pays buckets."""
    labels: Literal["chexpert", "negbio"] = "chexpert"
    """Which labeler's table."""
    unlabeled: tuple[DicomFolder, ...] = ()
    """Folders of more films for training alone, without labels or reports."""


class Columns(Config):
    """Names of the table's columns; an optional one that is null is not read."""

    image: str = "image"
    """File name relative to `image_dir`; a template such as `{patientId}.dcm` makes it of columns."""
    patient: str = "patient_id"
    """Splits are made by patient; "" where the table names none: then each study is a patient of its own."""
    study: str | None = None
    """Rows with one value form a study; without it each image is a study."""
    split: str | None = None
    """Translated by `splits`; without it all splits are made by a keyed hash of the patient."""
    view_position: str | tuple[str, ...] | None = None
    """PA, AP, LATERAL, LL; of several columns the first that says something; where none does, the film's own header."""
    age_years: str | None = None
    """Age in years; of a group such as `40-44` the middle, of one such as `85 or more` or `90+` its bound."""
    birth: str | None = None
    """Year or date of birth (`1967`, `19670915`, `1967-09-15`), which with `study_date` gives the age."""
    study_date: str | None = None
    """Year or date of the study, for the age alone."""
    sex: str | None = None
    """F or M."""
    text: dict[SectionName, str] = Field(default_factory=dict)
    """Column of each report section."""
    report: str | None = None
    """Column with a whole report, which is then split into sections; not together with `text`."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.text and self.report is not None:
            raise ValueError("either text or report")
        if (self.birth is None) != (self.study_date is None) or (self.birth and self.age_years):
            raise ValueError("either age_years, or birth and study_date")
        try:
            columns = self.image_columns()
        except ValueError:
            columns = ()
        if not columns or not all(columns):
            raise ValueError("image: a column, or a template such as {patientId}.dcm")
        return self

    def image_columns(self) -> tuple[str, ...]:
        """The columns of which a film's name is made."""
        if "{" not in self.image:
            return (self.image,)
        return tuple(name for _, name, _, _ in string.Formatter().parse(self.image) if name is not None)

    def view_columns(self) -> tuple[str, ...]:
        """The columns that say how a film was taken."""
        return (self.view_position,) if isinstance(self.view_position, str) else self.view_position or ()

    def used(self) -> tuple[str, ...]:
        """Every column that is read as something else than a label."""
        ages = (self.age_years, self.birth, self.study_date)
        single = (self.patient, self.study, self.split, *ages, self.sex, self.report)
        return (
            *self.image_columns(),
            *self.view_columns(),
            *(name for name in single if name),
            *self.text.values(),
        )


class LabelList(Config):
    """One column that names the positive pathologies."""

    column: str
    """Empty in a study that was not labeled."""
    separator: str = Field("|", min_length=1)
    """Between two names."""
    strip: str = ""
    """Characters around names that do not count, such as brackets and quotes."""
    none: str = "No Finding"
    """What stands there when nothing was found; a pathology like the others."""


class CsvData(Config):
    """Any table with one row per image."""

    adapter: Literal["csv"] = "csv"
    table: str
    """CSV file with a header, or JSON lines (.json, .jsonl), plain or .gz; local or gs://."""
    image_dir: str
    """Folder of the films: DICOM, PNG or JPEG."""
    user_project: str | None = None
    """Project billed for a requester-pays bucket."""
    columns: Columns = Columns()
    """What the columns mean."""
    find_films: Literal["path", "name", "stem"] = "path"
    """`name` finds a film by its bare name, in whatever folder of `image_dir` it lies; `stem` by its path, whatever its
    suffix: .png for a table's .jpg."""
    path_ids: str | None = None
    """Regular expression with the groups `patient`, `study` or both, for ids that stand in a film's path alone."""
    repeated: Literal["refuse", "any", "majority"] = "refuse"
    """Rows of one film or study that disagree, such as one per box or per reader: a pathology is positive in any of
    them, or what more than half say; where no half agrees, uncertain if one of them is, else negative."""
    pathologies: tuple[str, ...] | None = Field(None, min_length=1)
    """Labels to keep, in this order; null for every column that `columns` does not use, or every name in the list."""
    label_table: str | None = None
    """Table of its own that holds the labels, a CSV file or JSON lines; a row without one there is unlabeled."""
    label_key: str | None = None
    """Column of both tables that says whose labels they are."""
    label_list: LabelList | None = None
    """For a table with all labels in one column; null for a column per pathology holding 1, 0, -1 or nothing."""
    not_mentioned: Literal["blank", "0"] = "blank"
    """What a pathology missing from `label_list` is: `0` where labels are binary."""
    text_labels: dict[str, str] = Field(default_factory=dict)
    """Label columns that hold a text where the pathology is there, such as a mask, with what says that it is not."""
    names: dict[str, str] = Field(default_factory=dict)
    """Other names for label columns of the table."""
    views: dict[str, str] = Field(default_factory=dict)
    """The table's words for views to PA, AP, LATERAL or LL; to "" where a word says none of them."""
    split_lists: dict[SplitName, str] = Field(default_factory=dict)
    """Text files with a film a line, by split; without validate, `validate_fraction` of train's patients validate."""
    splits: dict[str, SplitName] = Field(default_factory=lambda: {name: name for name in get_args(SplitName)})
    """The table's names of the splits to ours."""
    validate_fraction: float = Field(0.1, gt=0.0, lt=1.0)
    """Share of the training patients, by keyed hash, that validates where the table has no validation split."""
    fractions: Fractions = Field(default_factory=lambda: dict(_FRACTIONS))
    """Shares of the patients, by keyed hash, where the table has no split column; they sum to 1."""
    unlabeled: tuple[DicomFolder, ...] = ()
    """Folders of more films for training alone, without labels or reports."""

    _read_zero = model_validator(mode="before")(_zero_as_text)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.path_ids is not None:
            try:
                groups = set(re.compile(self.path_ids).groupindex)
            except re.error:
                groups = set()
            if not groups or groups - {"patient", "study"}:
                raise ValueError("path_ids: a regular expression with (?P<patient>...), (?P<study>...) or both")
            if any(getattr(self.columns, name) for name in groups):
                raise ValueError('path_ids: set the columns of what it finds to "" or null')
        if self.split_lists and self.columns.split is not None:
            raise ValueError("either split_lists or columns.split")
        if (self.label_table is None) != (self.label_key is None):
            raise ValueError("label_table and label_key: both or neither")
        return self


class OpeniData(Config):
    """Open-i's chest X-rays of Indiana University (Demner-Fushman et al. 2016), labels from their MeSH terms."""

    adapter: Literal["openi"] = "openi"
    reports: str
    """NLMCXR_reports.tgz, or the folder with its XML files; local or gs://."""
    image_dir: str | None = None
    """Folder of the unpacked PNG or DICOM films, in any subfolders; null while only the reports are audited."""
    user_project: str | None = None
    """Project billed for a requester-pays bucket."""
    not_mentioned: Literal["blank", "0"] = "blank"
    """What a pathology without a MeSH term is; the terms name what is there, never what is absent."""
    fractions: Fractions = Field(default_factory=lambda: dict(_FRACTIONS))
    """Shares of the studies, by keyed hash; they sum to 1. Each study counts as a patient: the set names none."""

    unlabeled: tuple[DicomFolder, ...] = ()
    """Folders of more films for training alone, without labels or reports."""

    _read_zero = model_validator(mode="before")(_zero_as_text)


DataConfig = Annotated[
    MimicCxrData | CsvData | OpeniData | DicomFolderData | DicomwebData, Field(discriminator="adapter")
]
"""Section `data`: which source, told apart by `adapter`."""


class PreprocessConfig(Config):
    """How the source becomes shards."""

    pixels: PixelPreset = PixelPreset()
    """How a film becomes an image."""
    limits: DecodeLimits = DecodeLimits()
    """What a film may cost before it is rejected."""
    section_reader: SectionReader = "strict"
    """How reports become sections: `strict` calls an indication only what was certainly written before the film was
    read; `mimic` follows the parser published for MIMIC-CXR, findings in the indication and all, and marks every model
    that reads its text as LEAKY."""
    images_per_shard: int = Field(1024, ge=1)
    """About how many images a shard holds; a study never straddles two."""
    max_reject_fraction: float = Field(0.01, ge=0.0, le=1.0)
    """Largest share of films that may be unusable before the step fails."""
    num_workers: int | None = Field(None, ge=0)
    """Processes that read films; 0 reads them in this one, null uses every core. No effect on the result."""

    def result_json(self) -> str:
        """Canonical JSON of what affects the data set."""
        return self.model_copy(update={"num_workers": None, "max_reject_fraction": 1.0}).canonical_json()


def parse_data(values: Mapping[str, Any], *, where: str = "data") -> DataConfig:
    """Validate the section `data`.

    Raises:
        UserError: naming the field by its dotted path.
    """
    match values.get("adapter"):
        case "mimic-cxr":
            return MimicCxrData.parse(values, where=where)
        case "csv":
            return CsvData.parse(values, where=where)
        case "openi":
            return OpeniData.parse(values, where=where)
        case "dicom-folder":
            return DicomFolderData.parse(values, where=where)
        case "dicomweb":
            return DicomwebData.parse(values, where=where)
        case found:
            raise UserError(
                "unknown-adapter" if found is not None else "missing-config-field",
                "unknown source of data" if found is not None else "missing configuration field",
                where=f"{where}.adapter",
                found=found,
                expected="mimic-cxr, csv, openi, dicom-folder or dicomweb",
            )
