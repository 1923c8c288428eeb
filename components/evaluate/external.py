"""`python -m components.evaluate external`: an evaluated model on another data set, with its own operating points.

Nothing is fitted, decided, registered or tracked here: the answer is how the model, as it would be served, does on
films of another place. Shape letters: S studies, T their labels, P pathologies that are compared.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Annotated, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import typer

from components.cxr.bundle import load_bundle
from components.cxr.bundle_info import check_same_input, describe
from components.cxr.cli import ConfigOption, RootOption, SetOption, load_config, open_root
from components.cxr.config import section
from components.cxr.errors import UserError
from components.cxr.film_check import in_distribution, load_film_check
from components.cxr.labels import BLANK, NEGATIVE, NO_FINDING, POSITIVE, UNCERTAIN, derive_no_finding
from components.cxr.model.dataset import StudyDataset
from components.cxr.model.device import pick_device
from components.cxr.model.predictor import condition_of
from components.cxr.operating_points import load_operating_points, write_operating_points
from components.cxr.report import CONDITIONS, PREDICTIONS, Condition, write_predictions
from components.cxr.shards import SPLITS, LoadedManifest, load_manifest
from components.cxr.storage.pointers import read_pointer
from components.cxr.storage.storage import Storage, open_storage
from components.evaluate.config import EvaluateConfig
from components.evaluate.predict import Job, run_model
from components.evaluate.predictions import Rows, Scores
from components.evaluate.score import predictions_table
from components.evaluate.score_file import score
from components.evaluate.table import CONDITION_NAMES

__all__ = ["External", "evaluate_external", "external", "mapped_states"]

SCORES = "scores.json"


class External(NamedTuple):
    """What there is to score."""

    predictions: pa.Table
    """As report.write_predictions documents; labels of the compared pathologies alone."""
    compared: tuple[str, ...]
    """Pathologies that both sides know."""
    condition: Condition
    """By whose operating points a server would judge most of the studies."""
    left_out: int
    """Studies of patients whom the model's training saw."""
    refused: int | None
    """Of the scored ones, those with a film that a server would take for no chest film; None without a check."""


def external(
    output: Annotated[str, typer.Argument(metavar="OUT", help="Folder to write, local or gs://.", show_default=False)],
    config: ConfigOption,
    manifest: Annotated[
        str, typer.Option(metavar="URI", help="The other data set, as preprocess left it.", show_default=False)
    ],
    overrides: SetOption,
    root: RootOption = None,
    bundle: Annotated[str | None, typer.Option(metavar="URI", help="Model; default: the newest.")] = None,
    evaluation: Annotated[
        str | None, typer.Option(metavar="URI", help="Its operating points; default: the newest evaluation.")
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(
            metavar="THEIRS=OURS",
            help="A label of the data set that means a pathology of the model; several may mean the same one.",
            show_default=False,
        ),
    ] = None,
    split: Annotated[
        list[str] | None, typer.Option(help="Of the other data set; all of it by default.", show_default=False)
    ] = None,
    same_patients: Annotated[
        bool,
        typer.Option(
            "--same-patients",
            help="Equal patient ids are the same people as in the model's training, and left out as well; without it "
            "patients are known by their films alone.",
        ),
    ] = False,
) -> None:
    """Score a model on another data set: same films' size, other labels, and nothing learned from it.

    Probabilities and answers are by the thresholds and the calibration that the model brings along. Patients in its
    training are left out. The scores are of the kind of input that most studies have; `score OUT/predictions.parquet
    --condition image` shows the others.
    """
    values = load_config(config, overrides)
    step = EvaluateConfig.parse(section(values, "evaluate"), where="evaluate")
    where = open_root(values, root)
    points = open_storage(evaluation or read_pointer(where, "evaluation", made_by="evaluate"))
    data = load_manifest(open_storage(manifest))
    found = evaluate_external(
        step,
        manifest=data,
        bundle=open_storage(bundle or read_pointer(where, "bundle", made_by="train")),
        evaluation=points,
        labels=_pairs(label or ()),
        splits=split or SPLITS,
        same_patients=same_patients,
    )
    folder = open_storage(output)
    write_operating_points(folder, load_operating_points(points, bundle_hash=None))
    write_predictions(folder, found.predictions)
    if found.left_out:
        print(f"evaluate: left out {found.left_out:,} studies of patients in the model's training")
    if found.refused is not None:
        of = f"{found.refused:,} of {found.predictions.num_rows // len(CONDITIONS):,} studies"
        print(f"evaluate: {of} have a film that a server takes for no chest film; they are scored all the same")
    print(f"evaluate: by {CONDITION_NAMES[found.condition]}, which most of the studies have")
    score(
        f"{folder.uri}/{PREDICTIONS}",
        condition=found.condition,
        metric=["auroc", "ece"],
        bootstrap=step.num_bootstrap,
        json_file=f"{folder.uri}/{SCORES}",
    )
    print(f"evaluate: predictions, operating points and {SCORES} are in {output}", flush=True)


