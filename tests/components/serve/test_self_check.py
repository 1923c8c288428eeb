"""Every server answers synthetic studies as evaluation did, or nobody else."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from components.cxr.errors import UserError
from components.cxr.films.pixels import Film
from components.cxr.seal import SEAL, load_seal
from components.cxr.self_check import SELF_CHECK, load_self_check, probes
from components.cxr.storage.storage import open_storage
from components.serve import predictor as predicting
from components.serve.copies import make_copy
from components.serve.predictor import StudyPredictor
from components.serve.self_check import check_self
from tests.components.serve.cluster import REPOSITORY, other_versions

if TYPE_CHECKING:
    from tests.components.serve.conftest import World

FILMS = "24e642acf2b82f7d"
"""Hash of what is drawn: another picture makes every sealed answer void, and needs another SCHEMA_VERSION."""


def test_the_films_are_the_same_on_every_machine(predictor: StudyPredictor) -> None:
    drawn = hashlib.sha256()
    for probe in probes(predictor.bundle.info):
        for film in probe.films:
            drawn.update(film.tobytes())
    assert drawn.hexdigest()[:16] == FILMS


def test_a_server_answers_the_synthetic_studies_as_evaluation_did(predictor: StudyPredictor) -> None:
    assert predictor.self_check is not None
    asked = probes(predictor.bundle.info)
    answers = len(asked) * len(predictor.bundle.info.pathologies)
    assert check_self(predictor, tolerance=1e-5) == f"{answers} answers to synthetic studies are evaluation's"
    conditions = {predictor.predict([], text=probe.text).condition for probe in asked if not probe.films}
    assert (len(asked), conditions) == (4, {"text"})


@pytest.mark.parametrize("how", ["weights", "text", "films", "age"])
def test_whatever_changes_an_answer_is_seen(evaluated: World, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    served = StudyPredictor(evaluated.bundle, evaluated.evaluation)
    if how == "weights":
        with torch.no_grad():
            for weights in served.bundle.model.parameters():
                weights.mul_(1.01)
    elif how == "text":
        monkeypatch.setattr(predicting, "request_text", lambda text, **_: text and "other words")
    elif how == "films":
        read = served.reader.read
        monkeypatch.setattr(served.reader, "read", lambda data, **preset: _darker(read(data, **preset)))
    else:
        monkeypatch.setattr(predicting, "shown", lambda study, _: replace(study, age_years=None))
    with pytest.raises(UserError, match=r"does not answer as evaluation did: synthetic study [1-4] of 4, ") as caught:
        check_self(served, tolerance=1e-4)
    assert caught.value.code == "self-check-failed"


def _darker(film: Film) -> Film:
    return replace(film, pixels=film.pixels // 2)


def test_an_evaluation_without_them_is_not_deployed(world: World, tmp_path: Path) -> None:
    seal = load_seal(world.evaluation)
    files = {name: value for name, value in seal.files.items() if name != SELF_CHECK}
    world.evaluation.write(SEAL, seal.model_copy(update={"files": files}).model_dump_json().encode())
    with pytest.raises(UserError, match=f"no synthetic studies for servers .*expected {SELF_CHECK}"):
        make_copy(world.bundle, world.evaluation, open_storage(tmp_path / "copy"))
    assert not (tmp_path / "copy").exists()
    served = StudyPredictor(world.bundle, world.evaluation)
    assert served.self_check is None
    told = check_self(served, tolerance=1e-5)
    assert told.startswith("not checked by synthetic studies: the model's evaluation has no self_check.json")


def test_they_lie_beside_the_deployed_model(world: World, tmp_path: Path) -> None:
    copy = open_storage(tmp_path / "copy")
    make_copy(world.bundle, world.evaluation, copy)
    assert load_self_check(copy) == load_self_check(world.evaluation)


@pytest.mark.slow
def test_a_server_of_other_versions_answers_nobody(evaluated: World, tmp_path: Path) -> None:
    command = [sys.executable, str(other_versions(tmp_path)), "--config", os.devnull, "--set", "serve.port=0"]
    command += ["--bundle", evaluated.bundle.uri, "--evaluation", evaluated.evaluation.uri]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 2
    assert "listening" not in done.stdout
    assert done.stderr.count("\n") == 1
    assert "error: this server does not answer as evaluation did: synthetic study 1 of 4, " in done.stderr
