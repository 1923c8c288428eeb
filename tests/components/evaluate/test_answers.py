"""Answers for a whole data set: evaluation's own numbers, and a folder of films without labels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.parquet as pq
import pytest
import torch
import yaml

from components.cxr.errors import UserError
from components.cxr.film_check import FILM_CHECK, FilmCheck
from components.cxr.ids import hash_id
from components.cxr.model.dataset import StudyDataset
from components.cxr.model.predictor import condition_of
from components.cxr.report import load_predictions
from components.cxr.shards import LoadedManifest
from components.cxr.storage.pointers import write_pointer
from components.cxr.storage.storage import Root, Storage, open_storage
from components.cxr.text.text import TextConfig
from components.evaluate.answers import answers, main, write_table
from components.evaluate.config import EvaluateConfig
from components.evaluate.evaluate import run
from components.preprocess.collect import collect
from components.preprocess.config import PreprocessConfig, parse_data
from components.preprocess.preprocess import run_partition
from tests.components.conftest import COUNTS, NAMES, SIZE

CONFIG = EvaluateConfig(num_bootstrap=100)


@pytest.fixture
def evaluated(tiny_data: LoadedManifest, untrained_bundle: Storage, tmp_path: Path) -> tuple[Root, Storage, Storage]:
    """A root, its evaluated bundle and the evaluation."""
    root = Root(tmp_path / "root")
    root.bundle("tiny").upload_folder(Path(untrained_bundle.uri))
    found = run(CONFIG, root=root, manifest=tiny_data, bundle=root.bundle("tiny"))
    write_pointer(root, "bundle", root.bundle("tiny").uri)
    return root, root.bundle("tiny"), found.storage


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_told_before_anything_is_loaded(
    tiny_data: LoadedManifest, untrained_bundle: Storage, tmp_path: Path
) -> None:
    root, nothing, config = Root(tmp_path / "root"), open_storage(tmp_path / "nothing"), EvaluateConfig(device="cuda")
    with pytest.raises(UserError, match=r"no CUDA device: evaluate.device"):
        run(config, root=root, manifest=tiny_data, bundle=untrained_bundle)
    with pytest.raises(UserError, match=r"no CUDA device: evaluate.device"):
        answers(config, manifest=tiny_data, bundle=nothing, evaluation=nothing)
    assert not root.at("").sizes()


def test_every_split_is_answered_as_evaluation_did(
    evaluated: tuple[Root, Storage, Storage], tiny_data: LoadedManifest, tmp_path: Path
) -> None:
    root, bundle, evaluation = evaluated
    before = bundle.sizes()
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump({"root": root.uri}))
    write_pointer(root, "manifest", tiny_data.storage.uri)
    main(config=config, output=str(tmp_path / "out" / "answers.parquet"), overrides=[])
    table = pq.read_table(tmp_path / "out" / "answers.parquet")
    assert bundle.sizes() == before
    rows = {row["study_id"]: row for row in table.to_pylist()}
    assert len(rows) == sum(COUNTS.values())
    told = {(row["study_id"], row["condition"]): row for row in load_predictions(evaluation).to_pylist()}
    studies = StudyDataset(tiny_data, splits=["test"], text=TextConfig())
    fitting = {study_id: condition_of(study) for study_id, study in zip(studies.study_ids, studies, strict=True)}
    assert len(fitting) == COUNTS["test"]
    assert set(fitting.values()) == {"all", "image+meta"}
    for row in (told[place] for place in fitting.items()):
        assert rows[row["study_id"]]["split"] == "test"
        assert rows[row["study_id"]]["in_distribution"] is None, "too few films for a check"
        for name in NAMES:
            assert rows[row["study_id"]][f"probability/{name}"] == pytest.approx(row[f"probability/{name}"], abs=1e-6)


def test_a_folder_of_films_needs_no_labels(
    evaluated: tuple[Root, Storage, Storage],
    tmp_path: Path,
    dicom_bytes: Callable[..., bytes],
    film_check: FilmCheck,
) -> None:
    _, bundle, evaluation = evaluated
    evaluation.write(FILM_CHECK, film_check.save())
    rng = np.random.default_rng(0)
    (tmp_path / "films").mkdir()
    for i in range(3):
        stored = rng.integers(0, 4096, (40, 40)).astype(np.uint16)
        film = dicom_bytes(stored, bits_stored=12, StudyInstanceUID=f"1.2.{i // 2}", SOPInstanceUID=f"1.3.{i}")
        (tmp_path / "films" / f"{i}").write_bytes(film)
    archive = Root(tmp_path / "archive")
    values = {"adapter": "dicom-folder", "dir": str(tmp_path / "films"), "pathologies": list(NAMES)}
    step = PreprocessConfig.parse({"pixels": {"size": SIZE}, "num_workers": 0}, where="preprocess")
    run_partition(parse_data(values), step, root=archive, partition=0, num_partitions=1)
    manifest = collect(parse_data(values), step, root=archive)
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump({"root": archive.uri}))
    out = tmp_path / "answers.csv"
    main(config=config, output=str(out), overrides=[], bundle=bundle.uri, evaluation=evaluation.uri)
    table = arrow_csv.read_csv(out)
    assert set(table.column("study_id").to_pylist()) == {hash_id("study", "1.2.0"), hash_id("study", "1.2.1")}
    assert table.column("in_distribution").to_pylist() == [False, False], "noise"
    for name in NAMES:
        assert all(0 <= p <= 1 for p in table.column(f"probability/{name}").to_pylist())
        assert set(table.column(f"state/{name}").to_pylist()) <= {-1, 0, 1}

    with pytest.raises(UserError, match=r"nothing to evaluate on: .*found 0 labeled studies"):
        run(CONFIG, root=archive, manifest=manifest, bundle=bundle)
    with pytest.raises(UserError, match=r"nothing to predict: .*found 0 studies in train"):
        answers(CONFIG, manifest=manifest, bundle=bundle, evaluation=evaluation, splits=["train"])


def test_an_evaluation_of_another_model_is_refused(
    evaluated: tuple[Root, Storage, Storage], tiny_data: LoadedManifest, fitted_bundle: Storage
) -> None:
    with pytest.raises(UserError, match="operating points are of another model"):
        answers(CONFIG, manifest=tiny_data, bundle=fitted_bundle, evaluation=evaluated[2])


@pytest.mark.parametrize("name", ["answers.csv", "answers.parquet"])
def test_the_table_may_lie_in_a_bucket(name: str, gcs_bucket: str, tmp_path: Path) -> None:
    table = pa.table({"study_id": ["a"], "state/Edema": [1]})
    write_table(table, f"{gcs_bucket}/out/{name}")
    write_table(table, str(tmp_path / name))
    assert open_storage(f"{gcs_bucket}/out").read(name).data == (tmp_path / name).read_bytes()
