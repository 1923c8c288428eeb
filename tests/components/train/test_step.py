"""The loop against a reference that shares its parts but not its wiring: three steps, dropout and every loss on."""

from __future__ import annotations

import copy
import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from components.cxr.bundle import Bundle, load_bundle
from components.cxr.labels import NEGATIVE, POSITIVE, targets_of
from components.cxr.model.batch import collate
from components.cxr.model.dataset import StudyDataset
from components.cxr.model.dropout import dropout_keys
from components.cxr.model.predictor import predict
from components.cxr.shards import LoadedManifest
from components.cxr.storage.storage import Root
from components.train import setup as training_setup
from components.train.config import TrainConfig
from components.train.finite import FiniteGuard
from components.train.gradients import Clip
from components.train.key import training_key
from components.train.loading.augment import augment, drop_modalities
from components.train.loading.batches import batches
from components.train.meter import Meter
from components.train.objectives.self_training import pseudo_labels
from components.train.optimizer import build_optimizer
from components.train.setup import Setup
from components.train.teachers import teacher_configs
from components.train.train import train
from components.train.validation import Validated, num_positives
from tests.components.train.as_right import as_right

NUM_STEPS = 3


@pytest.fixture(scope="module")
def config(tiny_config: TrainConfig) -> TrainConfig:
    """Dropout in the network and of modalities, entries without supervision, and pseudo-labels that count."""
    values = tiny_config.model_dump(mode="json")
    values["architecture"]["fusion"]["dropout"] = 0.3
    values["labels"] = {"uncertain": "multiclass", "blank": "unlabeled"}
    values["semi_supervised"] = {
        "weight": 4.0, "num_teachers": 1, "teacher_epochs": 1, "least_unlabeled": 0.0, "unlabeled_per_labeled": 99.0
    }  # fmt: skip
    values["modality_dropout"] = {"image": 0.3, "text": 0.5, "meta": 0.5}
    return TrainConfig.parse(values | {"num_threads": 1, "warm_up": 0.1}, where="train")


