"""Reports teach the image side in training, and leave no other trace."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor

from components.cxr.bundle import load_bundle
from components.cxr.bundle_info import BUNDLE
from components.cxr.shards import LoadedManifest, load_manifest, read_shard, write_manifest
from components.cxr.storage.storage import Root, open_storage, sha256_of
from components.cxr.tracking.journal import JOURNAL
from components.train import setup as setups
from components.train.config import ReportAlignmentConfig, SemiSupervised, TrainConfig
from components.train.key import training_key
from components.train.objectives.report_alignment import ReportAlignment
from components.train.report_labels import training_reports
from components.train.setup import Setup
from components.train.train import train
from tests.components.train import ranks

CPU = torch.device("cpu")
NUM_STEPS = 8
Told = Callable[[LoadedManifest], list[str]]


@pytest.fixture(scope="module")
def config(tiny_config: TrainConfig) -> TrainConfig:
    """Half of the patients with labels; 8 steps of 15 studies; text dropped from some studies and films from others."""
    alignment = ReportAlignmentConfig(weight=1.0, width=8, candidates=20)
    few = {"labeled_fraction": 0.5, "epochs": 2, "semi_supervised": SemiSupervised(method="none")}
    return tiny_config.model_copy(update={**few, "report_alignment": alignment})


@pytest.fixture(scope="module")
def data(tiny_data: LoadedManifest, tmp_path_factory: pytest.TempPathFactory) -> LoadedManifest:
    """The same studies with findings that say what is labeled: some studies have none, some the same as others."""
    folder = tmp_path_factory.mktemp("told")
    infos = []
    for info in tiny_data.manifest.shards:
        table = read_shard(tiny_data.storage, info)
        column = table.column_names.index("text_findings")
        table = table.set_column(column, table.schema.field(column), [[_told(row) for row in table.to_pylist()]])
        pq.write_table(table, folder / info.name)
        size, digest = (folder / info.name).stat().st_size, sha256_of(folder / info.name)
        infos.append(info.model_copy(update={"bytes": size, "sha256": digest}))
    write_manifest(open_storage(folder), tiny_data.manifest.model_copy(update={"shards": tuple(infos)}))
    return load_manifest(open_storage(folder))


def _told(row: dict[str, Any]) -> str | None:
    number = int.from_bytes(str(row["study_id"]).encode()[-2:])
    seen = [name for name in ("Edema", "Pleural Effusion", "Fracture") if row.get(name) == 1]
    if number % 7 == 0:
        return None
    return f"{' and '.join(seen) or 'nothing'} reported, size {number % 5}" if seen else "Clear lungs."


@pytest.fixture(scope="module")
def straight(config: TrainConfig, data: LoadedManifest, tmp_path_factory: pytest.TempPathFactory) -> Root:
    root = Root(tmp_path_factory.mktemp("straight"))
    train(config, loaded=data, root=root)
    return root


def shuffled(loaded: LoadedManifest) -> list[str]:
    reports = training_reports(loaded)
    random.Random(0).shuffle(reports)
    return reports


def exported(
    root: Path, config: TrainConfig, data: LoadedManifest, *, patch: pytest.MonkeyPatch, told: Told
) -> dict[str, Tensor]:
    patch.setattr(setups, "training_reports", told)
    return dict(load_bundle(train(config, loaded=data, root=Root(root))).model.state_dict())


def last(root: Root, config: TrainConfig, data: LoadedManifest) -> dict[str, Tensor]:
    folder = root.checkpoints(training_key(config, data.hash))
    name = json.loads(folder.read("latest.json").data)["checkpoint"]
    assert name == f"step-{NUM_STEPS:08d}.pt"
    state = torch.load(io.BytesIO(folder.read(name).data), weights_only=True)
    return state["model"] | {f"average.{key}": value for key, value in state["ema"].items()}


def largest_difference(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    assert one.keys() == other.keys()
    return max((one[name].double() - other[name].double()).abs().max().item() for name in one)


def test_a_report_reaches_the_bundle_through_the_image_side_alone(
    config: TrainConfig, data: LoadedManifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Real or shuffled over the studies: without the gradient into the films not a bit of the bundle differs."""
    assert shuffled(data) != training_reports(data)
    real, other = (
        exported(tmp_path / told.__name__, config, data, patch=monkeypatch, told=told)
        for told in (training_reports, shuffled)
    )
    assert largest_difference(real, other) > 1e-4, "films learn from reports"
    forward = ReportAlignment.forward
    monkeypatch.setattr(ReportAlignment, "forward", lambda self, films, *args: forward(self, films.detach(), *args))
    real, other = (
        exported(tmp_path / f"detached-{told.__name__}", config, data, patch=monkeypatch, told=told)
        for told in (training_reports, shuffled)
    )
    for name, value in real.items():
        assert torch.equal(value, other[name]), name


