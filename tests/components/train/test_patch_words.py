"""The expert of patches: its features by the paper, what it learns and from whom, and how much it counts."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path

import mlflow
import numpy as np
import numpy.typing as npt
import pytest
import torch

from components.cxr.auroc import mean_auroc
from components.cxr.bundle import load_bundle
from components.cxr.errors import UserError
from components.cxr.labels import BLANK, NEGATIVE, POSITIVE, UNCERTAIN, LabelPolicy, truth_of
from components.cxr.model.architecture import Architecture, PatchConfig
from components.cxr.model.dataset import StudyDataset
from components.cxr.model.heatmaps import has_heatmaps, heatmaps
from components.cxr.model.patch_expert import PatchExpert
from components.cxr.model.predictor import predict
from components.cxr.report import Interval
from components.cxr.shards import LoadedManifest
from components.cxr.storage.storage import Root
from components.train import patch_words
from components.train.config import SemiSupervised, TrainConfig
from components.train.key import training_key
from components.train.patch_words import Balance, _target, fit_patch_expert
from components.train.setup import Setup, taught_studies
from components.train.stopping import StopRequest
from components.train.supervision import supervision_of
from components.train.train import train
from components.train.validation import validated
from tests.components.train import ranks

CPU = torch.device("cpu")
SMALL = PatchConfig(words=12, patch=5, stride=3, grid=2, side=32)


@pytest.fixture(scope="module")
def config(tiny_config: TrainConfig) -> TrainConfig:
    architecture = tiny_config.architecture.model_copy(update={"patches": SMALL})
    values = {"architecture": architecture, "semi_supervised": SemiSupervised(method="none"), "epochs": 2}
    return tiny_config.model_copy(update=values)


@pytest.fixture(scope="module")
def trained(config: TrainConfig, tiny_data: LoadedManifest, tmp_path_factory: pytest.TempPathFactory) -> Root:
    root = Root(tmp_path_factory.mktemp("patches"))
    train(config, loaded=tiny_data, root=root)
    return root


def model_of(root: Root, config: TrainConfig, loaded: LoadedManifest) -> torch.nn.Module:
    return load_bundle(root.bundle(training_key(config, loaded.hash))).model


def fitted(config: TrainConfig, loaded: LoadedManifest, *, seed: int = 0) -> PatchExpert:
    expert = PatchExpert(SMALL, num_pathologies=len(loaded.manifest.pathologies))
    studies, supervision = taught_studies(config, loaded)
    fit_patch_expert(expert, studies, supervision, seed=seed)
    return expert


def test_features_are_those_of_the_paper() -> None:
    rng = np.random.default_rng(3)
    expert = PatchExpert(SMALL, num_pathologies=2)
    for buffer in (expert.mean_Q, expert.whitening_QQ, expert.words_KQ):
        buffer.copy_(torch.from_numpy(rng.normal(size=buffer.shape)))
    film = rng.integers(0, 256, (32, 32), dtype=np.uint8)
    places = range(0, 32 - 5 + 1, 3)
    near = np.array([[nearness(expert, film[y : y + 5, x : x + 5]) for x in places] for y in places])
    half = len(places) // 2
    parts = [near[y : y + half, x : x + half].mean(axis=(0, 1)) for y in (0, half) for x in (0, half)]
    expected = np.stack(parts, axis=1).ravel()  # word by word, the parts in reading order
    np.testing.assert_allclose(expert.features(torch.from_numpy(film)[None])[0].numpy(), expected, rtol=1e-4, atol=1e-5)


def nearness(expert: PatchExpert, patch: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """max(0, mean distance - distance) to each word: the `triangle` activation."""
    values = patch.ravel() / 255.0
    values = (values - values.mean()) / np.sqrt(values.var() + 0.01)
    white = (values - expert.mean_Q.numpy()) @ expert.whitening_QQ.numpy()
    distances = np.sqrt(((expert.words_KQ.numpy() - white) ** 2).sum(axis=1))
    return np.asarray(np.maximum(distances.mean() - distances, 0.0))


def test_words_come_from_all_films_and_weights_from_labels(config: TrainConfig, tiny_data: LoadedManifest) -> None:
    every, few = fitted(config, tiny_data), fitted(config.model_copy(update={"labeled_fraction": 0.5}), tiny_data)
    assert torch.equal(every.words_KQ, few.words_KQ), "whoever has labels"
    assert not torch.equal(every.weight_PF, few.weight_PF)
    assert not torch.equal(every.words_KQ, fitted(config, tiny_data, seed=1).words_KQ)
    assert len(every.words_KQ.unique(dim=0)) == SMALL.words


def test_opinions_spread_the_studies_that_they_were_learned_from_by_one(
    config: TrainConfig, tiny_data: LoadedManifest
) -> None:
    expert, (studies, supervision) = fitted(config, tiny_data), taught_studies(config, tiny_data)
    films = [studies[int(s)].films for s in np.flatnonzero(supervision.taught())]
    seen = [torch.from_numpy(np.stack(of_a_study))[None] for of_a_study in films if len(of_a_study)]
    added_SP = torch.cat(
        [expert(films_1VHW, torch.ones(films_1VHW.shape[:2], dtype=torch.bool)) for films_1VHW in seen]
    )
    np.testing.assert_allclose(added_SP.std(dim=0, correction=0), 1.0, rtol=1e-3)
    np.testing.assert_allclose(added_SP.mean(dim=0), 0.0, atol=1e-3)


def test_a_study_gets_the_mean_over_its_films_and_nothing_without_any(
    config: TrainConfig, tiny_data: LoadedManifest
) -> None:
    expert, studies = fitted(config, tiny_data), StudyDataset(tiny_data, splits=["test"], text=config.text)
    films = next(study.films for study in studies if len(study.films) == 2)
    films_2VHW = torch.from_numpy(np.stack([films, films]))
    added_2P = expert(films_2VHW, torch.tensor([[True, True], [False, False]]))
    each_2P = expert.opinion(expert.features(films_2VHW[0]))
    assert torch.allclose(added_2P[0], expert.scale_P * each_2P.mean(dim=0), atol=1e-5)
    assert not torch.equal(each_2P[0], each_2P[1])
    assert not added_2P[1].any()


def test_a_label_that_is_uncertain_or_missing_counts_as_the_share() -> None:
    states_SP = np.array([[POSITIVE], [NEGATIVE], [NEGATIVE], [NEGATIVE], [UNCERTAIN], [BLANK]], dtype=np.int8)
    policy = LabelPolicy(blank="ignore")
    supervision = supervision_of(states_SP, np.ones(6, dtype=bool), policy=policy)
    np.testing.assert_allclose(_target(supervision, np.arange(6))[:, 0], [1, 0, 0, 0, 0.25, 0.25])


def test_labels_that_nobody_gave_draw_nothing(config: TrainConfig, tiny_data: LoadedManifest) -> None:
    studies, supervision = taught_studies(config, tiny_data)
    assert (studies.states_SP == POSITIVE).any()
    supervision.weight_SP[:, 0] = 0.0
    supervision.target_SP3[:, 0] = 0.0
    expert = PatchExpert(SMALL, num_pathologies=len(tiny_data.manifest.pathologies))
    fit_patch_expert(expert, studies, supervision, seed=0)
    assert expert.weight_PF[0].abs().max() < 1e-6
    assert expert.weight_PF[1:].abs().amax(dim=1).min() > 1e-6


def test_the_bundle_counts_it_as_much_as_the_rest(
    trained: Root, config: TrainConfig, tiny_data: LoadedManifest
) -> None:
    bundle = load_bundle(trained.bundle(training_key(config, tiny_data.hash)))
    expert = bundle.model.patch_expert
    assert expert is not None
    studies = StudyDataset(tiny_data, splits=["validate"], text=config.text)
    whole_SP = predict(bundle, list(studies), device=CPU, batch_size=7).score_SP
    scale_P = expert.scale_P.clone()
    expert.scale_P.zero_()
    rest_SP = predict(bundle, list(studies), device=CPU, batch_size=7).score_SP
    added_SP = whole_SP - rest_SP
    np.testing.assert_allclose(added_SP.std(axis=0), rest_SP.std(axis=0), rtol=1e-3)
    assert (scale_P > 0).all()
    assert torch.equal(expert.words_KQ, fitted(config, tiny_data).words_KQ)


def test_it_is_left_out_where_the_rest_alone_is_shown_to_be_better(
    config: TrainConfig, tiny_data: LoadedManifest
) -> None:
    expert, studies = fitted(config, tiny_data), taught_studies(config, tiny_data)[0]  # more than are to validate
    expert.weight_PF.normal_(generator=torch.Generator().manual_seed(1))  # it says much and knows nothing
    balance, rng = Balance([expert], studies), np.random.default_rng(5)
    knows_all_SP = (studies.states_SP == POSITIVE) + rng.uniform(0, 0.5, studies.states_SP.shape).astype(np.float32)
    np.testing.assert_array_equal(balance.put_in(knows_all_SP), knows_all_SP)
    assert not expert.counts
    knows_nothing_SP = rng.normal(size=studies.states_SP.shape).astype(np.float32)
    added_SP = balance.put_in(knows_nothing_SP) - knows_nothing_SP
    np.testing.assert_allclose(added_SP.std(axis=0), knows_nothing_SP.std(axis=0), rtol=1e-3)
    assert expert.counts


def test_validation_scores_the_answers_and_the_network_alone(config: TrainConfig, tiny_data: LoadedManifest) -> None:
    setup = Setup(config, tiny_data, device=CPU)
    setup.fit_patches()
    found = validated(setup.average(), setup.validation, device=CPU, stop=StopRequest(), patches=setup.patches)
    assert found is not None
    truth_SP = truth_of(setup.validation.states_SP, setup.validation.labeled_S, protocol="A")
    whole = mean_auroc(predict(setup.average(), list(setup.validation), device=CPU).score_SP, truth_SP)
    assert setup.patches is not None
    setup.patches.take_out()
    alone_SP = predict(setup.average(), list(setup.validation), device=CPU).score_SP
    alone = mean_auroc(alone_SP, truth_SP)
    assert whole is not None
    assert whole != alone
    assert found.auroc == pytest.approx(whole, abs=1e-6)
    assert found.network == pytest.approx(alone, abs=1e-6)
    np.testing.assert_allclose(found.score_SP, alone_SP, atol=1e-5)


def test_a_students_expert_learns_what_the_teachers_say(config: TrainConfig, tiny_data: LoadedManifest) -> None:
    """Of studies without labels, in which teachers see nothing but the film's brightness."""
    setup = Setup(config.model_copy(update={"labeled_fraction": 0.3}), tiny_data, device=CPU)
    bright_S = torch.tensor([float(np.mean([film.mean() for film in study.films])) for study in setup.training])
    rank_S1 = bright_S.argsort().argsort().float()[:, None] / len(bright_S)
    expert = setup.network.classifier.patch_expert
    assert expert is not None

    def follows() -> float:
        """Correlation of the opinions with what was said."""
        feature_SF, _ = patch_words._features(expert, setup.training, np.arange(len(setup.training)))
        opinion_SP = expert.opinion(torch.from_numpy(feature_SF)).numpy()
        return float(np.corrcoef(opinion_SP.mean(axis=1), rank_S1[:, 0])[0, 1])

    setup.fit_patches()
    by_labels, weights = follows(), expert.weight_PF.clone()
    untaught_SP = setup.supervision.untaught()
    assert untaught_SP.any(dim=0).all()
    setup.pseudo_SP = (0.05 + 0.9 * rank_S1).where(untaught_SP, torch.nan)
    setup.fit_patches()
    assert not torch.equal(expert.weight_PF, weights)
    assert follows() > by_labels + 0.3
    average = setup.ema.model.patch_expert
    assert average is not None
    assert torch.equal(average.weight_PF, expert.weight_PF)


