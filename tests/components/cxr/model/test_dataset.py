"""A study out of a data set is that of the shards: its own films, text, metadata and labels."""

from __future__ import annotations

import numpy as np
import pytest

from components.cxr.labels import BLANK, NEGATIVE, derive_no_finding
from components.cxr.model.dataset import StudyDataset
from components.cxr.shards import LoadedManifest, read_shard
from components.cxr.text.text import TextConfig


@pytest.mark.parametrize("splits", [["train"], ["test"], ["validate", "test"]])
def test_studies_are_those_of_the_shards(tiny_data: LoadedManifest, splits: list[str]) -> None:
    manifest = tiny_data.manifest
    data = StudyDataset(tiny_data, splits=splits, text=TextConfig())
    shards = [info for split in splits for info in manifest.shards_of(split)]
    rows_of = {info.name: read_shard(tiny_data.storage, info).to_pylist() for info in shards}
    rows = [row for info in shards for row in rows_of[info.name]]
    assert data.study_ids == list(dict.fromkeys(row["study_id"] for row in rows))
    assert len(data) == len(data.patient_ids) == len(data.places) == sum(info.studies for info in shards)
    size, raw = manifest.pixel_preset.size, []
    for s, (study, place) in enumerate(zip(data, data.places, strict=True)):
        mine = [row for row in rows if row["study_id"] == data.study_ids[s]]
        assert mine == rows_of[place.shard][place.row : place.row + place.num_images]
        assert data.patient_ids[s] == mine[0]["patient_id"]
        assert data.labeled_S[s] == mine[0]["labeled"]
        films = [np.frombuffer(row["pixels"], np.uint8).reshape(size, size) for row in mine]
        np.testing.assert_array_equal(study.films, films)
        assert study.view_positions == [row["view_position"] for row in mine]
        assert study.text == (mine[0]["text_indication"] or "")
        assert (study.age_years, study.sex) == (mine[0]["age_years"], mine[0]["sex"])
        raw.append([BLANK if mine[0][name] is None else mine[0][name] for name in manifest.pathologies])
    expected = derive_no_finding(np.array(raw, dtype=np.int8), pathologies=manifest.pathologies)
    np.testing.assert_array_equal(data.states_SP, expected)
    assert NEGATIVE in expected[:, 0], "No Finding's 0 stands in no shard"
    assert data.texts() == [study.text for study in data]


def test_max_views_leaves_out_later_films(tiny_data: LoadedManifest) -> None:
    whole = StudyDataset(tiny_data, splits=["test"], text=TextConfig())
    first = StudyDataset(tiny_data, splits=["test"], text=TextConfig(), max_views=1)
    assert {len(study.films) for study in whole} == {1, 2}
    for study, kept in zip(whole, first, strict=True):
        np.testing.assert_array_equal(kept.films, study.films[:1])
        assert kept.view_positions == study.view_positions[:1]
