"""Scores by subgroup of the patients and studies, and how far each lies from all others of its kind.

After Seyyed-Kalantari et al. 2021 (under-diagnosis is a false No Finding). Shape letters: S studies, P pathologies,
G patients, R resamples.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from components.cxr.labels import BLANK, NO_FINDING, POSITIVE, SUPPORT_DEVICES, truth_of
from components.cxr.operating_points import OperatingPoint
from components.cxr.report import LOW_SUPPORT, GroupValue, Subgroup
from components.evaluate.bootstrap import Draws, draw, interval
from components.evaluate.calibration import calibrate
from components.evaluate.config import EvaluateConfig
from components.evaluate.predictions import Studies
from components.evaluate.ranking import ranking_of

__all__ = ["MIN_STUDIES", "groups_of", "subgroups_of", "supported"]

MIN_STUDIES = 50
"""With fewer, a subgroup is named with its counts and has no scores."""
AGE_BANDS = (20, 40, 60, 80)
SEXES = {"F": "female", "M": "male"}
_KEPT = 10
"""Patients with a race or insurance from which it is named; rarer ones are `other`."""

_Mask = npt.NDArray[np.bool_]
_Floats = npt.NDArray[np.float64]


def groups_of(test: Studies, *, pathologies: Sequence[str]) -> dict[str, dict[str, _Mask]]:
    """By attribute and group, its studies (S,); an attribute without two groups is left out.

    What is unknown of a study puts it into no group: its attribute does not count it.
    """
    rows, traits = test.rows, test.traits
    ages = [None if age is None else _band(age) for age in traits.get("age_years", [])]
    counts = [str(count) if count < 3 else "3 or more" for count in test.num_images_S.tolist()]
    found: dict[str, Sequence[str | None]] = {
        "sex": [SEXES.get(sex or "") for sex in traits.get("sex", [])],
        "age": ages,
        "race": _common(traits.get("race", []), rows.patients),
        "insurance": _common(traits.get("insurance", []), rows.patients),
        "view": list(traits.get("view", [])),
        "images": counts,
        "indication": ["given" if has else "none" for has in test.has_text_S.tolist()],
    }
    if SUPPORT_DEVICES in pathologies:
        devices_S = rows.states_NP[:, list(pathologies).index(SUPPORT_DEVICES)] == POSITIVE
        labeled = zip(devices_S.tolist(), rows.labeled_N.tolist(), strict=True)
        found["support devices"] = [("present" if has else "none") if known else None for has, known in labeled]
    groups = {}
    for attribute, values in found.items():
        names = sorted({value for value in values if value is not None}, key=lambda name: (name == "other", name))
        if len(names) > 1:
            groups[attribute] = {name: np.array([value == name for value in values]) for name in names}
    return groups


def supported(truth_S: npt.NDArray[np.int8], patient_S: npt.NDArray[np.generic]) -> bool:
    """Whether at least LOW_SUPPORT patients are positive, and as many negative."""
    return min(len(np.unique(patient_S[truth_S == state])) for state in (0, 1)) >= LOW_SUPPORT


def subgroups_of(
    score_SP: npt.NDArray[np.floating],
    test: Studies,
    points: Mapping[str, OperatingPoint],
    *,
    pathologies: Sequence[str],
    config: EvaluateConfig,
) -> tuple[Subgroup, ...]:
    """Every subgroup, protocol A, by study.

    Means are over the headline's pathologies that have enough patients with and without them, in the subgroup and among
    all others of its attribute (in the subgroup alone where there are too few others): the same list for both sides.

    Args:
        score_SP: z1 - z0.
        points: calibration and threshold of each pathology.
    """
    truth_SP = truth_of(test.rows.states_NP, test.rows.labeled_N, protocol="A", pathologies=pathologies)
    answer_SP = np.stack(
        [
            calibrate(score_SP[:, p], points[name].calibration) >= points[name].threshold
            for p, name in enumerate(pathologies)
        ],
        axis=1,
    )
    table = _Table(
        score_SP,
        answer_SP,
        truth_SP,
        _false_no_finding(test, answer_SP, pathologies),
        draw(test.rows.patients, num_resamples=config.num_bootstrap, seed=config.seed),
    )
    headline_P = [list(pathologies).index(name) for name in config.headline or pathologies]
    found = []
    for attribute, groups in groups_of(test, pathologies=pathologies).items():
        known_S = np.any(list(groups.values()), axis=0)
        for name, inside_S in groups.items():
            others_S = known_S & ~inside_S
            sides = [inside_S] if others_S.sum() < MIN_STUDIES else [inside_S, others_S]
            counted_P = [p for p in headline_P if all(table.supports(p, side_S) for side_S in sides)]
            enough = inside_S.sum() >= MIN_STUDIES
            values = _values(table, sides, counted_P) if enough else {key: GroupValue() for key in _KEYS}
            found.append(
                Subgroup(
                    attribute=attribute,
                    group=name,
                    studies=int(inside_S.sum()),
                    patients=len(np.unique(table.draws.patient_N[inside_S])),
                    too_small=not enough,
                    pathologies=tuple(pathologies[p] for p in counted_P) if enough else (),
                    **values,
                )
            )
    return tuple(found)


_KEYS = ("auroc", "tpr", "fpr", "underdiagnosis")


class _Table:
    """What the subgroups are cut out of."""

    def __init__(
        self,
        score_SP: npt.NDArray[np.floating],
        answer_SP: _Mask,
        truth_SP: npt.NDArray[np.int8],
        missed_S: npt.NDArray[np.int8],
        draws: Draws,
    ) -> None:
        self.score_SP, self.answer_SP, self.truth_SP, self.missed_S = score_SP, answer_SP, truth_SP, missed_S
        self.draws, self.num_patients = draws, len(draws.drawn_GR)

    def supports(self, p: int, inside_S: _Mask) -> bool:
        return supported(self.truth_SP[inside_S, p], self.draws.patient_N[inside_S])

    def under(self, draws: Draws, inside_S: _Mask, counted_P: Sequence[int]) -> dict[str, _Floats]:
        """Every number of the studies `inside_S` in each resample (R,), NaN where it is undefined."""
        rankings, cells = [], []
        for p in counted_P:
            known_S = inside_S & (self.truth_SP[:, p] != BLANK)
            positive_K, patient_K = self.truth_SP[known_S, p] == 1, draws.patient_N[known_S]
            score_K = self.score_SP[known_S, p]
            rankings.append(ranking_of(score_K, positive_K, patient_K, num_patients=self.num_patients))
            answer_K = self.answer_SP[known_S, p]
            cells.append([self._by_patient(patient_K[chosen_K]) for chosen_K in (
                positive_K & answer_K, positive_K, ~positive_K & answer_K, ~positive_K
            )])  # fmt: skip
        ill_S, missed_S = inside_S & (self.missed_S != BLANK), inside_S & (self.missed_S == 1)
        missed_2G = np.stack([self._by_patient(draws.patient_N[chosen_S]) for chosen_S in (missed_S, ill_S)])
        parts: dict[str, list[_Floats]] = {key: [] for key in _KEYS}
        for _, weight_GR in draws.weights():
            nothing_R = np.full(weight_GR.shape[1], np.nan)
            if counted_P:
                parts["auroc"].append(np.mean([ranking.auroc(weight_GR) for ranking in rankings], axis=0))
                count_P4R = np.array(cells) @ weight_GR
                parts["tpr"].append(np.mean([_share(*count_4R[:2]) for count_4R in count_P4R], axis=0))
                parts["fpr"].append(np.mean([_share(*count_4R[2:]) for count_4R in count_P4R], axis=0))
            else:
                for key in _KEYS[:3]:
                    parts[key].append(nothing_R)
            parts["underdiagnosis"].append(_share(*(missed_2G @ weight_GR)))
        return {key: np.concatenate(values) for key, values in parts.items()}

    def _by_patient(self, patient_K: npt.NDArray[np.int64]) -> _Floats:
        return np.bincount(patient_K, minlength=self.num_patients).astype(np.float64)


def _values(table: _Table, sides: Sequence[_Mask], counted_P: Sequence[int]) -> dict[str, GroupValue]:
    once = [table.under(table.draws.once(), side_S, counted_P) for side_S in sides]
    resampled = [table.under(table.draws, side_S, counted_P) for side_S in sides]
    values = {}
    for key in _KEYS:
        value, ci = float(once[0][key][0]), interval(resampled[0][key])
        gap, gap_ci = np.nan, None
        if len(sides) == 2:
            gap, gap_ci = value - float(once[1][key][0]), interval(resampled[0][key] - resampled[1][key])
        values[key] = GroupValue(
            value=None if np.isnan(value) else value,
            ci=None if np.isnan(value) else ci,
            gap=None if np.isnan(gap) else gap,
            gap_ci=None if np.isnan(gap) else gap_ci,
        )
    return values


def _false_no_finding(test: Studies, answer_SP: _Mask, pathologies: Sequence[str]) -> npt.NDArray[np.int8]:
    """Of studies with a finding (S,), 1 where the answer is No Finding and 0 where it is not; BLANK for all others."""
    if NO_FINDING not in pathologies:
        return np.full(len(test), BLANK, dtype=np.int8)
    findings_P = [p for p, name in enumerate(pathologies) if name not in (NO_FINDING, SUPPORT_DEVICES)]
    ill_S = (test.rows.states_NP[:, findings_P] == POSITIVE).any(axis=1) & test.rows.labeled_N
    return np.where(ill_S, answer_SP[:, list(pathologies).index(NO_FINDING)], BLANK).astype(np.int8)


def _band(age: float) -> str:
    """
    >>> [_band(age) for age in (3.0, 20.0, 59.9, 91.0)]
    ['under 20', '20 to 39', '40 to 59', '80 and over']
    """
    if age < AGE_BANDS[0]:
        return f"under {AGE_BANDS[0]}"
    low = max(edge for edge in AGE_BANDS if edge <= age)
    return f"{low} and over" if low == AGE_BANDS[-1] else f"{low} to {AGE_BANDS[AGE_BANDS.index(low) + 1] - 1}"


def _common(values: Sequence[str | None], patients: Sequence[str]) -> list[str | None]:
    """The values that enough patients have; `other` for rarer ones, which could point at a patient."""
    count = Counter(value for value, _ in set(zip(values, patients, strict=False)))
    return [value if value is None or count[value] >= _KEPT else "other" for value in values]


def _share(part_R: _Floats, whole_R: _Floats) -> _Floats:
    share_R: _Floats = np.divide(part_R, whole_R, out=np.full(len(part_R), np.nan), where=whole_R > 0)
    return share_R