def test_labels_come_first_where_not_all_studies_can_be_learned_from(
    config: TrainConfig, tiny_data: LoadedManifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup = Setup(config.model_copy(update={"labeled_fraction": 0.3}), tiny_data, device=CPU)
    labeled_S = setup.supervision.taught()
    setup.pseudo_SP = torch.full(labeled_S.shape, 0.5)[:, None].where(setup.supervision.untaught(), torch.nan)
    chosen, features = [], patch_words._features

    def noted(expert: PatchExpert, studies: StudyDataset, some: np.ndarray) -> tuple[np.ndarray, torch.Tensor]:
        chosen.append(some)
        return features(expert, studies, some)

    monkeypatch.setattr(patch_words, "_features", noted)
    monkeypatch.setattr(patch_words, "MOST_STUDIES", labeled_S.sum() + 2)
    setup.fit_patches()
    (some,) = chosen
    assert len(some) == labeled_S.sum() + 2
    assert labeled_S[some].sum() == labeled_S.sum()
    assert not labeled_S.all()


@pytest.mark.parametrize("counts", [True, False])
def test_the_run_tells_whether_it_counts(
    counts: bool,
    config: TrainConfig,
    tiny_data: LoadedManifest,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    interval = Interval(low=-0.1, high=0.1) if counts else Interval(low=0.01, high=0.1)
    monkeypatch.setattr(patch_words, "difference_interval", lambda *_: interval)
    bundle = load_bundle(train(config, loaded=tiny_data, root=Root(tmp_path)))
    assert ("without the expert of patches" in capsys.readouterr().out) == (not counts)
    run = mlflow.MlflowClient().get_run(str(bundle.info.mlflow_run_id))
    assert run.data.metrics["validate/patches"] == counts
    assert bundle.model.patch_expert is not None
    assert bundle.model.patch_expert.counts == counts


def test_a_training_learns_the_same_beside_it(
    trained: Root, config: TrainConfig, tiny_data: LoadedManifest, tmp_path: Path
) -> None:
    alone = config.model_copy(update={"architecture": config.architecture.model_copy(update={"patches": "none"})})
    last = {"labeled_fraction": 0.3}  # so few that the last epoch goes out, whatever validation says of it
    alone, beside = (each.model_copy(update=last) for each in (alone, config))
    for each in (alone, beside):
        train(each, loaded=tiny_data, root=Root(tmp_path))
    one, other = (model_of(Root(tmp_path), each, tiny_data).state_dict() for each in (alone, beside))
    assert all(torch.equal(other[name], value) for name, value in one.items())
    assert {name.split(".")[0] for name in other.keys() - one.keys()} == {"patch_expert"}


def test_a_training_that_was_stopped_goes_on_with_it(
    trained: Root,
    config: TrainConfig,
    tiny_data: LoadedManifest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    root = Root(tmp_path)
    train(config, loaded=tiny_data, root=root, stop_after=5)  # of 8, the first epoch validated
    fitted_again: list[str] = []  # half a minute for 4,000 studies
    monkeypatch.setattr("components.train.setup.fit_patch_expert", lambda *_, **__: fitted_again.append("again"))
    train(config, loaded=tiny_data, root=root)
    assert not fitted_again
    unbroken, resumed = (model_of(each, config, tiny_data).state_dict() for each in (trained, root))
    assert all(torch.equal(resumed[name], value) for name, value in unbroken.items())


def run(config: TrainConfig, loaded: LoadedManifest, root: Path) -> None:
    """In each of several processes."""
    train(config, loaded=loaded, root=Root(root))


@pytest.mark.slow
def test_two_processes_give_the_expert_of_one(
    trained: Root, config: TrainConfig, tiny_data: LoadedManifest, tmp_path: Path
) -> None:
    assert ranks.join(ranks.start(run, config, tiny_data, tmp_path, num_processes=2)) == [0, 0]
    one, two = (model_of(root, config, tiny_data).state_dict() for root in (trained, Root(tmp_path)))
    names = [name for name in one if name.startswith("patch_expert.")]
    for name in set(names) - {"patch_expert.scale_P"}:
        assert torch.equal(two[name], one[name]), name
    name = "patch_expert.scale_P"  # hangs on the network's answers, and so on the last digits of its weights
    torch.testing.assert_close(two[name], one[name], rtol=0.05, atol=0.0)
    rest = one.keys() - names  # float64 has a test of its own: AdamW makes whole steps of the last digits of float32
    assert max(float((two[name] - one[name]).abs().max()) for name in rest) < 0.005


def test_another_training_keeps_it_for_the_pathologies_that_it_knows(
    trained: Root, config: TrainConfig, tiny_data: LoadedManifest
) -> None:
    values = {
        "architecture": Architecture(),
        "fine_tune_from": trained.bundle(training_key(config, tiny_data.hash)).uri,
    }
    setup = Setup(config.model_copy(update=values), tiny_data, device=CPU)
    known, kept = model_of(trained, config, tiny_data), setup.network.classifier
    for name in ("words_KQ", "weight_PF", "bias_P", "usual_PVL"):
        assert torch.equal(known.get_buffer(f"patch_expert.{name}"), kept.get_buffer(f"patch_expert.{name}"))


def test_heatmaps_add_up_to_what_the_patches_add(trained: Root, config: TrainConfig, tiny_data: LoadedManifest) -> None:
    bundle = load_bundle(trained.bundle(training_key(config, tiny_data.hash)))
    expert = bundle.model.patch_expert
    assert expert is not None
    rng = np.random.default_rng(5)
    for num_films in (1, 3):
        films = [rng.integers(0, 256, (32, 32), dtype=np.uint8) for _ in range(num_films)]
        map_VPSS = heatmaps(bundle, films, [None] * num_films)
        assert map_VPSS.shape == (num_films, len(bundle.info.pathologies), 32, 32)
        mask = torch.ones(1, num_films, dtype=torch.bool)
        added_P = expert(torch.from_numpy(np.stack(films))[None], mask)[0].numpy()
        np.testing.assert_allclose(map_VPSS.sum(axis=(0, 2, 3)), added_P, rtol=1e-4, atol=1e-5)
        assert np.abs(added_P).max() > 0.1
    out = copy.deepcopy(bundle.model)
    assert out.patch_expert is not None
    out.patch_expert.scale_P.zero_()  # as where validation leaves it out
    half = heatmaps(dataclasses.replace(bundle, models=(bundle.model, out)), films, [None] * 3)
    np.testing.assert_allclose(half, map_VPSS / 2)
    left_out = dataclasses.replace(bundle, models=(out,))
    assert has_heatmaps(bundle)
    assert not has_heatmaps(left_out)
    with pytest.raises(ValueError, match="no heatmaps"):
        heatmaps(left_out, films, [None] * 3)


def test_a_heatmap_changes_where_the_film_does(config: TrainConfig, tiny_data: LoadedManifest) -> None:
    expert = fitted(config, tiny_data)
    film = np.random.default_rng(6).integers(0, 256, (32, 32), dtype=np.uint8)
    other = film.copy()
    other[2:7, 21:29] = 255 - other[2:7, 21:29]
    changed, before = (
        expert.heat(torch.from_numpy(each)[None], torch.zeros(1, dtype=torch.long)) for each in (other, film)
    )
    change_PSS = (changed - before)[0].abs()
    reached = torch.zeros(32, 32, dtype=torch.bool)
    reached[:11, 17:] = True  # a patch of 5 pixels around what changed
    assert float(change_PSS[:, ~reached].max()) < 1e-6
    assert float(change_PSS[:, reached].max()) > 1e-3
    larger = torch.from_numpy(np.kron(other, np.ones((3, 3), np.uint8)))[None]  # is brought to the expert's side
    torch.testing.assert_close(expert.heat(larger, torch.zeros(1, dtype=torch.long)), changed, rtol=1e-4, atol=1e-5)


def test_rows_and_columns_of_a_heatmap_are_those_of_the_film(
    trained: Root, config: TrainConfig, tiny_data: LoadedManifest
) -> None:
    bundle = load_bundle(trained.bundle(training_key(config, tiny_data.hash)))
    film = np.random.default_rng(6).integers(0, 256, (32, 32), dtype=np.uint8)
    other = film.copy()
    other[2:7, 21:29] = 255 - other[2:7, 21:29]
    changed, before = (heatmaps(bundle, [each], [None])[0] for each in (other, film))
    change_SS = np.abs(changed - before).sum(axis=0)
    assert change_SS[:13, 15:].sum() > 0.95 * change_SS.sum() > 0


def test_usual_is_what_places_add_on_average_by_view(
    config: TrainConfig, tiny_data: LoadedManifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    studies, supervision = taught_studies(config, tiny_data)
    assert patch_words._FEWEST_OF_A_VIEW == 20
    monkeypatch.setattr(patch_words, "_FEWEST_OF_A_VIEW", 13)
    expert = fitted(config, tiny_data)
    by_study: list[torch.Tensor] = []
    by_view: dict[str | None, list[torch.Tensor]] = {"PA": [], "AP": [], "LATERAL": []}
    for study in (studies[int(s)] for s in np.flatnonzero(supervision.taught())):
        films = torch.from_numpy(np.stack(study.films))
        added_NPL = torch.cat([expert.added(near) for near in expert.near(films)])
        by_study.append(added_NPL.mean(dim=0))
        for view, added_PL in zip(study.view_positions, added_NPL, strict=True):
            by_view[view].append(added_PL)
    means = [torch.stack(by_study).mean(dim=0), *(torch.stack(added).mean(dim=0) for added in by_view.values())]
    counts = [len(added) for added in by_view.values()]
    assert counts[1] > 13 > counts[0] == counts[2]  # so that PA and LATERAL are too few to have a usual of their own
    np.testing.assert_allclose(expert.usual_PVL[:, 0].numpy(), means[0].numpy(), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(expert.usual_PVL[:, 2].numpy(), means[2].numpy(), rtol=1e-4, atol=1e-6)
    assert float((expert.usual_PVL[:, 2] - expert.usual_PVL[:, 0]).abs().max()) > 1e-3
    assert torch.equal(expert.usual_PVL[:, 1], expert.usual_PVL[:, 0])
    assert torch.equal(expert.usual_PVL[:, 3], expert.usual_PVL[:, 0])
    np.testing.assert_allclose(expert.usual_PVL[:, 0].sum(dim=1).numpy(), -expert.bias_P.numpy(), rtol=1e-3, atol=1e-4)
    film = torch.from_numpy(np.array(studies[0].films))[:1]
    heat = [expert.heat(film, torch.tensor([view])).sum(dim=(2, 3))[0] for view in (0, 2)]
    between_P = (expert.usual_PVL[:, 2] - expert.usual_PVL[:, 0]).sum(dim=1)
    np.testing.assert_allclose((heat[0] - heat[1]).numpy(), between_P.numpy(), rtol=1e-3, atol=1e-4)


def test_a_seed_that_clustering_cannot_take_is_told_at_once() -> None:
    """scikit-learn's end at 2^32, after the films were read; teachers and further models count on from the seed."""
    with pytest.raises(UserError, match=r"train\.seed.*4294967296"):
        TrainConfig.parse({"seed": 2**32}, where="train")


def test_films_smaller_than_its_own_are_brought_to_its_side() -> None:
    """A bundle that goes on with them: the maps of its places are of one size."""
    expert = PatchExpert(SMALL, num_pathologies=2)
    film = torch.from_numpy(np.random.default_rng(3).integers(0, 256, (1, 20, 20), dtype=np.uint8))
    assert expert.patches(film).shape[1] == SMALL.places**2
    assert expert.heat(film, torch.tensor([0])).shape == (1, 2, 32, 32)
