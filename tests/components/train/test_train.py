from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml

from components.cxr.bundle import Bundle, load_bundle
from components.cxr.bundle_info import BUNDLE
from components.cxr.errors import UserError
from components.cxr.labels import BLANK, LabelPolicy
from components.cxr.model.dataset import StudyDataset
from components.cxr.model.predictor import predict
from components.cxr.shards import LoadedManifest, Manifest, load_manifest, read_shard, write_manifest
from components.cxr.storage.pointers import read_pointer
from components.cxr.storage.storage import Root, open_storage, sha256_of
from components.cxr.tracking.journal import JOURNAL
from components.train.checkpoint import load_checkpoint
from components.train.config import TrainConfig
from components.train.key import training_key
from components.train.launch import launch
from components.train.setup import Setup
from components.train.train import train


@pytest.fixture(scope="module")
def trained(tiny_data: LoadedManifest, tiny_config: TrainConfig, tmp_path_factory: pytest.TempPathFactory) -> Root:
    root = Root(tmp_path_factory.mktemp("trained"))
    train(tiny_config, loaded=tiny_data, root=root)
    return root


def weights(root: Root, config: TrainConfig, loaded: LoadedManifest, *, part: str = "model") -> dict[str, torch.Tensor]:
    folder = root.checkpoints(training_key(config, loaded.hash))
    name = json.loads(folder.read("latest.json").data)["checkpoint"]
    return torch.load(io.BytesIO(folder.read(name).data), weights_only=True)[part]


