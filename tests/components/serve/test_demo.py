"""Of the demo's deployed model a real server gives evaluation's answer to every test study."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import yaml

from components.cxr.films.pixels import encode_png
from components.cxr.ids import IdKey, hash_id
from components.cxr.model.batch import Study
from components.cxr.model.dataset import StudyDataset
from components.cxr.model.predictor import condition_of, shown
from components.cxr.report import load_predictions
from components.cxr.shards import load_manifest, read_shard
from components.cxr.storage.storage import Root
from components.cxr.text.text import TextConfig
from components.serve.config import ServeConfig
from components.serve.deployment import Deployment, read_deployment
from components.serve.golden import running_server
from tests.components.serve.asking import PROTOCOLS, ask, fields_of, rendered, web

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[3]
CONDITIONS = ("all", "image", "image+meta", "text")
CONNECTIONS = 6


class Demo(NamedTuple):
    root: Root
    deployed: Deployment
    address: str
    studies: StudyDataset
    originals: dict[str, list[Path]]
    """By study the DICOMs that preprocess read, in the shards' order."""


@pytest.fixture(scope="module")
def demo() -> Iterator[Demo]:
    """The demo's model behind a real server, and the test studies that evaluation read."""
    root, source = Root(REPOSITORY / "runs/demo"), REPOSITORY / "runs/synthetic"
    deployed = read_deployment(root).deployment
    if deployed is None or not source.exists():
        pytest.skip("no runs/demo or runs/synthetic: make demo")
    manifest = load_manifest(root.at(deployed.data))
    studies = StudyDataset(manifest, splits=["test"], text=TextConfig())
    paths = {hash_id("image", path.stem, IdKey(None)): path for path in source.rglob("*.dcm")}
    originals: dict[str, list[Path]] = {study_id: [] for study_id in studies.study_ids}
    for shard in manifest.manifest.shards:
        for row in read_shard(manifest.storage, shard, columns=["study_id", "image_id"]).to_pylist():
            if row["study_id"] in originals:
                originals[row["study_id"]].append(paths[row["image_id"]])
    values = yaml.safe_load((REPOSITORY / "pipeline/configs/demo.yaml").read_text())
    config = ServeConfig.parse(values["serve"], where="serve")
    with running_server(config, root.at(deployed.bundle), seal=deployed.seal) as server:
        yield Demo(root, deployed, server.address, studies, originals)


def test_every_test_study_gets_evaluations_answer(demo: Demo) -> None:
    """In each input condition and through each protocol; by its DICOMs where those tell no more than the condition."""
    evaluation = demo.root.at(demo.deployed.evaluation)
    rows = {(row["study_id"], row["condition"]): row for row in load_predictions(evaluation).to_pylist()}

    def largest_difference(asked: tuple[str, Study, str, str]) -> float:
        study_id, study, condition, protocol = asked
        if condition in ("all", "image+meta"):
            films = [path.read_bytes() for path in demo.originals[study_id]]
        else:
            films = [encode_png(film) for film in study.films]
        reply = ask(demo.address, protocol, films=films, fields=fields_of(study))
        assert reply["condition"] == condition_of(study)
        row = rows[study_id, reply["condition"]]
        return max(
            abs(answer[kind] - row[f"{kind}/{name}"])
            for name, answer in reply["answers"].items()
            for kind in ("probability", "uncertain")
        )

    wanted = [
        (study_id, seen, condition, protocol)
        for study_id, study in zip(demo.studies.study_ids, demo.studies, strict=True)
        for condition in CONDITIONS
        if (seen := shown(study, condition)).films or seen.text
        for protocol in PROTOCOLS
    ]
    differences = _at_once(largest_difference, wanted)
    counts = Counter((condition, protocol) for _, _, condition, protocol in wanted)
    assert len(demo.studies) > 200
    for protocol in PROTOCOLS:
        assert [counts[condition, protocol] for condition in CONDITIONS[:3]] == 3 * [len(demo.studies)]
        assert counts["text", protocol] > 200
    assert max(differences) < 1e-5


def test_every_test_films_pixels_are_the_shards(demo: Demo) -> None:
    """By its DICOM; /v2 shows no pixels, and reads films by the same code."""
    films = [
        pair
        for study_id, study in zip(demo.studies.study_ids, demo.studies, strict=True)
        for pair in zip(demo.originals[study_id], study.films, strict=True)
    ]
    assert len(films) > 400

    def compare(asked: tuple[tuple[Path, Any], str]) -> None:
        (path, pixels), protocol = asked
        np.testing.assert_array_equal(rendered(demo.address, path.read_bytes(), protocol), pixels)

    _at_once(compare, list(itertools.product(films, ("form", "json"))))


def _at_once(job: Any, arguments: list[Any]) -> list[Any]:
    web()  # the one client, before several threads make one each
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        return list(pool.map(job, arguments))