def test_the_bundle_is_that_of_a_training_without_reports(
    straight: Root, config: TrainConfig, data: LoadedManifest, tmp_path: Path
) -> None:
    """The same tensors and vocabulary; tensors of other values."""
    without = config.model_copy(update={"report_alignment": None, "epochs": 1})
    plain = load_bundle(train(without, loaded=data, root=Root(tmp_path)))
    found = load_bundle(straight.bundle(training_key(config, data.hash)))
    shapes, expected = ({n: v.shape for n, v in b.model.state_dict().items()} for b in (found, plain))
    assert shapes == expected
    assert found.tokenizer.get_vocab() == plain.tokenizer.get_vocab()
    told = {word.strip(".,") for report in training_reports(data) for word in report.lower().split()}
    assert told - found.tokenizer.get_vocab().keys(), "reports have words that the vocabulary lacks"


def test_studies_without_labels_are_shown_with_their_reports(config: TrainConfig, data: LoadedManifest) -> None:
    setup = Setup(config, data, device=CPU)
    studies = setup.order.batch(0)
    assert not setup.training.labeled_S[studies].all()
    shown = setup.show(setup.batches[studies], studies=studies, step=0)
    assert shown.reports is not None
    reports = training_reports(data)
    assert [own >= 0 for own in shown.reports.own_B.tolist()] == [bool(reports[study]) for study in studies]
    assert list(setup.network.objectives) == ["supervised", "report_alignment"]


def test_the_projections_learn_and_the_bundle_has_none_of_them(
    straight: Root, config: TrainConfig, data: LoadedManifest
) -> None:
    found, name = last(straight, config, data), "objectives.report_alignment."
    before = Setup(config, data, device=CPU).network.state_dict()
    own = [key for key in before if key.startswith(name)]
    assert len(own) == 4
    assert all(not torch.equal(before[key], found[key]) for key in own)
    assert not [
        key for key in load_bundle(straight.bundle(training_key(config, data.hash))).model.state_dict() if name in key
    ]


def test_the_journal_tells_of_duplicates_and_negatives(
    straight: Root, config: TrainConfig, data: LoadedManifest
) -> None:
    journal = straight.checkpoints(training_key(config, data.hash)).read(JOURNAL).data.decode()
    rows = [row for row in map(json.loads, journal.splitlines()) if "train/report_negatives" in row]
    assert len(rows) == NUM_STEPS // config.log_every
    for row in rows:
        assert 0.0 < row["train/report_negatives"] <= 20.0
        assert 0.0 <= row["train/report_duplicates"] <= 1.0
        assert row["train/report_alignment_weight"] == 1.0
        assert row["train/report_alignment_loss"] > 0.0


@pytest.mark.parametrize("stop_after", [3, 4])
def test_an_interrupted_training_continues_to_the_same_weights(
    stop_after: int, straight: Root, config: TrainConfig, data: LoadedManifest, tmp_path: Path
) -> None:
    root = Root(tmp_path)
    assert not train(config, loaded=data, root=root, stop_after=stop_after).exists(BUNDLE)
    train(config, loaded=data, root=root)
    assert largest_difference(last(root, config, data), last(straight, config, data)) == 0.0


def test_parts_and_two_processes_give_the_weights_of_one(
    straight: Root, config: TrainConfig, data: LoadedManifest, tmp_path: Path
) -> None:
    expected = last(straight, config, data)
    assert any(name.startswith("objectives.report_alignment.") for name in expected)
    parts = Root(tmp_path / "parts")
    train(config.model_copy(update={"accumulate": 4}), loaded=data, root=parts)
    assert largest_difference(last(parts, config, data), expected) < 1e-5
    two = Root(tmp_path / "two")
    assert ranks.join(ranks.start(run, config, data.storage.uri, two.uri, num_processes=2)) == [0, 0]
    assert largest_difference(last(two, config, data), expected) < 1e-5


def run(config: TrainConfig, data: str, root: str) -> None:
    """What each of the two processes does, in two parts."""
    train(config.model_copy(update={"accumulate": 2}), loaded=load_manifest(open_storage(data)), root=Root(root))