def largest_difference(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    assert a.keys() == b.keys()
    return max((a[name].double() - b[name].double()).abs().max().item() for name in a)


def command(config: TrainConfig, root: Root, loaded: LoadedManifest, folder: Path, **changes: object) -> list[str]:
    file = folder / "train.yaml"
    file.write_text(yaml.safe_dump({"root": root.uri, "train": config.model_dump(mode="json") | changes}))
    return [sys.executable, "-m", "components.train", "--config", str(file), "--manifest", loaded.storage.uri]


def test_bundle_holds_a_model_that_learned(trained: Root, tiny_data: LoadedManifest, tiny_config: TrainConfig) -> None:
    bundle = load_bundle(trained.bundle(training_key(tiny_config, tiny_data.hash)))
    assert bundle.info.pathologies == tiny_data.manifest.pathologies
    assert bundle.info.manifest_hash == tiny_data.hash
    assert bundle.info.mlflow_run_id
    journal = trained.checkpoints(training_key(tiny_config, tiny_data.hash)).read(JOURNAL).data.decode()
    losses = [
        row["train/supervised_loss"] for row in map(json.loads, journal.splitlines()) if "train/supervised_loss" in row
    ]
    assert np.mean(losses[-3:]) < 0.9 * losses[0]  # it starts at the labels' frequencies


@pytest.mark.parametrize("rank", ["0", "1"])
def test_a_finished_training_is_reused_whoever_set_rank(
    rank: str, trained: Root, tiny_data: LoadedManifest, tiny_config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two nodes would need a cluster, and MPI and batch systems set RANK as torchrun does."""
    monkeypatch.setenv("RANK", rank)
    trained.latest().delete("bundle.json")
    config = tiny_config.model_copy(update={"num_nodes": 2})
    found = launch(config, root=trained, manifest=tiny_data.storage)
    assert found.uri == trained.bundle(training_key(tiny_config, tiny_data.hash)).uri
    assert read_pointer(trained, "bundle", made_by="train") == found.uri


def test_a_finished_training_is_reused(
    trained: Root, tiny_data: LoadedManifest, tiny_config: TrainConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = trained.bundle(training_key(tiny_config, tiny_data.hash))
    before = folder.read(BUNDLE).data
    train(tiny_config.model_copy(update={"num_workers": 1}), loaded=tiny_data, root=trained)
    assert "train: reused bundles/" in capsys.readouterr().out
    assert folder.read(BUNDLE).data == before


@pytest.mark.parametrize("stop_after", [7, 8])
def test_an_interrupted_training_continues_to_the_same_weights(
    stop_after: int, trained: Root, tiny_data: LoadedManifest, tiny_config: TrainConfig, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    root = Root(tmp_path)
    folder = train(tiny_config, loaded=tiny_data, root=root, stop_after=stop_after)
    assert not folder.exists(BUNDLE), "an unfinished training has no bundle"
    train(tiny_config, loaded=tiny_data, root=root)
    assert f"at step {stop_after} of 24" in capsys.readouterr().out
    for part in ("model", "ema"):
        resumed, straight = (weights(r, tiny_config, tiny_data, part=part) for r in (root, trained))
        assert largest_difference(resumed, straight) == 0.0
    names = [
        name for name in root.checkpoints(training_key(tiny_config, tiny_data.hash)).sizes() if name.endswith(".pt")
    ]
    assert names == ["step-00000024.pt"]


def test_a_killed_training_continues_to_the_same_bundle(
    trained: Root, tiny_data: LoadedManifest, tiny_config: TrainConfig, tmp_path: Path
) -> None:
    root = Root(tmp_path / "root")
    process = subprocess.Popen(command(tiny_config, root, tiny_data, tmp_path), start_new_session=True)
    checkpoints = root.checkpoints(training_key(tiny_config, tiny_data.hash))
    while not checkpoints.exists("latest.json"):
        assert process.poll() is None
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    train(tiny_config, loaded=tiny_data, root=root)
    key = training_key(tiny_config, tiny_data.hash)
    assert root.bundle(key).read("weights.safetensors").data == trained.bundle(key).read("weights.safetensors").data


def test_two_processes_give_the_weights_of_one_after_20_steps(
    tiny_data: LoadedManifest, tiny_config: TrainConfig, tmp_path: Path
) -> None:
    config = tiny_config.model_copy(update={"epochs": 5})  # 5 epochs of 4 steps
    one, two = Root(tmp_path / "one"), Root(tmp_path / "two")
    train(config, loaded=tiny_data, root=one)
    subprocess.run(command(config, two, tiny_data, tmp_path, num_processes=2), check=True, timeout=800)
    for part in ("model", "ema"):
        difference = largest_difference(
            weights(one, config, tiny_data, part=part), weights(two, config, tiny_data, part=part)
        )
        assert difference < 1e-5
    start = weights(one, config.model_copy(update={"epochs": 5}), tiny_data)
    assert max(value.abs().max() for value in start.values()) > 0.1, "the weights are not all near 0"


def test_text_of_validation_and_test_does_not_reach_the_bundle(
    tiny_data: LoadedManifest, tiny_config: TrainConfig, tmp_path: Path
) -> None:
    data = with_own_words(tiny_data, tmp_path / "data")
    for split, word in OWN_WORDS.items():
        texts = StudyDataset(data, splits=[split], text=tiny_config.text).texts()
        assert sum(word in text for text in texts) >= 3, "often enough for the vocabulary"
    folder = train(tiny_config.model_copy(update={"epochs": 1}), loaded=data, root=Root(tmp_path / "root"))
    vocabulary = load_bundle(folder).tokenizer.get_vocab()
    assert OWN_WORDS["train"] in vocabulary
    assert OWN_WORDS["validate"] not in vocabulary
    assert OWN_WORDS["test"] not in vocabulary


OWN_WORDS = {"train": "trainword", "validate": "validateword", "test": "testword"}


def with_own_words(data: LoadedManifest, folder: Path) -> LoadedManifest:
    """The same studies with a word in every indication that stands in their split alone."""
    folder.mkdir()
    infos = []
    for info in data.manifest.shards:
        table = read_shard(data.storage, info)
        column = table.column_names.index("text_indication")
        texts = [f"{text or ''} {OWN_WORDS[info.split]}" for text in table.column(column).to_pylist()]
        table = table.set_column(column, table.schema.field(column), [texts])
        path = folder / info.name
        pq.write_table(table, path)
        infos.append(info.model_copy(update={"bytes": path.stat().st_size, "sha256": sha256_of(path)}))
    write_manifest(open_storage(folder), data.manifest.model_copy(update={"shards": tuple(infos)}))
    return load_manifest(open_storage(folder))


def test_answers_of_the_bundle_are_those_of_the_teacher_in_memory(
    trained: Root, tiny_data: LoadedManifest, tiny_config: TrainConfig
) -> None:
    host, key = torch.device("cpu"), training_key(tiny_config, tiny_data.hash)
    setup = Setup(tiny_config, tiny_data, device=host)
    progress = load_checkpoint(trained.checkpoints(key), setup, device=host)
    student = Bundle(setup.info, (setup.network.classifier.eval(),), setup.tokenizer, hash="")
    assert progress.kept_weights is not None
    setup.ema.model.load_state_dict(progress.kept_weights)
    studies = list(StudyDataset(tiny_data, splits=["test"], text=tiny_config.text))
    read, teacher, other = (
        predict(bundle, studies, batch_size=size).score_SP
        for bundle, size in ((load_bundle(trained.bundle(key)), 7), (setup.average(), 40), (student, 40))
    )
    assert np.abs(read - teacher).max() < 1e-5, "nor does an answer depend on a study's neighbors"
    assert np.abs(read - other).max() > 1e-3


def test_divergence_is_one_clean_error(tiny_data: LoadedManifest, tiny_config: TrainConfig, tmp_path: Path) -> None:
    wild = tiny_config.model_copy(update={"learning_rate": 1e30, "warm_up": 0.0})
    with pytest.raises(UserError, match=r"training diverged.*learning_rate"):
        train(wild, loaded=tiny_data, root=Root(tmp_path))


def test_data_without_training_studies_is_one_clean_error(
    tiny_data: LoadedManifest, tiny_config: TrainConfig, tmp_path: Path
) -> None:
    shards = tuple(shard for shard in tiny_data.manifest.shards if shard.split != "train")
    manifest = Manifest(**{**dict(tiny_data.manifest), "shards": shards})
    with pytest.raises(UserError, match=r"nothing to learn from.*split train; found 0 labeled studies"):
        train(tiny_config, loaded=tiny_data._replace(manifest=manifest), root=Root(tmp_path))


def test_labels_that_the_policy_leaves_unused_are_nothing_to_learn_from(
    tiny_data: LoadedManifest, tiny_config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Labeled studies whose every entry is blank, under `blank: ignore`."""

    def all_blank(table: pa.Table, pathologies: Sequence[str]) -> npt.NDArray[np.int8]:
        return np.full((table.num_rows, len(pathologies)), BLANK, dtype=np.int8)

    monkeypatch.setattr("components.cxr.model.dataset.label_states", all_blank)
    config = tiny_config.model_copy(update={"labels": LabelPolicy(blank="ignore")})
    with pytest.raises(UserError, match=r"found [1-9][0-9]* labeled studies, none with a target") as caught:
        train(config, loaded=tiny_data, root=Root(tmp_path))
    assert caught.value.code == "nothing-to-learn"


def test_key_ignores_where_it_runs_and_sees_what_it_learns(tiny_config: TrainConfig) -> None:
    key = training_key(tiny_config, "data")
    for change in ({"num_processes": 2}, {"num_workers": 3}, {"log_every": 50}, {"device": "cpu"}):
        assert training_key(tiny_config.model_copy(update=change), "data") == key
    for change in ({"seed": 1}, {"epochs": 7}, {"learning_rate": 0.5}):
        assert training_key(tiny_config.model_copy(update=change), "data") != key
    assert training_key(tiny_config, "other") != key
