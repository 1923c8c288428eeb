"""One file a kind of source; each turns its tables into the same neutral records."""

from __future__ import annotations

from components.cxr.ids import IdKey
from components.preprocess.adapters.csv_table import read_csv_table
from components.preprocess.adapters.dicom_folder import join_unlabeled, read_dicom_folder
from components.preprocess.adapters.mimic_cxr import read_mimic_cxr
from components.preprocess.adapters.openi import read_openi
from components.preprocess.config import CsvData, DataConfig, DicomFolderData, DicomwebData, MimicCxrData, OpeniData
from components.preprocess.records import Source

__all__ = ["read_source"]


def read_source(config: DataConfig, *, key: IdKey) -> Source:
    """What the configured source holds, with its unlabeled films.

    Raises:
        UserError: see the adapter.
    """
    match config:
        case MimicCxrData():
            source = read_mimic_cxr(config, key=key)
        case CsvData():
            source = read_csv_table(config, key=key)
        case OpeniData():
            source = read_openi(config, key=key)
        case DicomFolderData():
            return read_dicom_folder(config, key=key)
        case DicomwebData():
            from components.preprocess.adapters.dicomweb import read_dicomweb  # its client is in two images alone

            return read_dicomweb(config, key=key)
    return join_unlabeled(source, config.unlabeled, key=key) if config.unlabeled else source
