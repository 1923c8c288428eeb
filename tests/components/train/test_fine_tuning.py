"""Training from a bundle's weights: what is taken over, what is new, who was seen before, and under which key."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from components.cxr.bundle import Bundle, load_bundle, save_bundle
from components.cxr.bundle_info import describe
from components.cxr.errors import UserError
from components.cxr.model.architecture import Architecture
from components.cxr.model.dataset import StudyDataset
from components.cxr.model.network import OF_A_PATHOLOGY
from components.cxr.model.predictor import predict
from components.cxr.shards import LoadedManifest
from components.cxr.storage.pointers import read_pointer, write_pointer
from components.cxr.storage.storage import Root, Storage, open_storage
from components.cxr.trained_on import trained_on
from components.evaluate.model_card import model_facts
from components.train.build import continued_model
from components.train.config import Lora, SemiSupervised, TrainConfig
from components.train.fine_tuning import origin, with_origin
from components.train.key import training_key
from components.train.launch import launch
from components.train.setup import Setup
from components.train.train import train
from pipeline.config import CONFIGS, load_pipeline_config
from pipeline.encoders import check_encoders
from tests.components.train import ranks

CPU = torch.device("cpu")
LAST_WEIGHTS = {"labeled_fraction": 0.1}
"""So few labels that validation picks none: what goes out has learned, whatever it is worth."""


@pytest.fixture(scope="module")
def first(tiny_config: TrainConfig, tiny_data: LoadedManifest, tmp_path_factory: pytest.TempPathFactory) -> Root:
    """A run of another place, and the pointer to its bundle."""
    root = Root(tmp_path_factory.mktemp("first"))
    config = tiny_config.model_copy(update={"epochs": 2, "semi_supervised": SemiSupervised(method="none")})
    launch(config, root=root, manifest=tiny_data.storage)
    return root


@pytest.fixture
def config(first: Root) -> TrainConfig:
    values = {"fine_tune_from": first.uri, "epochs": 1, "batch_size": 13, "num_threads": 1}
    return TrainConfig.parse(values | {"semi_supervised": {"method": "none"}}, where="train")


def known(first: Root) -> Bundle:
    return load_bundle(open_storage(read_pointer(first, "bundle", made_by="train")))


def start(config: TrainConfig, data: LoadedManifest, tmp_path: Path) -> Setup:
    return Setup(with_origin(config, root=Root(tmp_path / "root")), data, device=CPU)


def scores(bundle: Bundle, data: LoadedManifest) -> Any:
    studies = list(StudyDataset(data, splits=["test"], text=bundle.info.text))
    return {name: predict(bundle, studies, condition=name).score_SP for name in ("all", "image")}


def test_training_starts_where_the_bundle_is(
    config: TrainConfig, first: Root, tiny_data: LoadedManifest, tmp_path: Path
) -> None:
    """The same data have the same shares of the classes, so that nothing moves."""
    bundle, setup = known(first), start(config, tiny_data, tmp_path)
    assert setup.info.architecture == bundle.info.architecture != Architecture()
    assert setup.tokenizer.get_vocab() == bundle.tokenizer.get_vocab()
    here, there = scores(setup.average(), tiny_data), scores(bundle, tiny_data)
    for condition in here:
        np.testing.assert_allclose(here[condition], there[condition], atol=1e-5)


def test_pathologies_are_found_by_name_and_a_new_one_is_new(first: Root, tiny_data: LoadedManifest) -> None:
    bundle, names = known(first), tiny_data.manifest.pathologies
    turned, share_P3 = (*names[:0:-1], "Scoliosis"), torch.arange(12.0).view(4, 3)
    mine = continued_model(bundle, pathologies=turned, log_share_P3=share_P3).state_dict()
    theirs = bundle.model.state_dict()
    for name in ("queries.queries_PD", "queries.head_weight_PD3", "text_expert.weight_PC3"):
        assert torch.equal(mine[name][:-1], theirs[name].flip(0)[:-1]), name
        assert not torch.equal(mine[name][-1], theirs[name][0]), f"{name}: the first is gone, not renamed"
    assert torch.equal(mine["queries.head_bias_P3"][-1], share_P3[-1])
    assert torch.equal(mine["text_expert.prior_P3"], share_P3)
    assert torch.equal(mine["image_projection.weight"], theirs["image_projection.weight"])


def test_answers_move_with_the_shares_of_the_classes(
    config: TrainConfig, first: Root, tiny_data: LoadedManifest, tmp_path: Path
) -> None:
    """Blank labels that teach nothing make positives more frequent, and every answer higher by just that."""
    blanks = {"labels": {"uncertain": "multiclass", "blank": "ignore"}}
    other = TrainConfig.parse(config.model_dump() | blanks, where="train")
    setup, bundle = start(other, tiny_data, tmp_path), known(first)
    share_P3, before_P3 = setup.supervision.log_share_P3, bundle.model.state_dict()["text_expert.prior_P3"]
    moved_P = ((share_P3 - before_P3)[:, 2] - (share_P3 - before_P3)[:, 0]).numpy()
    assert (np.abs(moved_P) > 0.1).any()
    here, there = scores(setup.average(), tiny_data), scores(bundle, tiny_data)
    for condition in here:
        np.testing.assert_allclose(
            here[condition] - there[condition], np.broadcast_to(moved_P, there[condition].shape), atol=1e-5
        )


def test_a_training_goes_on_and_its_bundle_knows_where_it_came_from(
    config: TrainConfig, first: Root, tiny_data: LoadedManifest, tmp_path: Path
) -> None:
    last = config.model_copy(update=LAST_WEIGHTS)
    second = train(last, loaded=tiny_data, root=Root(tmp_path / "second"))
    again = config.model_copy(update={"fine_tune_from": second.uri, "architecture": Architecture()})
    third = describe(train(again, loaded=tiny_data, root=Root(tmp_path / "third")))
    hashes = [each.bundle_hash for each in third.info.fine_tuned_from]
    assert hashes == [describe(second).hash, known(first).hash]
    assert len(third.trained_on) == 3
    before, after = known(first).model.state_dict(), load_bundle(second).model.state_dict()
    assert not torch.equal(before["image_projection.weight"], after["image_projection.weight"])


@pytest.mark.parametrize("same_key", [True, False], ids=["by id", "by film"])
def test_whoever_the_first_training_saw_is_seen(
    config: TrainConfig, first: Root, tiny_data: LoadedManifest, tmp_path: Path, same_key: bool
) -> None:
    """The first knows the test patients of this one: no evaluation on them is fair."""
    model, test = known(first), StudyDataset(tiny_data, splits=["test"], text=config.text)
    films = [study.films for study in test]
    everybody = trained_on(test.patient_ids, itertools.chain(*films), manifest_hash=model.info.manifest_hash)
    elsewhere = open_storage(tmp_path / "elsewhere")
    save_bundle(
        elsewhere, info=model.info, models=model.models, tokenizer=model.tokenizer, trained_on=[everybody]
    )  # fmt: skip
    again = config.model_copy(update={"fine_tune_from": elsewhere.uri})
    key = tiny_data.manifest.id_key_fingerprint if same_key else None
    for settings, expected in ((again, 1.0), (config, 0.0)):
        found = describe(train(settings, loaded=tiny_data, root=Root(tmp_path / "root")))
        seen_S = found.knows(test.patient_ids, lambda: films, id_key_fingerprint=key)
        assert seen_S.mean() == expected if same_key else abs(seen_S.mean() - expected) < 0.3, "some have no film"


@pytest.mark.parametrize("changed", [(), ("id_key_fingerprint",), ("id_key_fingerprint", "pixel_preset_hash")])
def test_patients_that_cannot_be_recognized_are_told(
    changed: tuple[str, ...], config: TrainConfig, tiny_data: LoadedManifest, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    manifest = tiny_data.manifest.model_copy(update=dict.fromkeys(changed, "f" * 16))
    train(config, loaded=tiny_data._replace(manifest=manifest), root=Root(tmp_path / "root"), stop_after=1)
    assert ("its patients are not recognized" in capsys.readouterr().out) == (len(changed) == 2)


def test_the_bundle_counts_by_its_content(
    config: TrainConfig, first: Root, tiny_data: LoadedManifest, tmp_path: Path
) -> None:
    moved = Root(tmp_path / "moved")
    shutil.copytree(first.uri, moved.uri)
    bundle = known(first)
    folder = origin(first.uri)[0]
    copied = folder.replace(first.uri, moved.uri)
    write_pointer(moved, "bundle", copied)
    keys = [training_key(config.model_copy(update={"fine_tune_from": at}), "d") for at in (first.uri, folder, copied)]
    keys.append(training_key(with_origin(config, root=Root(tmp_path / "root")), "d"))
    assert len(set(keys)) == 1
    assert origin(moved.uri)[1].hash == bundle.hash
    assert training_key(config.model_copy(update={"fine_tune_from": None}), "d") not in keys


def test_a_bundle_that_training_makes_worse_goes_out_as_it_came(
    config: TrainConfig,
    fitted_bundle: Storage,
    tiny_data: LoadedManifest,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A learning rate that ruins any network."""
    ruined = {"fine_tune_from": fitted_bundle.uri, "learning_rate": 30.0, "warm_up": 0.0, "ema_decay": 0.0}
    made = train(config.model_copy(update=ruined), loaded=tiny_data, root=Root(tmp_path))
    said = capsys.readouterr().out
    assert (
        f"train: starts from bundle {describe(fitted_bundle).hash[:12]}, which knows 4 of 4 pathologies  vali" in said
    )
    assert said.rstrip().endswith("the weights after epoch 0")
    after, before = load_bundle(made).model.state_dict(), load_bundle(fitted_bundle).model.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in after if name not in OF_A_PATHOLOGY)


