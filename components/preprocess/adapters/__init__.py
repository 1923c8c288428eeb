"""One file a kind of source; each turns its tables into the same neutral records."""

from __future__ import annotations

from components.cxr.ids import IdKey
from components.preprocess.adapters.csv_table import read_csv_table
from components.preprocess.adapters.mimic_cxr import read_mimic_cxr
from components.preprocess.adapters.openi import read_openi
from components.preprocess.config import CsvData, DataConfig, MimicCxrData, OpeniData
from components.preprocess.records import Source

__all__ = ["read_source"]


def read_source(config: DataConfig, *, key: IdKey) -> Source:
    """What the configured source holds.

    Raises:
        UserError: see the adapter.
    """
    match config:
        case MimicCxrData():
            return read_mimic_cxr(config, key=key)
        case CsvData():
            return read_csv_table(config, key=key)
        case OpeniData():
            return read_openi(config, key=key)
