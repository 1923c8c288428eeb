"""How the expert of patches gets its words and weights, before training: clusters of patches, then a ridge regression.

Shape letters: S studies, N films, L places of a film, Q pixels of a patch, K words, F features, P pathologies.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterable, Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from sklearn.cluster import MiniBatchKMeans
from sklearn.linear_model import RidgeCV
from torch import Tensor

from components.cxr.delong import difference_interval, mean_difference
from components.cxr.labels import truth_of
from components.cxr.model.batch import NUM_VIEWS, VIEW_INDEX
from components.cxr.model.dataset import StudyDataset
from components.cxr.model.patch_expert import PatchExpert
from components.train.distributed import broadcast, is_main
from components.train.supervision import Supervision

__all__ = ["Balance", "balanced", "fit_patch_expert"]

MOST_STUDIES = 4000
"""That words, and that weights, are learned from: more would not fit in memory as features, nor need this expert."""
PATCHES_A_FILM = 40
_LEAST_EIGENVALUE = 0.05
"""Added to the variances of patches before whitening (epsilon_zca of the paper, for patches of variance 1)."""
_PENALTIES = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
"""Of the ridge regression, for features of norm 1; each pathology's is chosen by leaving studies out one at a time."""
_STUDIES_A_TIME = 64
_FEWEST_OF_A_VIEW = 20
"""Training films by which what is usual for a view can be told."""
_CLUSTERING: dict[str, Any] = {"batch_size": 4096, "max_iter": 20, "n_init": 1}


def fit_patch_expert(
    expert: PatchExpert, studies: StudyDataset, supervision: Supervision, *, pseudo_SP: Tensor | None = None, seed: int
) -> None:
    """Set words from the patches of all training films, labeled or not, and weights from the targets.

    Its opinions spread the studies that they were learned from by 1. An uncertain label, or none, counts as its
    pathology's share of positives, from which it draws nothing away. Every process must call it; one does the work.

    Args:
        pseudo_SP: float32 q in [0, 1] that teachers say of a student's unlabeled entries, NaN elsewhere. Studies that
            have a target without them come first.
    """
    fitted = copy.deepcopy(expert).cpu()
    if is_main():
        _fit(fitted, studies, supervision, pseudo_SP, seed=seed)
    expert.load_state_dict(cast(dict[str, Tensor], broadcast(fitted.state_dict())))


@torch.no_grad()
def _fit(
    expert: PatchExpert, studies: StudyDataset, supervision: Supervision, pseudo_SP: Tensor | None, *, seed: int
) -> None:
    rng = np.random.default_rng([seed, len(studies)])
    some = np.sort(rng.permutation(len(studies))[:MOST_STUDIES])
    _learn_words(expert, (studies[s].films for s in some), rng=rng, seed=seed)
    told = supervision if pseudo_SP is None else supervision.with_pseudo(pseudo_SP)
    taught = rng.permutation(np.flatnonzero(told.taught() & _has_films(studies)))
    first = np.argsort(~supervision.taught()[taught], kind="stable")
    taught = np.sort(taught[first][:MOST_STUDIES])
    if len(taught) < 2:
        return
    feature_SF, near_VLK = _features(expert, studies, taught)
    feature_SF = feature_SF.astype(np.float64)
    mean_F, spread_F = feature_SF.mean(axis=0), feature_SF.std(axis=0)
    scale_F = np.divide(1.0, spread_F, out=np.zeros_like(spread_F), where=spread_F > 1e-6) / feature_SF.shape[1] ** 0.5
    ridge = RidgeCV(_PENALTIES, alpha_per_target=True)
    ridge.fit((feature_SF - mean_F) * scale_F, _target(told, taught))
    weight_PF = np.atleast_2d(ridge.coef_) * scale_F
    weight_PF /= np.maximum((feature_SF @ weight_PF.T).std(axis=0), 1e-3)[:, None]
    expert.weight_PF.copy_(torch.from_numpy(weight_PF))
    expert.bias_P.copy_(torch.from_numpy(-weight_PF @ mean_F))
    expert.usual_PVL.copy_(expert.added(near_VLK).transpose(0, 1))


