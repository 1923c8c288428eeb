"""Several models from seeds of their own, whose mean logits are the answer: trained, kept, found again, continued."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from components.cxr.bundle import Bundle, load_bundle
from components.cxr.bundle_info import BUNDLE
from components.cxr.model.dataset import StudyDataset
from components.cxr.model.predictor import predict
from components.cxr.report import CONDITIONS
from components.cxr.shards import LoadedManifest
from components.cxr.storage.storage import Root
from components.train.config import SemiSupervised, TrainConfig
from components.train.ensemble import other_configs
from components.train.key import training_key
from components.train.train import train
from tests.components.train import ranks


@pytest.fixture(scope="module")
def config(tiny_config: TrainConfig) -> TrainConfig:
    alone = {"epochs": 2, "semi_supervised": SemiSupervised(method="none")}
    return tiny_config.model_copy(update={**alone, "seed": 4, "num_models": 3})


@pytest.fixture(scope="module")
def root(config: TrainConfig, tiny_data: LoadedManifest, tmp_path_factory: pytest.TempPathFactory) -> Root:
    root = Root(tmp_path_factory.mktemp("root"))
    train(config, loaded=tiny_data, root=root)
    return root


def trained(root: Root, config: TrainConfig, data: LoadedManifest) -> Bundle:
    return load_bundle(root.bundle(training_key(config, data.hash)))


def weights(bundle: Bundle) -> dict[str, torch.Tensor]:
    models = enumerate(bundle.models)
    return {f"{number}.{name}": value for number, model in models for name, value in model.state_dict().items()}


def test_the_answer_is_the_mean_of_the_logits_of_trainings_that_know_nothing_of_each_other(
    config: TrainConfig, tiny_data: LoadedManifest, root: Root, tmp_path: Path
) -> None:
    """Each has the weights that its seed gives to a training of one model."""
    together = trained(root, config, tiny_data)
    singles = [config.model_copy(update={"num_models": 1, "seed": seed}) for seed in (4, 5, 6)]
    alone = [load_bundle(train(single, loaded=tiny_data, root=Root(tmp_path))) for single in singles]
    for model, single in zip(together.models, alone, strict=True):
        for name, value in single.model.state_dict().items():
            assert torch.equal(model.state_dict()[name], value), name
    studies = list(StudyDataset(tiny_data, splits=["test"], text=config.text))
    for condition in CONDITIONS:
        scores = [predict(single, studies, condition=condition).score_SP for single in alone]
        assert np.abs(scores[0] - scores[1]).max() > 0.01
        found = predict(together, studies, condition=condition).score_SP
        np.testing.assert_allclose(found, np.mean(scores, axis=0), atol=1e-5)
    assert together.info.num_models == 3
    assert together.info.num_parameters == 3 * alone[0].info.num_parameters


def test_one_run_tells_of_all(config: TrainConfig, tiny_data: LoadedManifest, root: Root) -> None:
    assert trained(root, config, tiny_data).info.mlflow_run_id is not None
    others = other_configs(config)
    assert [(other.seed, other.num_models) for other in others] == [(5, 1), (6, 1)]
    assert [trained(root, other, tiny_data).info.mlflow_run_id for other in others] == [None, None]


def test_as_many_models_are_one_training_and_more_are_another(config: TrainConfig, tiny_data: LoadedManifest) -> None:
    keys = [training_key(config.model_copy(update={"num_models": n}), tiny_data.hash) for n in (1, 2, 3, 3)]
    assert len(set(keys)) == 3


@pytest.mark.parametrize("stop_after", [1, 5])
def test_an_interrupted_training_finds_the_others_and_continues_to_the_same_weights(
    config: TrainConfig,
    tiny_data: LoadedManifest,
    root: Root,
    tmp_path: Path,
    stop_after: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    train(config, loaded=tiny_data, root=Root(tmp_path), stop_after=stop_after)
    assert not Root(tmp_path).bundle(training_key(config, tiny_data.hash)).exists(BUNDLE)
    capsys.readouterr()
    train(config, loaded=tiny_data, root=Root(tmp_path))
    said = capsys.readouterr().out
    assert said.count("train: reused bundles/") == 2
    assert f"at step {stop_after} of 8" in said
    found, expected = (weights(trained(where, config, tiny_data)) for where in (Root(tmp_path), root))
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_a_training_that_is_there_trains_nothing(
    config: TrainConfig, tiny_data: LoadedManifest, root: Root, capsys: pytest.CaptureFixture[str]
) -> None:
    train(config, loaded=tiny_data, root=root)
    assert capsys.readouterr().out == f"train: reused bundles/{training_key(config, tiny_data.hash)}\n"


def test_each_student_has_teachers_and_they_share_those_of_the_same_seed(
    config: TrainConfig, tiny_data: LoadedManifest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    semi = SemiSupervised(num_teachers=2, teacher_epochs=1, least_unlabeled=0.1)
    student = config.model_copy(update={"num_models": 2, "epochs": 1, "semi_supervised": semi})
    train(student, loaded=tiny_data, root=Root(tmp_path))
    said = capsys.readouterr().out
    assert said.count("train: teacher ") == 4
    assert said.count("train: wrote bundles/") == 2 + 3, "seeds 5, 6 and 7 teach seeds 4 and 5"
    assert said.count("train: reused bundles/") == 1
    assert said.count("train: MLflow run ") <= 1
    assert trained(Root(tmp_path), student, tiny_data).info.num_models == 2


def run(config: TrainConfig, data: LoadedManifest, folder: Path) -> None:
    train(config, loaded=data, root=Root(folder))


def test_two_processes_train_the_same_models(
    config: TrainConfig, tiny_data: LoadedManifest, root: Root, tmp_path: Path
) -> None:
    assert ranks.join(ranks.start(run, config, tiny_data, tmp_path, num_processes=2)) == [0, 0]
    one, two = weights(trained(root, config, tiny_data)), weights(trained(Root(tmp_path), config, tiny_data))
    assert max(float((two[name] - value).abs().max()) for name, value in one.items()) < 1e-5
