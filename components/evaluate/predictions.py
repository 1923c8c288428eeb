"""What the first half of evaluation leaves for the second: facts of the studies and raw scores, as Parquet.

`predictions/<key>/` holds `studies/<split>.parquet`, and one file per run of the model, such as
`test/image+meta.parquet` or `films/image.parquet`. Each appears whole or not at all, so what is there is not predicted
again. No torch here.

Shape letters: S studies, N rows (studies or films), P pathologies.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from components.cxr.config import content_hash
from components.cxr.labels import BLANK
from components.cxr.report import CONDITIONS, Condition
from components.cxr.storage.parquet import parquet_table
from components.cxr.storage.storage import Storage

__all__ = [
    "PASSES", "TRAITS", "Pass", "Predictions", "Rows", "Scores", "Studies", "Trait",
    "predictions_key", "read_scores", "read_studies", "write_scores", "write_studies",
]  # fmt: skip

VERSION = 3
"""Of the code that decides the scores: a change of the model's input or output needs a new one."""


Trait = Literal["age_years", "sex", "race", "insurance", "view"]
TRAITS: tuple[Trait, ...] = ("age_years", "sex", "race", "insurance", "view")
"""What is known of a study and its patient; the view is that of the first frontal film."""


class Pass(NamedTuple):
    """One run of the model over the studies of a split, over every test film as a study of its own, or over the test
    studies with the texts of other patients."""

    rows: Literal["test", "validate", "films", "shuffled"]
    condition: Condition

    @property
    def file(self) -> str:
        """Name under the predictions' folder."""
        return f"{self.rows}/{self.condition}.parquet"


PASSES: tuple[Pass, ...] = (
    *(Pass("test", condition) for condition in CONDITIONS),
    Pass("films", "image"),
    Pass("shuffled", "all"),
    *(Pass("validate", condition) for condition in CONDITIONS),
)
"""What a whole evaluation needs."""


@dataclass(frozen=True)
class Rows:
    """Labels of what a table counts: studies, or images with their study's labels."""

    states_NP: npt.NDArray[np.int8]
    labeled_N: npt.NDArray[np.bool_]
    patients: Sequence[str]
    studies: Sequence[str]

    def select(self, chosen_N: npt.NDArray[np.bool_] | npt.NDArray[np.int64]) -> Rows:
        """The chosen rows, in order."""
        indices = np.arange(len(self.labeled_N))[chosen_N]
        patients, studies = [self.patients[i] for i in indices], [self.studies[i] for i in indices]
        return Rows(self.states_NP[chosen_N], self.labeled_N[chosen_N], patients, studies)


@dataclass(frozen=True)
class Studies:
    """Facts of the studies of a split, in the order of the manifest."""

    rows: Rows
    """Label states with No Finding's 0 derived."""
    shards: Sequence[str]
    first_row_S: npt.NDArray[np.int64]
    """Of the study in its shard."""
    num_images_S: npt.NDArray[np.int64]
    has_text_S: npt.NDArray[np.bool_]
    has_age_S: npt.NDArray[np.bool_]
    complete_S: npt.NDArray[np.bool_]
    """There are a film, text, and metadata (age, sex or a view)."""
    trained_on_S: npt.NDArray[np.bool_]
    """The model was fitted to the patient's films, or its weights were selected on them."""
    traits: Mapping[Trait, Sequence[Any]] = field(default_factory=dict)
    """A value per study, None when unknown."""

    def __len__(self) -> int:
        return len(self.rows.studies)

    def patients_trained_on(self) -> set[str]:
        """The patients whom the model's training saw."""
        return {patient for patient, seen in zip(self.rows.patients, self.trained_on_S, strict=True) if seen}


class Scores(NamedTuple):
    """The model's raw output."""

    studies: Sequence[str]
    """Of each row, N."""
    score_NP: npt.NDArray[np.float32]
    """z1 - z0, uncalibrated."""
    uncertain_NP: npt.NDArray[np.float32]
    """3-way probability of uncertain, in [0, 1]."""


