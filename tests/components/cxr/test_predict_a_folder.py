"""The lines of docs/data.md that score a folder of films with a trained model."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable
from pathlib import Path

import numpy as np

from components.cxr.bundle import OperatingPoint, OperatingPoints, write_operating_points
from components.cxr.ids import hash_id
from components.cxr.pointers import write_pointer
from components.cxr.report import CONDITIONS
from components.cxr.storage import Root, Storage, open_storage
from components.preprocess.collect import collect
from components.preprocess.config import PreprocessConfig, parse_data
from components.preprocess.preprocess import run_partition
from tests.components.conftest import NAMES, SIZE


def test_the_documented_lines(untrained_bundle: Storage, tmp_path: Path, dicom_bytes: Callable[..., bytes]) -> None:
    page = (Path(__file__).parents[3] / "docs" / "data.md").read_text()
    (block,) = [text for text in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "load_bundle" in text]
    rng = np.random.default_rng(0)
    (tmp_path / "films").mkdir()
    for i in range(3):
        stored = rng.integers(0, 4096, (40, 40)).astype(np.uint16)
        film = dicom_bytes(stored, bits_stored=12, StudyInstanceUID=f"1.2.{i // 2}", SOPInstanceUID=f"1.3.{i}")
        (tmp_path / "films" / f"{i}").write_bytes(film)
    archive, hospital = Root(tmp_path / "archive"), Root(tmp_path / "hospital")
    data = parse_data({"adapter": "dicom-folder", "dir": str(tmp_path / "films"), "pathologies": list(NAMES)})
    step = PreprocessConfig.parse({"pixels": {"size": SIZE}, "num_workers": 0}, where="preprocess")
    run_partition(data, step, root=archive, partition=0, num_partitions=1)
    collect(data, step, root=archive)
    untrained_bundle.download_folder(tmp_path / "bundle")
    bundle = open_storage(tmp_path / "bundle")
    points = {name: OperatingPoint(threshold=0.5) for name in NAMES}
    write_operating_points(bundle, OperatingPoints(conditions=dict.fromkeys(CONDITIONS, points)))
    write_pointer(hospital, "bundle", bundle.uri)
    code = textwrap.dedent(block).replace("runs/archive", archive.uri).replace("runs/hospital", hospital.uri)
    names: dict[str, object] = {}
    exec(compile(code, "docs/data.md", "exec"), names)
    answers = names["answers"]
    assert isinstance(answers, dict)
    assert set(answers) == {hash_id("study", "1.2.0"), hash_id("study", "1.2.1")}
    assert all(set(found) == set(NAMES) for found in answers.values())
    assert all(0 <= said.probability <= 1 for found in answers.values() for said in found.values())