def test_low_rank_adaptation_and_frozen_encoders_take_a_bundles_weights(
    config: TrainConfig, first: Root, tiny_data: LoadedManifest, tmp_path: Path
) -> None:
    tuning: dict[str, Any] = {"tuning": {"vision": {"frozen": True}, "text": {"lora": Lora(rank=2).model_dump()}}}
    tuned = TrainConfig.parse(config.model_dump() | tuning | LAST_WEIGHTS, where="train")
    after = load_bundle(train(tuned, loaded=tiny_data, root=Root(tmp_path))).model.state_dict()
    before = known(first).model.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in after if name.startswith("vision."))
    assert not torch.equal(after["queries.queries_PD"], before["queries.queries_PD"])
    with pytest.raises(UserError, match="it must learn"):
        TrainConfig.parse(tuning, where="train")


def run(config: TrainConfig, data: LoadedManifest, folder: Path) -> None:
    train(config, loaded=data, root=Root(folder))


def test_two_processes_go_on_to_the_weights_of_one(
    config: TrainConfig, tiny_data: LoadedManifest, tmp_path: Path
) -> None:
    run(config, tiny_data, tmp_path / "one")
    assert ranks.join(ranks.start(run, config, tiny_data, tmp_path / "two", num_processes=2)) == [0, 0]
    key = training_key(config, tiny_data.hash)
    one, two = (load_bundle(Root(tmp_path / name).bundle(key)).model.state_dict() for name in ("one", "two"))
    assert max(float((two[name] - value).abs().max()) for name, value in one.items()) < 1e-5