def evaluate_external(
    config: EvaluateConfig,
    *,
    manifest: LoadedManifest,
    bundle: Storage,
    evaluation: Storage,
    labels: Sequence[tuple[str, str]] = (),
    splits: Sequence[str] = SPLITS,
    same_patients: bool = False,
) -> External:
    """What the model says of another data set under every input condition, beside that one's labels.

    Args:
        evaluation: folder of the model's operating points.
        labels: (theirs, ours); a pathology without a pair is compared with the label of its own name, if there is one.
        splits: of the other data set.
        same_patients: ids of patients are of the training's people, and equal ones count as trained on as well. Two
            places may give two people one id; a film that is the same to the pixel always counts.

    Raises:
        UserError: other pixels, an evaluation of another model, an unknown split or label, nothing in common, ids under
            another key, or no study that the model's training did not see.
    """
    pick_device(config.device, where="evaluate.device")
    model, facts = load_bundle(bundle), describe(bundle)
    points = load_operating_points(evaluation, bundle_hash=model.hash)
    theirs, where = manifest.manifest, manifest.storage.uri
    check_same_input(model.info, theirs, where=where)
    ours = model.info.pathologies
    sources = _sources(ours, theirs.pathologies, labels, where=where)
    for split in splits:
        if split not in SPLITS:
            raise UserError("unknown-split", "no such split", where="--split", found=split, expected=", ".join(SPLITS))
    if same_patients and model.info.id_key_fingerprint != theirs.id_key_fingerprint:
        raise UserError(
            "other-id-key",
            "ids were hashed under another key than the training's",
            where="--same-patients",
            remedy="Run preprocess with the training's CXRFLOW_ID_KEY.",
        )
    studies = StudyDataset(manifest, splits=list(dict.fromkeys(splits)), text=model.info.text)
    keys = (None, theirs.id_key_fingerprint) if same_patients else (None,)  # None: by films alone
    seen_S = np.any(
        [
            facts.knows(studies.patient_ids, lambda: (study.films for study in studies), id_key_fingerprint=key)
            for key in keys
        ],
        axis=0,
    )
    kept = np.flatnonzero(~seen_S & studies.labeled_S).tolist()
    if not kept:
        found = (
            f"{len(studies):,} studies: {int(studies.labeled_S.sum()):,} with labels, {int(seen_S.sum()):,} trained on"
        )
        raise UserError("nothing-to-evaluate", "nothing to evaluate on", where=where, found=found)
    state_SP = mapped_states(studies.states_SP[kept], names=theirs.pathologies, sources=sources, pathologies=ours)
    patients, names = studies.patient_ids, studies.study_ids
    rows = Rows(state_SP, studies.labeled_S[kept], [patients[s] for s in kept], [names[s] for s in kept])
    shown, check = [studies[s] for s in kept], load_film_check(evaluation)
    logits = run_model(model, [Job(shown, condition) for condition in CONDITIONS], config=config)
    scores = {condition: Scores(rows.studies, *said) for condition, said in zip(CONDITIONS, logits, strict=True)}
    table = predictions_table(rows, scores, points.conditions, pathologies=ours)
    return External(
        # A finding that nobody looked for is unknown, where a blank label would count as negative.
        table.drop_columns([f"label/{name}" for name in ours if name not in sources]),
        compared=tuple(name for name in ours if name in sources),
        condition=Counter(condition_of(study) for study in shown).most_common(1)[0][0],
        left_out=int(seen_S.sum()),
        refused=None if check is None else sum(in_distribution(check, study.films) is False for study in shown),
    )


def mapped_states(
    state_ST: npt.NDArray[np.int8],
    *,
    names: Sequence[str],
    sources: Mapping[str, Sequence[str]],
    pathologies: Sequence[str],
) -> npt.NDArray[np.int8]:
    """The other data set's label states as states of the model's pathologies (S, P), BLANK where it has none.

    Of several labels that mean one pathology the most alarming counts: positive, then uncertain; negative only where
    all of them are.

    Args:
        names: of the T labels.
        sources: by pathology, the labels that mean it.

    >>> states_ST = np.array([[0, 1], [0, -1], [0, 0], [0, -2]], dtype=np.int8)
    >>> sources = {"Lung Lesion": ["Mass", "Nodule"]}
    >>> mapped_states(states_ST, names=["Mass", "Nodule"], sources=sources, pathologies=["Lung Lesion"]).T.tolist()
    [[1, -1, 0, -2]]
    """
    state_SP = np.full((len(state_ST), len(pathologies)), BLANK, dtype=np.int8)
    for p, pathology in enumerate(pathologies):
        if not (meant := sources.get(pathology)):
            continue
        of_it = state_ST[:, [list(names).index(name) for name in meant]]
        state_SP[(of_it == NEGATIVE).all(axis=1), p] = NEGATIVE
        for state in (UNCERTAIN, POSITIVE):
            state_SP[(of_it == state).any(axis=1), p] = state
    return derive_no_finding(state_SP, pathologies=pathologies) if NO_FINDING in sources else state_SP


def _sources(
    ours: Sequence[str], theirs: Sequence[str], labels: Sequence[tuple[str, str]], *, where: str
) -> dict[str, list[str]]:
    """By pathology of the model, the labels of the data set that mean it."""
    named: dict[str, list[str]] = {}
    for label, pathology in labels:
        for name, known, of in ((label, theirs, "the data set"), (pathology, ours, "the model")):
            if name not in known:
                raise UserError(
                    "unknown-label",
                    f"{of} has no such label",
                    where=f"--label {label}={pathology}",
                    found=name,
                    expected=", ".join(known),
                )
        named.setdefault(pathology, []).append(label)
    sources = {name: named.get(name) or [name] for name in ours if name in named or name in theirs}
    if not sources:
        raise UserError(
            "nothing-in-common",
            "model and data set have no label in common",
            where=where,
            found=", ".join(theirs),
            expected=f"some of {', '.join(ours)}",
            remedy="Say what means what: --label Infiltration='Lung Opacity'.",
        )
    return sources


def _pairs(labels: Sequence[str]) -> list[tuple[str, str]]:
    pairs = []
    for text in labels:
        theirs, sign, ours = text.partition("=")
        if not (theirs and sign and ours):
            raise UserError("bad-label-pair", "no pair of labels", where="--label", found=text, expected="THEIRS=OURS")
        pairs.append((theirs.strip(), ours.strip()))
    return pairs
