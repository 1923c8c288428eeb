"""The deployed bundle, scored on the challenger's test studies."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from components.cxr.auroc import mean_auroc
from components.cxr.bundle_info import Description, check_same_pixels, describe
from components.cxr.errors import UserError
from components.cxr.labels import truth_of
from components.cxr.shards import LoadedManifest
from components.cxr.storage.storage import Root, Storage, open_storage
from components.evaluate.bootstrap import auroc_resamples, interval, mean_resamples
from components.evaluate.config import EvaluateConfig
from components.evaluate.predictions import Pass, Rows, Studies, predictions_key
from components.evaluate.promotion import Comparison

__all__ = ["compare", "deployed_now", "paired_difference"]

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
    from components.evaluate.predict import predict  # brings torch, which only a deployed model needs here

    current = deployed_now(root)
    if current is None:
        return None
    if current["bundle_hash"] == model.hash:
        return Comparison(model.hash, other_points=current.get("operating_points_hash") != operating_points)
    storage = open_storage(current["bundle"])
    try:
        champion = _describe_champion(storage, current, manifest)
    except UserError as error:
        return Comparison(current["bundle_hash"], problem=str(error))
    job = Pass("test", "all")
    found = predict(
        config,
        storage=root.predictions(predictions_key(champion.hash, manifest.hash)),
        bundle=storage,
        model=champion,
        manifest=manifest,
        passes=[job],
        unit="studies by the deployed model",
    )
    fair_S = ~found.test.trained_on_S
    if not fair_S.any():
        problem = "it was trained or selected on every test patient; compare them on other data."
        return Comparison(champion.hash, problem=problem)
    compared = paired_difference(
        _scores(predictions, found.test, model.info.pathologies)[fair_S],
        found.scores[job].score_NP[fair_S],
        found.test.rows.select(fair_S),
        pathologies=model.info.pathologies,
        config=config,
        champion_bundle=champion.hash,
    )
    return compared._replace(left_out=_left_out(found.test))


def paired_difference(
    challenger_SP: npt.NDArray[np.floating],
    champion_SP: npt.NDArray[np.floating],
    rows: Rows,
    *,
    pathologies: Sequence[str],
    config: EvaluateConfig,
    champion_bundle: str,
) -> Comparison:
    """Mean AUROC of challenger minus champion (protocol A, by study) under the same resamples of the patients."""
    columns = [list(pathologies).index(name) for name in config.headline or pathologies]
    truth_SP = truth_of(rows.states_NP, rows.labeled_N, protocol="A", pathologies=pathologies)[:, columns]
    defined_P = (truth_SP == 1).any(axis=0) & (truth_SP == 0).any(axis=0)
    columns, truth_SP = np.array(columns)[defined_P].tolist(), truth_SP[:, defined_P]
    challenger_SP, champion_SP = challenger_SP[:, columns], champion_SP[:, columns]
    challenger, champion = mean_auroc(challenger_SP, truth_SP), mean_auroc(champion_SP, truth_SP)
    if challenger is None or champion is None:
        return Comparison(champion_bundle)
    settings = {"num_resamples": config.num_bootstrap, "seed": config.seed}
    challenger_RP = auroc_resamples(challenger_SP, truth_SP, rows.patients, **settings)
    champion_RP = auroc_resamples(champion_SP, truth_SP, rows.patients, **settings)
    difference_R = mean_resamples(challenger_RP) - mean_resamples(champion_RP)
    return Comparison(champion_bundle, difference=challenger - champion, difference_ci=interval(difference_R))


def _scores(predictions: pa.Table, test: Studies, pathologies: Sequence[str]) -> npt.NDArray[np.floating]:
    """The challenger's z1 - z0 (S, P) under the condition `all`, study by study as in `test`."""
    table = predictions.filter(pc.equal(predictions.column("condition"), "all"))
    row = {study: i for i, study in enumerate(table.column("study_id").to_pylist())}
    order_S = [row[study] for study in test.rows.studies]
    return np.stack([table.column(f"score/{name}").to_numpy()[order_S] for name in pathologies], axis=1)


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
