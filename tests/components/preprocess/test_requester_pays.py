"""A requester-pays bucket: every request names the project that is billed."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol
from urllib.parse import parse_qs, urlsplit

import pytest

from components.cxr.storage.storage import open_storage
from tests.components.preprocess.steps import edit_rows, rows_of, run
from tests.components.preprocess.test_mimic_iv import METADATA, write_iv


class Mimic(Protocol):
    dir: Path

    def values(self, **preprocess: Any) -> dict[str, dict[str, Any]]: ...


@pytest.mark.parametrize("project", ["billed-project", None])
def test_tables_listings_reports_and_films(
    mimic: Mimic,
    tmp_path: Path,
    gcs_bucket: str,
    gcs_requests: list[tuple[str, str | None]],
    project: str | None,
) -> None:
    edit_rows(mimic.dir / METADATA, lambda row: row | {"StudyDate": "21600101"})
    bucket = gcs_bucket.removeprefix("gs://")
    open_storage(f"{gcs_bucket}/cxr").upload_folder(mimic.dir)
    open_storage(f"{gcs_bucket}/iv").upload_folder(write_iv(tmp_path / "iv"))
    values = mimic.values()
    source = {"dir": f"{gcs_bucket}/cxr", "mimic_iv_dir": f"{gcs_bucket}/iv"}
    values["data"] |= source | ({"user_project": project} if project else {})
    assert len(rows_of(run(values, tmp_path / "root"))) == 18
    asked = [urlsplit(path) for path, _ in gcs_requests if bucket in path]
    for part in ("/o?", ".dcm", ".txt", "chexpert", "patients", "admissions"):
        assert any(part in path for path, _ in gcs_requests), part
    assert len(asked) > 30
    for url in asked:
        assert parse_qs(url.query).get("userProject") == ([project] if project else None), url.path