WRONG: dict[str, tuple[Callable[[Root], dict[str, Any]], str]] = {
    "nothing there": (lambda first: {"fine_tune_from": f"{first.uri}/nowhere"}, "no-bundle"),
    "its own root": (lambda first: {"fine_tune_from": first.uri}, "fine-tune-itself"),
    "its own root, the long way": (lambda first: {"fine_tune_from": f"{first.uri}/data/.."}, "fine-tune-itself"),
    "an architecture": (
        lambda first: {"architecture": Architecture(max_tokens=32), "fine_tune_from": origin(first.uri)[0]},
        "other-architecture",
    ),
}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG)
def test_what_cannot_be_started_from_is_one_error(
    config: TrainConfig, first: Root, tiny_data: LoadedManifest, wrong: str
) -> None:
    changes, code = WRONG[wrong]
    with pytest.raises(UserError) as error:
        launch(config.model_copy(update=changes(first)), root=first, manifest=tiny_data.storage)
    assert error.value.code == code


def test_a_whole_run_says_it_before_it_reads_anything(first: Root, tmp_path: Path) -> None:
    """A folder that only the containers see is left to training."""

    def check(source: object, *overrides: str, here: bool) -> None:
        values = [f"root={tmp_path}/run", "train={}", f"train.fine_tune_from={source}", *overrides]
        check_encoders(load_pipeline_config(CONFIGS / "demo.yaml", values), here=here)

    missing, longer = tmp_path / "nowhere", "train.architecture={max_tokens: 32}"
    check(missing, here=False)
    with pytest.raises(UserError, match="no bundle to start from"):
        check(missing, here=True)
    for here in (True, False):
        check(first.uri, here=here)
        with pytest.raises(UserError, match="another architecture"):
            check(first.uri, longer, here=here)


def test_the_card_and_the_checklists_name_it(config: TrainConfig, tiny_data: LoadedManifest, tmp_path: Path) -> None:
    found = describe(train(config, loaded=tiny_data, root=Root(tmp_path)))
    assert f"bundle `{found.info.fine_tuned_from[0].bundle_hash}`" in model_facts(found)