@dataclass(frozen=True)
class Predictions:
    """What one bundle says on one data set."""

    test: Studies
    validation: Studies
    scores: dict[Pass, Scores]
    """Of the passes that were asked for and have a study."""

    def __post_init__(self) -> None:
        """A score counts for the study in its row: rows in another order would be labels of other studies."""
        facts = {"test": self.test, "shuffled": self.test, "validate": self.validation}
        for job, found in self.scores.items():
            if job.rows != "films" and list(found.studies) != list(facts[job.rows].rows.studies):
                raise ValueError(f"scores and facts of other studies, or in another order: {job.file}")


def predictions_key(bundle_hash: str, manifest_hash: str) -> str:
    """Name of the predictions' folder: 16 hex digits over what decides the scores."""
    return content_hash(f"predict {VERSION}", bundle_hash, manifest_hash)


def write_studies(storage: Storage, split: str, studies: Studies, *, pathologies: Sequence[str]) -> None:
    """Write `studies/<split>.parquet`."""
    rows = studies.rows
    columns = {
        "study_id": rows.studies,
        "patient_id": rows.patients,
        "labeled": rows.labeled_N,
        "shard": studies.shards,
        "first_row": studies.first_row_S,
        "num_images": studies.num_images_S,
        "has_text": studies.has_text_S,
        "has_age": studies.has_age_S,
        "complete": studies.complete_S,
        "trained_on": studies.trained_on_S,
    }
    columns |= {f"trait/{name}": values for name, values in studies.traits.items()}
    for p, name in enumerate(pathologies):
        columns[f"label/{name}"] = pa.array(rows.states_NP[:, p], mask=rows.states_NP[:, p] == BLANK)
    _write(storage, f"studies/{split}.parquet", pa.table(columns))


def read_studies(storage: Storage, split: str, *, pathologies: Sequence[str]) -> Studies:
    """Read what write_studies wrote.

    Raises:
        FileNotFoundError: there is none.
    """
    table = _read(storage, f"studies/{split}.parquet")
    states = [table[f"label/{name}"].fill_null(BLANK).to_numpy().astype(np.int8) for name in pathologies]
    flags = {name: table[name].to_numpy().astype(bool) for name in ("has_text", "has_age", "complete", "trained_on")}
    return Studies(
        rows=Rows(
            np.stack(states, axis=1),
            table["labeled"].to_numpy().astype(bool),
            table["patient_id"].to_pylist(),
            table["study_id"].to_pylist(),
        ),
        shards=table["shard"].to_pylist(),
        first_row_S=table["first_row"].to_numpy(),
        num_images_S=table["num_images"].to_numpy(),
        **{f"{name}_S": values for name, values in flags.items()},
        traits={name: table[f"trait/{name}"].to_pylist() for name in TRAITS if f"trait/{name}" in table.column_names},
    )


def write_scores(storage: Storage, job: Pass, scores: Scores, *, pathologies: Sequence[str]) -> None:
    """Write the file of one pass: study_id, and per pathology `score/<name>` and `uncertain/<name>`."""
    columns: dict[str, Sequence[str] | npt.NDArray[np.float32]] = {"study_id": scores.studies}
    for p, name in enumerate(pathologies):
        columns[f"score/{name}"] = scores.score_NP[:, p]
        columns[f"uncertain/{name}"] = scores.uncertain_NP[:, p]
    _write(storage, job.file, pa.table(columns))


def read_scores(storage: Storage, job: Pass, *, pathologies: Sequence[str]) -> Scores:
    """Read what write_scores wrote.

    Raises:
        FileNotFoundError: there is none.
    """
    table = _read(storage, job.file)
    score_NP, uncertain_NP = (
        np.stack([table[f"{kind}/{name}"].to_numpy() for name in pathologies], axis=1)
        for kind in ("score", "uncertain")
    )
    return Scores(table["study_id"].to_pylist(), score_NP, uncertain_NP)


def _write(storage: Storage, name: str, table: pa.Table) -> None:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    storage.write(name, buffer.getvalue())


def _read(storage: Storage, name: str) -> pa.Table:
    return parquet_table(storage.read(name).data)
