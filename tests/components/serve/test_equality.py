"""Through the server every test study gets evaluation's answer, in each input condition and protocol."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from components.cxr.films.pixels import encode_png
from components.cxr.ids import IdKey, hash_id
from components.cxr.model.dataset import StudyDataset
from components.cxr.model.predictor import answer, condition_of, predict, shown
from components.cxr.report import load_predictions
from components.cxr.shards import read_shard
from components.cxr.storage.storage import Root
from components.preprocess.collect import collect
from components.preprocess.config import PreprocessConfig, parse_data
from components.preprocess.preprocess import run_partition
from pipeline.synthetic.dataset import generate
from pipeline.synthetic.presets import Settings
from tests.components.serve.asking import PROTOCOLS, ask, fields_of, rendered

PUBLIC = IdKey(None)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_test_study_gets_evaluations_answer(server, evaluated, predictor, protocol):
    rows = {(r["study_id"], r["condition"]): r for r in load_predictions(evaluated.evaluation).to_pylist()}
    studies = StudyDataset(evaluated.manifest, splits=["test"], text=predictor.bundle.info.text)
    asked, largest = Counter(), 0.0
    for condition in ("all", "image", "image+meta", "text"):
        for study_id, study in zip(studies.study_ids, (shown(s, condition) for s in studies), strict=True):
            if not study.films and not study.text:
                continue
            films = [encode_png(film) for film in study.films]
            reply = ask(server.address, protocol, films=films, fields=fields_of(study))
            row = rows[study_id, reply["condition"]]
            asked[condition] += 1
            for name, found in reply["answers"].items():
                for kind in ("probability", "uncertain"):
                    largest = max(largest, abs(found[kind] - row[f"{kind}/{name}"]))
                point = predictor.points.conditions[reply["condition"]][name]
                assert found["threshold"] == point.threshold
    assert asked == {"all": 40, "image": 40, "image+meta": 40, "text": 30}
    assert largest < 1e-5


@pytest.mark.parametrize("protocol", ["form", "json"])
def test_every_test_films_pixels_are_evaluations(server, evaluated, predictor, protocol):
    studies = StudyDataset(evaluated.manifest, splits=["test"], text=predictor.bundle.info.text)
    films = [film for study in studies for film in study.films]
    assert len(films) > 40
    for film in films:
        np.testing.assert_array_equal(rendered(server.address, encode_png(film), protocol), film)


@pytest.mark.slow
def test_original_dicoms_and_whole_reports_get_the_shards_answers(server, predictor, tmp_path):
    """Not the shards' pixels and sections, but the files that preprocess made them from."""
    source = tmp_path / "source"
    generate(source, num_studies=24, settings=Settings(seed=3, preset="medium", prevalence="floor"), size=128)
    data = parse_data({"adapter": "mimic-cxr", "dir": str(source)})
    step = PreprocessConfig.parse({"pixels": {"size": 32}, "num_workers": 0}, where="preprocess")
    root = Root(tmp_path / "root")
    run_partition(data, step, root=root, partition=0, num_partitions=1)
    loaded = collect(data, step, root=root)
    tables = [read_shard(loaded.storage, info) for info in loaded.manifest.shards]
    pixels = {row["image_id"]: row for table in tables for row in table.to_pylist()}
    paths = {hash_id("image", path.stem, PUBLIC): path for path in source.rglob("*.dcm")}
    reports = {hash_id("study", path.stem[1:], PUBLIC): path for path in source.rglob("s*.txt")}
    compared, largest = Counter(), 0.0
    for split in ("train", "validate", "test"):
        studies = StudyDataset(loaded, splits=[split], text=predictor.bundle.info.text)
        for study_id, study in zip(studies.study_ids, studies, strict=True):
            mine = [row for row in pixels.values() if row["study_id"] == study_id]
            films = [paths[row["image_id"]].read_bytes() for row in mine]
            for row, film in zip(mine, films, strict=True):
                shard = np.frombuffer(row["pixels"], np.uint8).reshape(32, 32)
                np.testing.assert_array_equal(rendered(server.address, film, "form"), shard)
            fields = {"view_positions": [row["view_position"] or "" for row in mine]}
            if study_id in reports:
                fields["text"] = reports[study_id].read_text()
            condition = condition_of(study)
            logits = predict(predictor.bundle, [study])
            expected = answer(predictor.bundle, logits, predictor.points, condition=condition)
            for protocol in PROTOCOLS:
                reply = ask(server.address, protocol, films=films, fields=fields)
                assert reply["condition"] == condition
                for name, told in expected.items():
                    largest = max(largest, abs(reply["answers"][name]["probability"] - told.probability))
                    assert reply["answers"][name]["state"] == told.state
            compared[condition] += 1
    assert sum(compared.values()) == 24
    assert compared["all"] > 10
    assert largest < 1e-5
