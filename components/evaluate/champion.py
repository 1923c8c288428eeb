"""The deployed bundle, scored on the challenger's test studies."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from components.cxr.bundle import Bundle, check_same_pixels, load_bundle
from components.cxr.errors import UserError
from components.cxr.labels import truth_of
from components.cxr.model.dataset import StudyDataset
from components.cxr.shards import LoadedManifest
from components.cxr.storage.storage import Root, open_storage
from components.evaluate.bootstrap import auroc_resamples, interval, mean_resamples, weighted_auroc
from components.evaluate.config import EvaluateConfig
from components.evaluate.promotion import Comparison
from components.evaluate.scoring import Pass, Rows, run_model, study_rows

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
    bundle: Bundle,
    predictions: pa.Table,
) -> Comparison | None:
    """The challenger `bundle` against the deployed bundle; None when nothing is deployed.

    A deployed bundle that cannot be scored on this data becomes a problem to read, not an error.

    Args:
        predictions: the challenger's, as write_predictions documents.
    """
    current = deployed_now(root)
    if current is None:
        return None
    if current["bundle_hash"] == bundle.hash:
        return Comparison(bundle.hash)
    try:
        champion = _load_champion(current, manifest)
    except UserError as error:
        return Comparison(current["bundle_hash"], problem=str(error))
    studies = StudyDataset(manifest, splits=["test"], text=champion.info.text)
    passes = [Pass(studies, "all")]
    champion_SP = run_model(champion, passes, config=config, unit="studies by the deployed model")[0].score_SP
    return paired_difference(
        _scores(predictions, bundle.info.pathologies),
        champion_SP,
        study_rows(studies),
        pathologies=manifest.manifest.pathologies,
        config=config,
        champion_bundle=champion.hash,
    )


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
    truth_SP = truth_of(rows.states_NP, rows.labeled_N, protocol="A")
    columns = [list(pathologies).index(name) for name in config.headline or pathologies]
    columns = [p for p in columns if (truth_SP[:, p] == 1).any() and (truth_SP[:, p] == 0).any()]
    if not columns:
        return Comparison(champion_bundle)
    truth_SP = truth_SP[:, columns]
    settings = {"num_resamples": config.num_bootstrap, "seed": config.seed}
    challenger_RP = auroc_resamples(challenger_SP[:, columns], truth_SP, rows.patients, **settings)
    champion_RP = auroc_resamples(champion_SP[:, columns], truth_SP, rows.patients, **settings)
    difference = _mean_auroc(challenger_SP[:, columns], truth_SP) - _mean_auroc(champion_SP[:, columns], truth_SP)
    difference_R = mean_resamples(challenger_RP) - mean_resamples(champion_RP)
    return Comparison(champion_bundle, difference=difference, difference_ci=interval(difference_R))


def _scores(predictions: pa.Table, pathologies: Sequence[str]) -> npt.NDArray[np.floating]:
    """z1 - z0 (S, P) of the test studies under the condition `all`."""
    table = predictions.filter(pc.equal(predictions.column("condition"), "all"))
    return np.stack([table.column(f"score/{name}").to_numpy() for name in pathologies], axis=1)


def _load_champion(current: dict[str, Any], manifest: LoadedManifest) -> Bundle:
    storage = open_storage(current["bundle"])
    champion = load_bundle(storage)
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


def _mean_auroc(score_SP: npt.NDArray[np.floating], truth_SP: npt.NDArray[np.int8]) -> float:
    values = []
    for p in range(truth_SP.shape[1]):
        known_S = truth_SP[:, p] >= 0
        once = np.ones((int(known_S.sum()), 1), dtype=np.float32)
        values.append(weighted_auroc(score_SP[known_S, p], truth_SP[known_S, p] == 1, once)[0])
    return float(np.mean(values))