def reference(config: TrainConfig, data: LoadedManifest, teacher: Bundle) -> dict[str, dict[str, Tensor]]:
    """Weights of student and average after NUM_STEPS, step by step as the documentation says."""
    setup = Setup(config, data, device=torch.device("cpu"))
    labels = targets_of(setup.training.states_SP, setup.training.labeled_S, policy=config.labels)
    prevalence_P = (setup.training.states_SP[setup.training.labeled_S] == POSITIVE).mean(axis=0)
    said_SP = predict(teacher, list(setup.training)).score_SP
    pseudo_SP = torch.from_numpy(pseudo_labels(said_SP, labels.unlabeled_BP, prevalence_P))
    student = setup.network.classifier.train()
    average = copy.deepcopy(student).eval()
    optimizer = build_optimizer(student, config)
    order = np.random.default_rng([config.seed, 0]).permutation(len(setup.training)).tolist()
    total = config.epochs * (len(order) // config.batch_size)
    for step in range(NUM_STEPS):
        studies = order[step * config.batch_size : (step + 1) * config.batch_size]
        batch = collate(
            [setup.training[s] for s in studies], tokenizer=setup.tokenizer,
            max_tokens=config.architecture.max_tokens, size=data.manifest.pixel_preset.size,
        )  # fmt: skip
        keyed = {"studies": studies, "step": step, "seed": config.seed}
        view = augment(batch, **keyed, config=config.augment)
        seen = drop_modalities(view, **keyed, config=config.modality_dropout)
        assert seen.has_text().sum() < batch.has_text().sum(), "some text falls"

        target_BP, pseudo_BP = torch.from_numpy(labels.target_BP)[studies], pseudo_SP[studies]
        assert 0 < pseudo_BP.isnan().sum() < pseudo_BP.numel()
        entropy, toward_teacher = torch.zeros(()), torch.zeros(())
        answers_EBP3 = student.experts(seen, dropout_keys(studies, seed=config.seed, step=step))
        can_answer_EB = [torch.ones(len(studies), dtype=torch.bool), seen.has_text(), seen.has_text()]
        for logits_BP3, known_B in zip(answers_EBP3, can_answer_EB, strict=True):
            q_BP = torch.sigmoid(logits_BP3[..., 2] - logits_BP3[..., 0])
            supervised_BP = (target_BP >= 0) & known_B[:, None]
            entropy = entropy - logits_BP3.log_softmax(dim=2)[supervised_BP, target_BP[supervised_BP]].mean()
            asked_BP = ~pseudo_BP.isnan() & known_B[:, None]
            toward_teacher = toward_teacher + F.binary_cross_entropy(q_BP[asked_BP], pseudo_BP[asked_BP])

        optimizer.zero_grad()
        (entropy + config.semi_supervised.weight * toward_teacher).backward()
        nn.utils.clip_grad_norm_(student.parameters(), config.clip_norm)
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * min(1.0, (step + 1) / round(config.warm_up * total))
        optimizer.step()
        decay = min(config.ema_decay, (1 + step) / (10 + step))
        with torch.no_grad():
            for mean, value in zip(average.parameters(), student.parameters(), strict=True):
                mean.mul_(decay).add_(value, alpha=1 - decay)
    return {"model": setup.network.state_dict(), "ema": average.state_dict()}


def test_three_steps_are_those_of_the_reference(tiny_data: LoadedManifest, config: TrainConfig, tmp_path: Path) -> None:
    root = Root(tmp_path)
    train(config, loaded=tiny_data, root=root, stop_after=NUM_STEPS)
    state = checkpoint(root, config, tiny_data)
    (teacher,) = (load_bundle(root.bundle(training_key(each, tiny_data.hash))) for each in teacher_configs(config))
    expected = reference(config, tiny_data, teacher)
    for part in ("model", "ema"):
        assert state[part].keys() == expected[part].keys()
        for key, value in expected[part].items():
            torch.testing.assert_close(
                state[part][key], value, atol=2e-5, rtol=0, msg=lambda text, k=key: f"{k}: {text}"
            )


def test_experts_start_at_the_shares_of_the_training_labels(
    tiny_data: LoadedManifest, tiny_config: TrainConfig
) -> None:
    setup = Setup(tiny_config, tiny_data, device=torch.device("cpu"))
    expert = setup.network.classifier.text_expert
    assert expert is not None
    for p, prior_3 in enumerate(expert.prior_P3.tolist()):
        counts = [1.0 + float(setup.supervision.target_SP3[:, p, c].sum()) for c in range(3)]
        assert prior_3 == pytest.approx([math.log(count / sum(counts)) for count in counts], abs=1e-5)


def test_the_bundle_holds_the_average_of_the_best_epoch(
    tiny_data: LoadedManifest, tiny_config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shares, scored = iter([0.5, 1.0, 0.0]), []

    def validate(bundle: Bundle, studies: StudyDataset, **_: object) -> Validated:
        assert studies.study_ids == StudyDataset(tiny_data, splits=["validate"], text=tiny_config.text).study_ids
        scored.append(copy.deepcopy(bundle.model.state_dict()))
        return as_right(next(shares), studies)

    monkeypatch.setattr("components.train.train.validated", validate)
    config, root = tiny_config.model_copy(update={"epochs": 3}), Root(tmp_path)
    written = load_bundle(train(config, loaded=tiny_data, root=root)).model.state_dict()
    last = checkpoint(root, config, tiny_data)
    assert same(scored[2], last["ema"])
    student = {name.removeprefix("classifier."): value for name, value in last["model"].items()}
    assert not same(scored[2], student)
    assert same(written, scored[1])
    assert not same(written, scored[2])


@pytest.mark.parametrize("fewer", [0, 1])
def test_with_next_to_no_positives_validation_picks_no_epoch(
    tiny_data: LoadedManifest,
    tiny_config: TrainConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    fewer: int,
) -> None:
    """With 10 it does, with 9 the last weights go out; all its scores are shown."""
    shares = iter([0.5, 1.0, 0.0])
    positives = []

    def keep(studies: StudyDataset) -> None:
        spare = np.argwhere((studies.states_SP == POSITIVE) & studies.labeled_S[:, None])[10 - fewer :]
        studies.states_SP[tuple(spare.T)] = NEGATIVE
        positives.append(studies)

    made = training_setup._studies

    def studies_of(config: TrainConfig, loaded: LoadedManifest, split: str, **options: Any) -> StudyDataset:
        found = made(config, loaded, split, **options)
        if split == "validate":
            keep(found)
        return found

    monkeypatch.setattr(training_setup, "_studies", studies_of)
    monkeypatch.setattr("components.train.train.validated", lambda _, studies, **__: as_right(next(shares), studies))
    config, root = tiny_config.model_copy(update={"epochs": 3}), Root(tmp_path)
    written = load_bundle(train(config, loaded=tiny_data, root=root)).model.state_dict()
    assert num_positives(positives[0]) == 10 - fewer
    assert same(written, checkpoint(root, config, tiny_data)["ema"]) == bool(fewer)
    said = capsys.readouterr().out
    assert said.count("validation mean AUROC") == 3
    assert ("train: validation has 9 positive labels, fewer than 10" in said) == bool(fewer)
    assert f"the weights after epoch {3 if fewer else 2}" in said


def test_only_training_texts_shape_the_vocabulary(
    tiny_data: LoadedManifest, tiny_config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    class SeenError(Exception):
        pass

    def build(_: TrainConfig, *, texts: list[str], patients: list[str], film_size: int, num_pathologies: int) -> None:
        assert (film_size, num_pathologies) == (32, len(tiny_data.manifest.pathologies))
        raise SeenError(texts, patients)

    monkeypatch.setattr("components.train.setup.build_model", build)
    with pytest.raises(SeenError) as caught:
        Setup(tiny_config, tiny_data, device=torch.device("cpu"))
    studies = StudyDataset(tiny_data, splits=["train"], text=tiny_config.text)
    assert caught.value.args == (studies.texts(), studies.patient_ids)


def checkpoint(root: Root, config: TrainConfig, data: LoadedManifest) -> dict[str, dict[str, Tensor]]:
    folder = root.checkpoints(training_key(config, data.hash))
    name = json.loads(folder.read("latest.json").data)["checkpoint"]
    return torch.load(io.BytesIO(folder.read(name).data), weights_only=True)


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    assert one.keys() == other.keys()
    return all(torch.equal(one[name], other[name]) for name in one)


def test_a_study_that_comes_again_within_an_epoch_is_shown_anew(tiny_data: LoadedManifest, config: TrainConfig) -> None:
    """With a set ratio the few studies of a kind come round faster than the others: here the labeled ones."""
    values = config.semi_supervised.model_copy(update={"unlabeled_per_labeled": 0.25})
    every_film = config.modality_dropout.model_copy(update={"image": 0.0})
    changes = {"semi_supervised": values, "batch_size": 5, "labeled_fraction": 0.3, "modality_dropout": every_film}
    setup = Setup(config.model_copy(update=changes), tiny_data, device=torch.device("cpu"))
    seen: dict[int, list[torch.Tensor]] = {}
    for step, (studies, batch) in enumerate(batches(setup, epoch=0)):
        labeled = setup.training.labeled_S[studies]
        assert (labeled.sum(), (~labeled).sum()) == (4, 1)
        shown = setup.show(batch, studies=studies, step=step)
        for study, films in zip(studies, shown.student.films_BVHW, strict=True):
            seen.setdefault(study, []).append(films[0])
    again = [views for views in seen.values() if len(views) > 1]
    assert again
    assert not any(torch.equal(views[0], views[1]) for views in again)


def test_nothing_that_a_step_sums_is_made_elsewhere_than_on_the_training_device(
    tiny_data: LoadedManifest, config: TrainConfig
) -> None:
    """Tensors made without naming a device lie on `meta` here, where NCCL would refuse those of the host."""
    device = torch.device("cpu")
    setup = Setup(config, tiny_data, device=device)
    setup.pseudo_SP = torch.full(setup.supervision.weight_SP.shape, 0.5)
    studies, batch = next(batches(setup, epoch=0))
    shown = setup.show(batch, studies=studies, step=0)
    network = setup.network
    logits_EBP3 = network.classifier.experts(shown.student, shown.dropout_B)
    clip = Clip(network, max_norm=1.0)
    with torch.device("meta"):
        assert torch.zeros(1).is_meta
        counts = network.counts([shown, shown])
        losses = {name: objective(logits_EBP3, shown, counts[name]) for name, objective in network.objectives.items()}
        loss = torch.stack([network.weights(0)[name] * losses[name] for name in losses]).sum()
        loss.backward()
        norm, norms_G = clip()
        meter = Meter(num_steps=4, first_step=0, names=list(losses), device=device)
        meter.add(len(studies), losses)
        finite = FiniteGuard(device, parts=clip.names, losses=list(losses), save=str)
        finite.add(norm, norms_G, losses, step=0)
        finite.check()
        means = meter.take()
    assert means["train/supervised_loss"] == pytest.approx(losses["supervised"].item())
    assert means["train/pseudo_label_loss"] == pytest.approx(losses["pseudo_label"].item())


def test_training_is_never_computed_in_tf32(
    tiny_data: LoadedManifest, config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing validates here, which sets the same by itself."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("high")
        assert torch.backends.cuda.matmul.allow_tf32
        train(config, loaded=tiny_data, root=Root(tmp_path), stop_after=1)
        assert torch.get_float32_matmul_precision() == "highest"
        assert not torch.backends.cudnn.allow_tf32
        assert not torch.backends.cuda.matmul.allow_tf32
    finally:
        torch.set_float32_matmul_precision(before)
