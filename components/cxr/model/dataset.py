"""Studies out of shards, for train and evaluate: metadata in memory, pixels memory-mapped from a local cache."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from torch.utils.data import Dataset

from components.cxr.labels import derive_no_finding
from components.cxr.model.batch import Study
from components.cxr.model.pixel_cache import cached_pixels
from components.cxr.shards import LoadedManifest, label_states, read_shard
from components.cxr.text.text import SECTIONS, TextConfig, select_text

__all__ = ["Place", "StudyDataset"]

_COLUMNS = ["study_id", "patient_id", "view_position", "labeled", "age_years", "sex", *(f"text_{s}" for s in SECTIONS)]


class Place(NamedTuple):
    """Where a study lies."""

    shard: str
    row: int
    num_images: int


class StudyDataset(Dataset[Study]):
    """The studies of one split, in the order of the manifest.

    Attributes:
        states_SP: int8 label states with No Finding's 0 derived, BLANK where blank.
        labeled_S: whether the study's report was labeled at all.
        study_ids, patient_ids, places: by study.

    Args:
        splits: one or more of train, validate, test.
        text: which sections are the text input.
        max_views: later films of a study are left out; None keeps all.

    Raises:
        UserError: a shard is missing or damaged.
    """

    def __init__(
        self, loaded: LoadedManifest, *, splits: Sequence[str], text: TextConfig, max_views: int | None = None
    ) -> None:
        manifest = loaded.manifest
        size = manifest.pixel_preset.size
        self.study_ids: list[str] = []
        self.patient_ids: list[str] = []
        self.places: list[Place] = []
        self._films: list[npt.NDArray[np.uint8]] = []
        self._details: list[dict[str, Any]] = []
        states, labeled = [], []
        for info in (shard for split in splits for shard in manifest.shards_of(split)):
            table = read_shard(loaded.storage, info, columns=[*_COLUMNS, *manifest.pathologies])
            pixels_NHW = cached_pixels(loaded.storage, info, size=size)
            state_NP = label_states(table, manifest.pathologies)
            rows = table.select(_COLUMNS).to_pylist()
            for start, stop in _runs(table.column("study_id")):
                row, stop_view = rows[start], stop if max_views is None else min(stop, start + max_views)
                self.study_ids.append(row["study_id"])
                self.patient_ids.append(row["patient_id"])
                self.places.append(Place(info.name, start, stop - start))
                self._films.append(pixels_NHW[start:stop_view])
                sections: dict[str, str | None] = {name: row[f"text_{name}"] for name in SECTIONS}
                self._details.append(
                    {
                        "view_positions": [rows[i]["view_position"] for i in range(start, stop_view)],
                        "text": select_text(sections, config=text),
                        "age_years": row["age_years"],
                        "sex": row["sex"],
                    }
                )
                states.append(state_NP[start])
                labeled.append(row["labeled"])
        state_SP = np.array(states, dtype=np.int8).reshape(len(states), len(manifest.pathologies))
        self.states_SP = derive_no_finding(state_SP, pathologies=manifest.pathologies)
        self.labeled_S = np.array(labeled, dtype=bool)

    def __len__(self) -> int:
        return len(self.study_ids)

    def __getitem__(self, index: int) -> Study:
        return Study(films=list(self._films[index]), **self._details[index])

    def __iter__(self) -> Iterator[Study]:
        return (self[index] for index in range(len(self)))

    def texts(self) -> list[str]:
        """The text input of every study, empty where absent."""
        return [details["text"] for details in self._details]


def _runs(study_ids: pa.ChunkedArray) -> list[tuple[int, int]]:
    """Start and stop row of each study; a study's rows are adjacent."""
    ids = np.asarray(study_ids.to_pylist())
    starts = [0, *(np.flatnonzero(ids[1:] != ids[:-1]) + 1).tolist()]
    return list(zip(starts, [*starts[1:], len(ids)], strict=True))
