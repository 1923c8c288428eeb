"""Studies out of shards, for train and evaluate: metadata in columns, pixels mapped from this machine's cache."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import Tensor
from torch.utils.data import Dataset

from components.cxr.labels import derive_no_finding
from components.cxr.model.batch import SEX_INDEX, VIEW_INDEX, Study
from components.cxr.model.shard_cache import cached_shards
from components.cxr.shards import LoadedManifest, label_states
from components.cxr.text.text import TextConfig, select_text

__all__ = ["Place", "StudyDataset"]

_T = TypeVar("_T", bound=np.generic)
_COLUMNS = ("study_id", "patient_id", "view_position", "labeled", "age_years", "sex")


class Place(NamedTuple):
    """Where a study lies."""

    shard: str
    row: int
    num_images: int


class _Coded(NamedTuple):
    """A column of few different values."""

    code_N: npt.NDArray[np.int16]
    values: list[str | None]

    def embedded(self, index: dict[str, int]) -> npt.NDArray[np.int8]:
        """Each value's place in an embedding, 0 where it has none."""
        return np.array([index.get(value or "", 0) for value in self.values], dtype=np.int8)[self.code_N]


class StudyDataset(Dataset[Study]):
    """The studies of one or more splits, in the order of the manifest.

    `python -m benchmarks.loader --metadata` says what a process keeps of it in memory; pixels are pages that all
    processes of a machine share. Shape letters: S studies, F films that are kept, P pathologies.

    Attributes:
        states_SP: int8 label states with No Finding's 0 derived, BLANK where blank.
        labeled_S: whether the study's report was labeled at all.
        first_film_S: where a study's films begin among the F; its last number is F, so that there are S + 1.
        view_F, sex_S: int8 indices into the embeddings of VIEW_INDEX and SEX_INDEX, 0 unknown.
        age_S: float32 years, NaN when absent.
        facts: by column, a value per study (of its first film), None when absent.

    Args:
        splits: one or more of train, validate, test.
        text: which sections are the text input.
        max_views: later films of a study are left out; None keeps all.
        facts: further columns to keep, for scores by subgroup.

    Raises:
        UserError: a shard is missing or damaged.
    """

    def __init__(
        self,
        loaded: LoadedManifest,
        *,
        splits: Sequence[str],
        text: TextConfig,
        max_views: int | None = None,
        facts: Sequence[str] = (),
    ) -> None:
        manifest = loaded.manifest
        self.size = manifest.pixel_preset.size
        infos = [shard for split in splits for shard in manifest.shards_of(split)]
        columns = (*_COLUMNS, *facts, *(f"text_{name}" for name in text.sections), *manifest.pathologies)
        self._infos = infos
        self._pixels: list[npt.NDArray[np.uint8]] = []
        tables, views, texts, states, places = [], [], [], [], []
        for i, shard in enumerate(cached_shards(loaded.storage, infos, size=self.size, columns=columns)):
            self._pixels.append(np.asarray(shard.pixels_NHW))
            start_S, count_S = _runs(shard.table.column("study_id"))
            kept_S = count_S if max_views is None else np.minimum(count_S, max_views)
            places.append(np.stack([np.full_like(start_S, i), start_S, count_S, kept_S]))
            views.append(shard.table.column("view_position").take(pa.array(_ranges(start_S, kept_S))))
            table = shard.table.take(pa.array(start_S))
            states.append(label_states(table, manifest.pathologies))
            texts.append(_texts(table, text))
            tables.append(table.select(["study_id", "patient_id", "labeled", "age_years", "sex", *facts]))
        none = np.zeros((4, 0), np.int32)
        self._shard_S, self._row_S, self._num_images_S, kept_S = np.concatenate([none, *places], axis=1)
        self.first_film_S = np.concatenate([[0], np.cumsum(kept_S)]).astype(np.int64)
        table = pa.concat_tables(tables) if tables else _no_studies()
        self._study_id, self._patient_id = (_one(table.column(name)) for name in ("study_id", "patient_id"))
        self._text = _one(pa.chunked_array(texts, type=pa.large_string()))
        self._sex, self._view = _coded(table.column("sex")), _coded(pa.chunked_array(_chunks(views), type=pa.string()))
        self.sex_S, self.view_F = self._sex.embedded(SEX_INDEX), self._view.embedded(VIEW_INDEX)
        self.age_S = table.column("age_years").fill_null(float("nan")).to_numpy().astype(np.float32)
        self.labeled_S = table.column("labeled").to_numpy().astype(bool)
        self.facts = {name: table.column(name).to_pylist() if tables else [] for name in facts}
        state_SP = np.concatenate([np.zeros((0, len(manifest.pathologies)), np.int8), *states])
        self.states_SP = derive_no_finding(state_SP, pathologies=manifest.pathologies)

    def __len__(self) -> int:
        return len(self._row_S)

    def __getitem__(self, index: int) -> Study:
        index = range(len(self))[index]
        first, last = self.first_film_S[index : index + 2]
        row, age = self._row_S[index], float(self.age_S[index])
        return Study(
            films=list(self._pixels[self._shard_S[index]][row : row + last - first]),
            view_positions=[self._view.values[code] for code in self._view.code_N[first:last]],
            text=self._text[index].as_py(),
            age_years=None if np.isnan(age) else age,
            sex=self._sex.values[self._sex.code_N[index]],
        )

    def __iter__(self) -> Iterator[Study]:
        return (self[index] for index in range(len(self)))

    @property
    def study_ids(self) -> list[str]:
        """By study; a new list."""
        return self._study_id.to_pylist()  # type: ignore[no-any-return]

    @property
    def patient_ids(self) -> list[str]:
        """By study; a new list."""
        return self._patient_id.to_pylist()  # type: ignore[no-any-return]

    @property
    def places(self) -> list[Place]:
        """By study; a new list."""
        numbers = zip(self._shard_S.tolist(), self._row_S.tolist(), self._num_images_S.tolist(), strict=True)
        return [Place(self._infos[shard].name, row, num_images) for shard, row, num_images in numbers]

    def texts(self) -> list[str]:
        """The text input of every study, empty where absent; a new list."""
        return self._text.to_pylist()  # type: ignore[no-any-return]

    def films(self, studies: Sequence[int], *, num_views: int) -> Tensor:
        """The films of some studies, uint8 (len(studies), num_views, size, size); 0 where a study has fewer."""
        return torch.from_numpy(self.gathered(self._pixels, studies, num_views=num_views))

    def shards(self) -> Iterator[tuple[str, npt.NDArray[np.uint8]]]:
        """The SHA-256 of every shard and its pixels (rows, size, size), of films beyond `max_views` too."""
        return zip((info.sha256 for info in self._infos), self._pixels, strict=True)

    def gathered(
        self, of_shards: Sequence[npt.NDArray[_T]], studies: Sequence[int], *, num_views: int
    ) -> npt.NDArray[_T]:
        """What belongs to the films of some studies, (len(studies), num_views, ...); 0 where a study has fewer.

        Args:
            of_shards: an array per shard with a row per film, as its pixels have.
        """
        into = np.empty((len(studies), num_views, *of_shards[0].shape[1:]), of_shards[0].dtype)
        chosen_B = np.asarray(studies, dtype=np.int64)
        count_B = self.first_film_S[chosen_B + 1] - self.first_film_S[chosen_B]
        places = (self._shard_S[chosen_B].tolist(), self._row_S[chosen_B].tolist(), count_B.tolist())
        for b, (shard, row, count) in enumerate(zip(*places, strict=True)):
            into[b, :count] = of_shards[shard][row : row + count]
            if count < num_views:
                into[b, count:] = 0
        return into


