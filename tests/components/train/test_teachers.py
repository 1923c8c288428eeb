"""Self-training from teachers to student: who learns from whom, kept, found again and continued."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from components.cxr.bundle import load_bundle
from components.cxr.bundle_info import BUNDLE
from components.cxr.errors import UserError
from components.cxr.labels import POSITIVE
from components.cxr.model.dataset import StudyDataset
from components.cxr.model.predictor import predict
from components.cxr.shards import LoadedManifest
from components.cxr.storage.storage import Root
from components.train import train as training
from components.train.checkpoint import save_checkpoint
from components.train.config import EncoderTuning, SemiSupervised, TrainConfig, Tuning
from components.train.key import training_key
from components.train.lease import leased
from components.train.loading.batches import batches
from components.train.setup import Setup, taught_studies
from components.train.stopping import AGAIN
from components.train.teachers import teacher_configs, teachers_for
from components.train.train import train
from tests.components.train import ranks

ALIKE = 4
"""A seed that keeps the labels of one patient, whose two studies have the same."""


@pytest.fixture(scope="module")
def config(tiny_config: TrainConfig) -> TrainConfig:
    semi = SemiSupervised(method="self-training", num_teachers=2, teacher_epochs=2)
    few = {"labeled_fraction": 0.4, "labeled_seed": 1, "batch_size": 8, "epochs": 1, "semi_supervised": semi}
    return tiny_config.model_copy(update=few)


@pytest.fixture(scope="module")
def root(config: TrainConfig, tiny_data: LoadedManifest, tmp_path_factory: pytest.TempPathFactory) -> Root:
    root = Root(tmp_path_factory.mktemp("root"))
    train(config, loaded=tiny_data, root=root)
    return root


def weights(root: Root, config: TrainConfig, data: LoadedManifest) -> dict[str, torch.Tensor]:
    return load_bundle(root.bundle(training_key(config, data.hash))).model.state_dict()


def test_teachers_differ_in_their_seed_and_see_the_same_labels(config: TrainConfig, tiny_data: LoadedManifest) -> None:
    student = Setup(config, tiny_data, device=torch.device("cpu"))
    for number, teacher in enumerate(teacher_configs(config), start=1):
        setup = Setup(teacher, tiny_data, device=torch.device("cpu"))
        assert teacher.seed == config.seed + number
        np.testing.assert_array_equal(setup.training.labeled_S, student.training.labeled_S)
        np.testing.assert_array_equal(setup.validation.labeled_S, student.validation.labeled_S)
        assert list(setup.network.objectives) == ["supervised"]
        assert setup.num_steps == 2 * (setup.training.labeled_S.sum() // 8)
    assert list(student.network.objectives) == ["supervised", "pseudo_label"]


def test_teachers_that_would_end_before_their_encoder_learns_are_refused(
    config: TrainConfig, tiny_data: LoadedManifest
) -> None:
    def unfrozen(after: int) -> TrainConfig:
        return config.model_copy(update={"tuning": Tuning(vision=EncoderTuning(frozen=True, unfreeze_after=after))})

    assert teachers_for(unfrozen(1), tiny_data)
    with pytest.raises(UserError, match=r"vision\.unfreeze_after; found 2, expected below .*teacher_epochs \(2\)"):
        teachers_for(unfrozen(2), tiny_data)


def test_the_student_is_taught_the_mean_of_what_its_teachers_say(
    config: TrainConfig, tiny_data: LoadedManifest, root: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    taught = []

    class SeenError(Exception):
        pass

    def loop(setup: Setup, *_: object, **__: object) -> None:
        taught.append(setup)
        raise SeenError

    monkeypatch.setattr(training, "_loop", loop)
    with pytest.raises(SeenError):
        train(config.model_copy(update={"epochs": 2}), loaded=tiny_data, root=root)
    studies = StudyDataset(tiny_data, splits=["train"], text=config.text, max_views=config.max_views)
    bundles = [load_bundle(root.bundle(training_key(each, tiny_data.hash))) for each in teacher_configs(config)]
    scores = [predict(bundle, list(studies)).score_SP for bundle in bundles]
    assert np.abs(scores[0] - scores[1]).max() > 0.01
    (setup,) = taught
    labeled_S, pseudo_SP = setup.training.labeled_S, setup.pseudo_SP.numpy()
    assert np.isnan(pseudo_SP[labeled_S]).all()
    prevalence_P = (setup.training.states_SP[labeled_S] == POSITIVE).mean(axis=0)
    for p, prevalence in enumerate(prevalence_P):
        q_U = pseudo_SP[~labeled_S, p]
        assert q_U.mean() == pytest.approx(prevalence, abs=1e-5)
        shift_U = np.log(q_U / (1 - q_U)) - np.mean(scores, axis=0)[~labeled_S, p]
        np.testing.assert_allclose(shift_U, shift_U.mean(), atol=1e-4)


def test_teachers_have_bundles_and_no_run_of_their_own(
    config: TrainConfig, tiny_data: LoadedManifest, root: Root
) -> None:
    for teacher in teacher_configs(config):
        bundle = root.bundle(training_key(teacher, tiny_data.hash))
        assert bundle.exists(BUNDLE)
        assert load_bundle(bundle).info.mlflow_run_id is None
    assert load_bundle(root.bundle(training_key(config, tiny_data.hash))).info.mlflow_run_id is not None


def test_another_student_takes_the_teachers_that_are_there(
    config: TrainConfig, tiny_data: LoadedManifest, root: Root, capsys: pytest.CaptureFixture[str]
) -> None:
    semi = config.semi_supervised.model_copy(update={"weight": 3.0})
    train(config.model_copy(update={"semi_supervised": semi}), loaded=tiny_data, root=root)
    said = capsys.readouterr().out
    assert said.count("train: reused bundles/") == 2
    assert said.count("train: wrote bundles/") == 1


def test_a_teacher_that_another_student_trains_is_waited_for(
    config: TrainConfig, tiny_data: LoadedManifest, root: Root, capsys: pytest.CaptureFixture[str]
) -> None:
    """Such as the next trial of a sweep with two workers."""
    held = threading.Event()

    def other() -> None:
        with leased(root.checkpoints(training_key(teacher_configs(config)[0], tiny_data.hash))):
            held.set()
            time.sleep(1.0)

    thread = threading.Thread(target=other)
    thread.start()
    assert held.wait(60)
    semi = config.semi_supervised.model_copy(update={"weight": 4.0})
    train(config.model_copy(update={"semi_supervised": semi}), loaded=tiny_data, root=root, stop_after=1)
    thread.join()
    said = capsys.readouterr().out
    assert said.count("train: waiting for ") == 1
    assert said.count("train: reused bundles/") == 2


@pytest.mark.parametrize("stop_after", [1, 3])
def test_an_interrupted_student_continues_to_the_same_weights(
    config: TrainConfig, tiny_data: LoadedManifest, root: Root, tmp_path: Path, stop_after: int
) -> None:
    train(config, loaded=tiny_data, root=Root(tmp_path), stop_after=stop_after)
    train(config, loaded=tiny_data, root=Root(tmp_path))
    found, expected = weights(Root(tmp_path), config, tiny_data), weights(root, config, tiny_data)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_a_stop_while_the_last_teacher_is_written_means_again(
    config: TrainConfig, tiny_data: LoadedManifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    semi = config.semi_supervised.model_copy(update={"num_teachers": 1, "teacher_epochs": 1})

    def saved_and_asked(*args: Any, **options: Any) -> None:
        save_checkpoint(*args, **options)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(training, "save_checkpoint", saved_and_asked)
    with pytest.raises(SystemExit) as ended:
        train(config.model_copy(update={"semi_supervised": semi}), loaded=tiny_data, root=Root(tmp_path))
    assert ended.value.code == AGAIN
    said = capsys.readouterr().out
    assert said.count("train: wrote bundles/") == 1, "the teacher's"
    assert said.endswith("train: stopped at step 0; the same command goes on from there\n")


def test_pseudo_labels_change_what_the_student_learns(
    config: TrainConfig, tiny_data: LoadedManifest, root: Root, tmp_path: Path
) -> None:
    semi = config.semi_supervised.model_copy(update={"weight": 0.0})
    deaf = config.model_copy(update={"semi_supervised": semi})
    train(deaf, loaded=tiny_data, root=root)
    found, expected = weights(root, deaf, tiny_data), weights(root, config, tiny_data)
    assert not all(torch.equal(found[name], expected[name]) for name in expected)


def test_an_expert_learns_from_the_entries_that_it_can_say_something_of(
    config: TrainConfig, tiny_data: LoadedManifest
) -> None:
    setup = Setup(config, tiny_data, device=torch.device("cpu"))
    labeled_S = torch.from_numpy(setup.training.labeled_S)
    setup.pseudo_SP = torch.full(setup.supervision.weight_SP.shape, 0.25)
    setup.pseudo_SP[labeled_S] = torch.nan
    studies, batch = next(batches(setup, epoch=0))
    shown = setup.show(batch, studies=studies, step=0)
    known_EB = shown.known_EB & ~labeled_S[studies]
    assert (known_EB.sum(dim=1) < (~labeled_S[studies]).sum()).any(), "some of them have no text"
    counts = setup.network.counts([shown])
    assert counts["pseudo_label"].tolist() == (4 * known_EB.sum(dim=1)).tolist()


def test_where_nothing_is_left_to_label_there_are_no_teachers_and_training_is_as_without_a_method(
    config: TrainConfig, tiny_data: LoadedManifest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The labels of one patient, both of whose studies say the same: there is nothing to tell apart."""
    config = config.model_copy(update={"labeled_fraction": 0.01, "labeled_seed": ALIKE})
    studies, supervision = taught_studies(config, tiny_data)
    assert studies.labeled_S.sum() == 2
    assert supervision.unlabeled_SP.any()
    root = Root(tmp_path)
    train(config, loaded=tiny_data, root=root)
    said = capsys.readouterr().out
    assert "too few" not in said
    assert said.count("train: wrote bundles/") == 1
    plain = config.model_copy(update={"semi_supervised": SemiSupervised(method="none")})
    train(plain, loaded=tiny_data, root=root)
    found, expected = weights(root, config, tiny_data), weights(root, plain, tiny_data)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_for_a_few_studies_without_labels_there_are_no_teachers(
    tiny_config: TrainConfig, tiny_data: LoadedManifest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As by default: 6 of the 60 training studies have no labels."""
    assert tiny_config.semi_supervised == SemiSupervised(method="self-training", least_unlabeled=1.0)
    train(tiny_config.model_copy(update={"epochs": 1}), loaded=tiny_data, root=Root(tmp_path), stop_after=1)
    said = capsys.readouterr().out
    assert "train: 24 entries without a label, 216 with one: too few for teachers" in said
    assert "train: teacher" not in said
    asked = SemiSupervised(least_unlabeled=0.1)
    assert len(teachers_for(tiny_config.model_copy(update={"semi_supervised": asked}), tiny_data)) == 5


def run(config: TrainConfig, data: LoadedManifest, folder: Path) -> None:
    train(config, loaded=data, root=Root(folder))


def test_two_processes_train_the_same_teachers_and_the_same_student(
    config: TrainConfig, tiny_data: LoadedManifest, root: Root, tmp_path: Path
) -> None:
    assert ranks.join(ranks.start(run, config, tiny_data, tmp_path, num_processes=2)) == [0, 0]
    for each in (*teacher_configs(config), config):
        one, two = weights(root, each, tiny_data), weights(Root(tmp_path), each, tiny_data)
        assert max(float((two[name] - value).abs().max()) for name, value in one.items()) < 1e-5


def test_a_batch_of_one_is_refused_before_teachers_are_trained(
    tiny_data: LoadedManifest, tiny_config: TrainConfig, tmp_path: Path
) -> None:
    semi = SemiSupervised(num_teachers=1, teacher_epochs=1, least_unlabeled=0.0, unlabeled_per_labeled=0.5)
    changes = {"batch_size": 1, "labeled_fraction": 0.4, "semi_supervised": semi}
    with pytest.raises(UserError, match="a batch of one cannot hold both kinds"):
        train(tiny_config.model_copy(update=changes), loaded=tiny_data, root=Root(tmp_path))
    assert not [*tmp_path.rglob("*")]
