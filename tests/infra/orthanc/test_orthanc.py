"""The Orthanc of `infra/orthanc/ci.sh` holds what it was sent, and answers nobody without the password."""

from __future__ import annotations

from pathlib import Path

import pytest
import requests

from pipeline.synthetic import Settings, generate
from tests.pacs import Orthanc, orthanc

__all__ = ["orthanc"]

pytestmark = pytest.mark.orthanc


def test_a_search_finds_the_synthetic_studies(orthanc: Orthanc, tmp_path: Path) -> None:
    generate(tmp_path, num_studies=3, settings=Settings(), size=64)
    num_films = orthanc.fill(tmp_path)
    found = orthanc.request("GET", "/dicom-web/instances")
    assert len({each["0020000D"]["Value"][0] for each in found}) == 3
    assert len(found) == num_films
    assert requests.get(f"{orthanc.dicomweb}/studies", auth=(orthanc.user, "wrong"), timeout=10).status_code == 401
