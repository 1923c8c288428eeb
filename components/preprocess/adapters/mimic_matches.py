"""Whether MIMIC-CXR's tables and report files name the same studies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from components.cxr.storage.joins import check_join
from components.preprocess.records import SourceStudy

__all__ = ["MimicMetadata", "study_folder", "unmatched"]


class MimicMetadata(NamedTuple):
    """What the metadata table says."""

    views: Mapping[str, str | None]
    """By image."""
    dates: Mapping[str, str]
    """YYYYMMDD (0008,0020), shifted like every date of MIMIC, by study; empty unless ages are to be computed."""
    where: str
    """The table; empty without one."""


def study_folder(patient: str, study: str) -> str:
    """Where PhysioNet keeps a study.

    >>> study_folder("10000032", "50414267")
    'files/p10/p10000032/s50414267'
    """
    return f"files/p{patient[:2]}/p{patient}/s{study}"


def unmatched(
    studies: Sequence[SourceStudy],
    images: Sequence[str],
    labels: Mapping[str, object],
    metadata: MimicMetadata,
    sizes: Mapping[str, int],
    *,
    labels_at: str,
    films_at: str,
) -> list[str]:
    """A line for each table or folder that fits under half of the studies.

    Raises:
        UserError: one that fits none.
    """
    ids = [study.study_id for study in studies]
    found = [check_join(
        ids, sum(study.labeled for study in studies), labels, what="studies of the label table", where=labels_at,
        remedy="Is it the table of these films?",
    )]  # fmt: skip
    if metadata.where:
        found.append(check_join(
            images, sum(image in metadata.views for image in images), metadata.views, what="films of the metadata",
            where=metadata.where, remedy="Is it the table of these films?",
        ))  # fmt: skip
    reports = [path for path in sizes if "/" in path and path.lower().endswith(".txt")]
    if reports:
        expected = [f"{study_folder(study.patient_id, study.study_id)}.txt" for study in studies]
        found.append(check_join(
            expected, sum(study.report is not None for study in studies), reports, what="reports", where=films_at,
            remedy="Unpack mimic-cxr-reports.zip in data.dir.",
        ))  # fmt: skip
    else:
        found.append(f"no report is there: {films_at}; expected files like files/p99/p99999999/s99999999.txt")
    return [line for line in found if line is not None]
