"""Where a configuration's data lie, for doctor, which looks whether they are there, and Docker, which mounts them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.cxr.storage.archive import archive_in

__all__ = ["data_places", "found_at"]

FIELDS = ("dir", "tables_dir", "mimic_iv_dir", "table", "image_dir", "label_table", "reports")
QUERY_FIELDS = ("accession_numbers", "study_uids")


def data_places(data: Mapping[str, Any]) -> dict[str, str]:
    """Files and folders, local or gs://, that the data are read from, by the field of section `data` that names them.

    >>> data_places({"adapter": "csv", "table": "t.csv", "split_lists": {"test": "test.txt"}})
    {'table': 't.csv', 'split_lists.test': 'test.txt'}
    """
    places = {name: data[name] for name in FIELDS if data.get(name)}
    places |= {f"query.{name}": data["query"][name] for name in QUERY_FIELDS if data.get("query", {}).get(name)}
    places |= {f"split_lists.{split}": file for split, file in data.get("split_lists", {}).items()}
    return places | {f"unlabeled.{i}.dir": more["dir"] for i, more in enumerate(data.get("unlabeled", ()))}


def found_at(place: str) -> Path | None:
    """What is at a local place: a file or folder, the archive where the place lies in one; None where nothing is."""
    archive = archive_in(place)
    path = (Path(archive.folder, archive.name) if archive else Path(place)).expanduser()
    return path if path.exists() else None
