"""A study of which there are films alone, with neither labels nor a report."""

from __future__ import annotations

from components.cxr.ids import IdKey
from components.preprocess.config import DicomFolderData, DicomwebData
from components.preprocess.records import FilmRef, SourceStudy
from components.preprocess.splits import split_by_hash

__all__ = ["unlabeled_study"]


def unlabeled_study(
    study_id: str, patient_id: str, films: tuple[FilmRef, ...], *, config: DicomFolderData | DicomwebData, key: IdKey
) -> SourceStudy:
    """All its labels are blank; age and sex come from a film's header when that is read.

    Args:
        patient_id: empty where there is none: the study is a patient of its own.
    """
    patient = patient_id or study_id
    by_hash = config.split == "hash"
    return SourceStudy(
        study_id=study_id,
        patient_id=patient,
        split=split_by_hash(patient, fractions=config.fractions, key=key) if by_hash else config.split,
        films=films,
        labels=(None,) * len(config.pathologies),
        labeled=False,
        text={},
        report=None,
        age_years=None,
        sex=None,
    )
