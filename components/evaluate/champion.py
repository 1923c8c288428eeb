"""The deployed bundle, scored on the challenger's test studies."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from components.cxr.bundle_info import Description, check_same_pixels, describe
from components.cxr.errors import UserError
from components.cxr.labels import BLANK, truth_of
from components.cxr.operating_points import load_operating_points
from components.cxr.report import Condition, Difference
from components.cxr.shards import LoadedManifest
from components.cxr.storage.storage import Root, Storage
from components.evaluate.calibration import calibrate
from components.evaluate.calibration_change import ece_difference
from components.evaluate.config import EvaluateConfig
from components.evaluate.gains import paired
from components.evaluate.predictions import Pass, Rows, Studies, predictions_key
from components.evaluate.promotion import Comparison
from components.evaluate.subgroups import MIN_STUDIES, groups_of, supported

__all__ = ["Answers", "compare", "compare_answers", "deployed_now"]

CURRENT = "current.json"


def deployed_now(root: Root) -> dict[str, Any] | None:
    """The pointer to the model in service (bundle, bundle_hash, model_version …); None when nothing is deployed.

    Raises:
        UserError: the pointer is damaged.
    """
    try:
        data = root.deployed().read(CURRENT).data
    except FileNotFoundError:
        return None
    try:
        found = json.loads(data)
        found["bundle"], found["bundle_hash"]
    except (ValueError, KeyError, TypeError):
        where = f"{root.deployed().uri}/{CURRENT}"
        raise UserError(
            "bad-deployment", "damaged pointer to the deployed model", where=where, remedy="Delete it to start over."
        ) from None
    return dict(found)


def compare(
    config: EvaluateConfig,
    *,
    root: Root,
    manifest: LoadedManifest,
    model: Description,
    operating_points: str,
    predictions: pa.Table,
) -> Comparison | None:
    """The challenger `model` against the deployed bundle; None when nothing is deployed.

    Test studies whose patients the deployed bundle was trained on would flatter it: they are left out for both. A
    deployed bundle that cannot be scored on this data becomes a problem to read, not an error.

    Args:
        operating_points: hash of the challenger's.
        predictions: the challenger's, as write_predictions documents.
    """
    current = deployed_now(root)
    if current is None:
        return None
    if current["bundle_hash"] == model.hash:
        return Comparison(model.hash, other_points=current.get("operating_points_hash") != operating_points)
    storage = root.at(current["bundle"])
    try:
        champion = _describe_champion(storage, current, manifest)
        points = load_operating_points(storage, bundle_hash=champion.hash)
    except UserError as error:
        return Comparison(current["bundle_hash"], problem=str(error))
    from components.evaluate.predict import predict  # brings torch, which only another deployed model needs here

    jobs = [Pass("test", "all"), Pass("test", "image")]
    found = predict(
        config,
        storage=root.predictions(predictions_key(champion.hash, manifest.hash)),
        bundle=storage,
        model=champion,
        manifest=manifest,
        passes=jobs,
        unit="studies by the deployed model",
    )
    fair_S = ~found.test.trained_on_S
    if not fair_S.any():
        problem = "it was trained or selected on every test patient; compare them on other data."
        return Comparison(champion.hash, problem=problem)
    names = model.info.pathologies
    score_SP, film_SP = (found.scores[job].score_NP for job in jobs)
    probability_SP = np.stack(
        [calibrate(score_SP[:, p], points.conditions["all"][name].calibration) for p, name in enumerate(names)], axis=1
    )
    compared = compare_answers(
        _answers(predictions, found.test, names).select(fair_S),
        Answers(score_SP, film_SP, probability_SP).select(fair_S),
        found.test.rows.select(fair_S),
        pathologies=names,
        config=config,
        champion_bundle=champion.hash,
        groups={
            f"{attribute}: {name}": inside_S[fair_S]
            for attribute, found_in in groups_of(found.test, pathologies=names).items()
            for name, inside_S in found_in.items()
        },
    )
    return compared._replace(left_out=_left_out(found.test))


class Answers(NamedTuple):
    """What a model says of S studies."""

    score_SP: npt.NDArray[np.floating]
    """z1 - z0 with every input."""
    film_SP: npt.NDArray[np.floating]
    """z1 - z0 with films alone."""
    probability_SP: npt.NDArray[np.floating]
    """With every input, calibrated by its own operating points, in [0, 1]."""

    def select(self, chosen_S: npt.NDArray[np.bool_]) -> Answers:
        """Of the chosen studies."""
        return Answers(*(values_SP[chosen_S] for values_SP in self))


def compare_answers(
    challenger: Answers,
    champion: Answers,
    rows: Rows,
    *,
    pathologies: Sequence[str],
    config: EvaluateConfig,
    champion_bundle: str,
    groups: Mapping[str, npt.NDArray[np.bool_]] | None = None,
) -> Comparison:
    """Challenger minus champion, protocol A, by study, everything under the same resamples of the patients.

    Args:
        groups: studies (S,) of each subgroup; those of too few are left out.
    """
    headline = config.headline or tuple(pathologies)
    truth_SP = truth_of(rows.states_NP, rows.labeled_N, protocol="A", pathologies=pathologies)
    differences = partial(
        paired,
        truth_SP=truth_SP,
        patients=rows.patients,
        names=pathologies,
        headline=headline,
        num_resamples=config.num_bootstrap,
        seed=config.seed,
    )
    by_pathology, mean = differences(challenger.score_SP, champion.score_SP)
    _, films = differences(challenger.film_SP, champion.film_SP)
    patient_S = np.asarray(rows.patients)
    defined = [name for name in headline if by_pathology[name].difference is not None]
    if not defined:
        return Comparison(champion_bundle)
    counted_P = [list(pathologies).index(name) for name in defined]
    ece = ece_difference(
        challenger.probability_SP[:, counted_P],
        champion.probability_SP[:, counted_P],
        truth_SP[:, counted_P],
        rows.patients,
        num_resamples=config.num_bootstrap,
        seed=config.seed,
    )

    def by_subgroup() -> Iterator[tuple[str, Difference]]:
        for group, inside_S in (groups or {}).items():
            inside_SP = np.where(inside_S[:, None], truth_SP, np.int8(BLANK))
            counted = [n for n in headline if supported(inside_SP[:, list(pathologies).index(n)], patient_S)]
            if inside_S.sum() >= MIN_STUDIES and counted:
                scores = (challenger.score_SP, champion.score_SP)
                yield group, differences(*scores, truth_SP=inside_SP, headline=counted)[1]

    return Comparison(
        champion_bundle,
        mean=mean,
        films=films,
        pathologies={
            name: by_pathology[name] for p, name in enumerate(pathologies) if supported(truth_SP[:, p], patient_S)
        },
        subgroups=dict(by_subgroup()),
        ece=ece,
    )


def _answers(predictions: pa.Table, test: Studies, pathologies: Sequence[str]) -> Answers:
    """The challenger's, study by study as in `test`."""

    def columns(kind: str, condition: Condition) -> npt.NDArray[np.floating]:
        table = predictions.filter(pc.equal(predictions.column("condition"), condition))
        row = {study: i for i, study in enumerate(table.column("study_id").to_pylist())}
        order_S = [row[study] for study in test.rows.studies]
        return np.stack([table.column(f"{kind}/{name}").to_numpy()[order_S] for name in pathologies], axis=1)

    return Answers(columns("score", "all"), columns("score", "image"), columns("probability", "all"))


def _left_out(test: Studies) -> str:
    """In words, the patients that the champion knows."""
    known, total = test.patients_trained_on(), len(set(test.rows.patients))
    return f"without {len(known):,} of {total:,} test patients, on whom it was trained" if known else ""


def _describe_champion(storage: Storage, current: dict[str, Any], manifest: LoadedManifest) -> Description:
    champion = describe(storage)
    if champion.hash != current["bundle_hash"]:
        raise UserError(
            "deployed-bundle-changed",
            "the deployed bundle was changed after its deployment",
            where=storage.uri,
            found=champion.hash[:12],
            expected=str(current["bundle_hash"])[:12],
            remedy="Restore it, or delete deployed/current.json to start over.",
        )
    check_same_pixels(champion.info, manifest.manifest, where=manifest.storage.uri)
    return champion
