"""Synthetic DICOMs and reports through every step, and curl to the served model: its answers are evaluation's."""

from __future__ import annotations

import csv
import gzip
import json
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from components.cxr.ids import hash_id
from components.cxr.report import load_predictions
from components.cxr.shards import LoadedManifest
from components.cxr.storage.storage import Root, Storage
from components.evaluate.config import EvaluateConfig
from components.evaluate.evaluate import run as evaluate
from components.preprocess.collect import collect
from components.preprocess.config import MimicCxrData, PreprocessConfig
from components.preprocess.preprocess import run_partition
from components.serve.config import ServeConfig
from components.serve.golden import running_server
from components.train.config import TrainConfig
from components.train.train import train
from pipeline.synthetic import Settings, generate

TINY = {
    "architecture": {
        "vision": {
            "model_type": "resnet",
            "config": {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"},
        },
        "text": {
            "model_type": "bert",
            "config": {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32},
        },
        "fusion": {"width": 16, "num_heads": 2},
    },
    "epochs": 1,
    "batch_size": 16,
    "num_threads": 1,
}


TRUTH_OPENED: list[str] = []
"""Paths of truth.csv that anything in this process opened, since `source` was made; an audit hook cannot be removed."""


def _note_truth(event: str, arguments: tuple[object, ...]) -> None:
    if event == "open" and str(arguments[0]).endswith("truth.csv"):
        TRUTH_OPENED.append(str(arguments[0]))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("synthetic") / "mimic-cxr"
    generate(folder, num_studies=60, settings=Settings(seed=3, prevalence="floor"), size=128)
    sys.addaudithook(_note_truth)
    TRUTH_OPENED.clear()
    return folder


@pytest.fixture(scope="module")
def data(source: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Root, LoadedManifest]:
    root = Root(tmp_path_factory.mktemp("root"))
    config = PreprocessConfig.parse({"pixels": {"size": 48}, "num_workers": 0}, where="preprocess")
    for partition in range(2):
        run_partition(MimicCxrData(dir=str(source)), config, root=root, partition=partition, num_partitions=2)
    return root, collect(MimicCxrData(dir=str(source)), config, root=root)


@pytest.fixture(scope="module")
def evaluated(data: tuple[Root, LoadedManifest]) -> tuple[Storage, Storage]:
    root, loaded = data
    bundle = train(TrainConfig.parse(TINY, where="train"), loaded=loaded, root=root)
    config = EvaluateConfig(num_bootstrap=100)
    return bundle, evaluate(config, root=root, manifest=loaded, bundle=bundle).storage


def test_every_film_and_report_arrives(source: Path, data: tuple[Root, LoadedManifest]) -> None:
    manifest = data[1].manifest
    films = list(source.rglob("*.dcm"))
    assert sum(split.images for split in manifest.counts.values()) == len(films)
    assert sum(split.studies for split in manifest.counts.values()) == 60
    assert manifest.num_rejects == 0
    assert len(manifest.pathologies) == 14


def test_preprocess_and_train_never_open_the_truth(source: Path, evaluated: tuple[Storage, Storage]) -> None:
    assert TRUTH_OPENED == []
    assert "study_id" in (source / "truth.csv").read_text()
    assert [str(source / "truth.csv")] == TRUTH_OPENED  # the hook would have seen it
    TRUTH_OPENED.clear()


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl on this machine")
def test_curl_gets_the_probabilities_that_evaluation_computed(source: Path, evaluated: tuple[Storage, Storage]) -> None:
    bundle, evaluation = evaluated
    rows = [row for row in load_predictions(evaluation).to_pylist() if row["condition"] == "all"]
    expected = {row["study_id"]: row for row in rows}
    films: dict[str, list[dict[str, str]]] = defaultdict(list)
    with gzip.open(source / "cxr-record-list.csv.gz", "rt") as file:
        for record in csv.DictReader(file):
            films[record["study_id"]].append(record)
    compared = 0
    with running_server(ServeConfig(), bundle, evaluation) as server:
        for study_id, records in films.items():
            report = source / Path(records[0]["path"]).parent.with_suffix(".txt")
            row = expected.get(hash_id("study", study_id))
            if row is None or not report.exists() or compared == 5:
                continue
            command = ["curl", "-sS", "--fail-with-body", "-F", f"text=<{report}", f"{server.address}/v1/predict"]
            for record in records:
                command += ["-F", f"files=@{source / record['path']}"]
            done = subprocess.run(command, capture_output=True, text=True)
            assert done.returncode == 0, done.stdout
            answers = json.loads(done.stdout)["answers"]
            assert len(answers) == 14
            for name, answer in answers.items():
                assert answer["probability"] == pytest.approx(row[f"probability/{name}"], abs=1e-5)
                assert answer["state"] in (-1, 0, 1)
            compared += 1
    assert compared == 5