def _runs(study_ids: pa.ChunkedArray) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """First row and number of rows of each study; a study's rows are adjacent."""
    number_N = _one(study_ids).dictionary_encode().indices.to_numpy()
    start_S = np.flatnonzero(np.diff(number_N, prepend=-1)).astype(np.int32)
    return start_S, np.diff(start_S, append=len(number_N)).astype(np.int32)


def _ranges(start_S: npt.NDArray[np.int32], count_S: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
    """start, start + 1 … of each, `count` long, one after the other.

    >>> _ranges(np.array([4, 7], np.int32), np.array([2, 1], np.int32)).tolist()
    [4, 5, 7]
    """
    before_S = np.cumsum(count_S) - count_S
    within_N: npt.NDArray[np.int64] = np.arange(count_S.sum()) + np.repeat(start_S - before_S, count_S)
    return within_N


def _texts(table: pa.Table, config: TextConfig) -> pa.Array:
    sections = {name: table.column(f"text_{name}").to_pylist() for name in config.sections}
    rows = range(table.num_rows)
    return pa.array(
        [select_text({name: column[s] for name, column in sections.items()}, config=config) for s in rows],
        type=pa.large_string(),
    )


def _coded(column: pa.ChunkedArray) -> _Coded:
    """A column of strings as codes; null is a value like any other."""
    coded = _one(column).dictionary_encode(null_encoding="encode")
    return _Coded(coded.indices.to_numpy().astype(np.int16), coded.dictionary.to_pylist())


def _one(column: pa.ChunkedArray) -> pa.Array:
    """The column in one piece of this process's own memory: no file of the cache stays open for it."""
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], type=column.type)


def _chunks(columns: Sequence[pa.ChunkedArray]) -> list[pa.Array]:
    return [chunk for column in columns for chunk in column.chunks]


def _no_studies() -> pa.Table:
    kinds = {"study_id": pa.string(), "patient_id": pa.string(), "labeled": pa.bool_(), "age_years": pa.float32()}
    return pa.schema({**kinds, "sex": pa.string()}).empty_table()