class Balance:
    """How much the expert counts, which validation finds out: as much as the rest of the network, or not at all.

    It is left out where the rest alone is shown to be better: by the mean AUROC over pathologies, with 95 % confidence
    over patients. An encoder that knows much more than it does not have to carry it.

    Args:
        experts: of the network and of its average.
    """

    def __init__(self, experts: Sequence[PatchExpert], validation: StudyDataset) -> None:
        self._experts, self._validation = experts, validation
        self._truth_SP = truth_of(validation.states_SP, validation.labeled_S, protocol="A")

    def take_out(self) -> None:
        """Have the network answer without it."""
        for expert in self._experts:
            expert.scale_P.zero_()

    def put_in(self, score_SP: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Set `scale_P`, and return what the network answers with it (S, P).

        Args:
            score_SP: z1 - z0 of every validation study, without it.
        """
        scale_P, patients = balanced(score_SP, self._opinions), self._validation.patient_ids
        gain = mean_difference(score_SP, score_SP + scale_P * self._opinions, self._truth_SP, patients)
        if gain is not None and difference_interval(*gain).low > 0:
            scale_P = np.zeros_like(scale_P)
        for expert in self._experts:
            expert.scale_P.copy_(torch.from_numpy(scale_P))
        return score_SP + scale_P * self._opinions

    @functools.cached_property
    def _opinions(self) -> npt.NDArray[np.float32]:
        """Of the validation studies (S, P); asked for once the expert is fitted, or back from a checkpoint."""
        expert, studies = self._experts[0], self._validation
        opinion_SP = np.zeros((len(studies), len(expert.bias_P)), np.float32)
        seen = np.flatnonzero(_has_films(studies))
        if len(seen):
            feature_SF, _ = _features(expert, studies, seen)
            opinion_SP[seen] = expert.opinion(torch.from_numpy(feature_SF).to(expert.bias_P.device)).cpu().numpy()
        return opinion_SP


def balanced(score_SP: npt.NDArray[np.float32], opinion_SP: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The `scale_P` under which opinions spread the studies as far apart as the scores do.

    1 where either makes no difference between studies, such as where no study has a film.

    >>> scores, opinions = np.array([[0, 0], [4, 4]], np.float32), np.array([[1, 0], [2, 0]], np.float32)
    >>> balanced(scores, opinions)
    array([4., 1.], dtype=float32)
    """
    own_P, spread_P = opinion_SP.std(axis=0), score_SP.std(axis=0)
    tells_P = (own_P > 0) & (spread_P > 0)
    scale_P: npt.NDArray[np.float32] = np.divide(spread_P, own_P, out=np.ones_like(own_P), where=tells_P)
    return scale_P


def _learn_words(
    expert: PatchExpert, films: Iterable[Sequence[npt.NDArray[np.uint8]]], *, rng: np.random.Generator, seed: int
) -> None:
    chosen = []
    for film in (film for of_a_study in films for film in of_a_study):
        patch_LQ = expert.patches(torch.from_numpy(np.array(film))[None])[0]
        chosen.append(patch_LQ[torch.from_numpy(rng.permutation(len(patch_LQ))[:PATCHES_A_FILM])])
    if not chosen:
        return
    patch_NQ = torch.cat(chosen).double()
    mean_Q = patch_NQ.mean(dim=0)
    variance_Q, axes_QQ = torch.linalg.eigh(torch.cov((patch_NQ - mean_Q).T))
    expert.mean_Q.copy_(mean_Q)
    expert.whitening_QQ.copy_(axes_QQ @ torch.diag((variance_Q + _LEAST_EIGENVALUE).rsqrt()) @ axes_QQ.T)
    whitened_NQ = expert.whitened(patch_NQ.float()).numpy()
    clusters = MiniBatchKMeans(min(len(expert.words_KQ), len(whitened_NQ)), random_state=seed, **_CLUSTERING)
    words_KQ = clusters.fit(whitened_NQ).cluster_centers_
    expert.words_KQ[: len(words_KQ)].copy_(torch.from_numpy(words_KQ))


def _features(
    expert: PatchExpert, studies: StudyDataset, chosen: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.float32], Tensor]:
    """The mean of each study's films (S, F), and how near each place comes to each word on average (V, L, K).

    The latter is by view the mean of its films, and at 0 of all studies, which also stands for views of few films.
    """
    means, words, places = [], len(expert.words_KQ), expert.config.places**2
    sum_VLK = expert.words_KQ.new_zeros(NUM_VIEWS, places * words, dtype=torch.float64)
    count_V = torch.zeros(NUM_VIEWS, dtype=torch.float64)
    for start in range(0, len(chosen), _STUDIES_A_TIME):
        some = [studies[int(s)] for s in chosen[start : start + _STUDIES_A_TIME]]
        share_VN = torch.tensor(
            [_counted(view, 1 / len(study.films)) for study in some for view in study.view_positions]
        ).T
        films_NHW = torch.from_numpy(np.stack([film for study in some for film in study.films]))
        pooled, first = [], 0
        for near_NLK in expert.near(films_NHW.to(expert.scale_P.device)):
            pooled.append(expert.pooled(near_NLK).cpu())
            sum_VLK += share_VN[:, first : first + len(near_NLK)].to(near_NLK) @ near_NLK.flatten(1)
            first += len(near_NLK)
        count_V += share_VN.sum(dim=1)
        means += [part_NF.mean(dim=0) for part_NF in torch.cat(pooled).split([len(study.films) for study in some])]
    mean_VLK = sum_VLK / count_V.clamp(min=1).to(sum_VLK.device)[:, None]
    mean_VLK[count_V < _FEWEST_OF_A_VIEW] = mean_VLK[0].clone()
    return torch.stack(means).numpy(), mean_VLK.unflatten(1, (places, words)).to(expert.words_KQ.dtype)


def _counted(view: str | None, share: float) -> list[float]:
    """How much a film counts by view: its share of its study at 0, and whole in its own view."""
    index = VIEW_INDEX.get(view or "", 0)
    return [share, *(float(index == v) for v in range(1, NUM_VIEWS))]


def _target(supervision: Supervision, chosen: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Chance of positive beside negative (S, P), the pathology's share where neither is taught."""
    target_SP3 = supervision.target_SP3[chosen].double() * (supervision.weight_SP[chosen] > 0)[:, :, None]
    known_SP = target_SP3[:, :, 0] + target_SP3[:, :, 2]
    share_P = target_SP3[:, :, 2].sum(dim=0) / known_SP.sum(dim=0).clamp(min=1e-9)
    chance_SP = torch.where(known_SP > 0, target_SP3[:, :, 2] / known_SP.clamp(min=1e-9), share_P)
    return chance_SP.numpy()


def _has_films(studies: StudyDataset) -> npt.NDArray[np.bool_]:
    return np.diff(studies.first_film_S) > 0
