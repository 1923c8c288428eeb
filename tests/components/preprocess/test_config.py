from __future__ import annotations

import json
from typing import Any

import pytest

from components.cxr.errors import UserError
from components.preprocess.config import (
    CsvData,
    DicomFolderData,
    DicomwebData,
    MimicCxrData,
    OpeniData,
    PreprocessConfig,
    parse_data,
)


@pytest.mark.parametrize(
    "values",
    [
        {"adapter": "mimic-cxr", "dir": "x", "labels": "negbio"},
        {"adapter": "openi", "reports": "r.tgz", "image_dir": "i", "not_mentioned": 0},
        {"adapter": "openi", "reports": "r"},
        {"adapter": "csv", "table": "t.csv", "image_dir": "i", "unlabeled": [{"dir": "more"}]},
        {"adapter": "dicom-folder", "dir": "x"},
        {"adapter": "dicomweb", "server": {"url": "https://x/y"}, "query": {"study_dates": "20240101-"}, "found": "f"},
        {"adapter": "dicom-folder", "dir": "x", "split": "hash", "fractions": {"train": 1}, "pathologies": ["Edema"]},
        {
            "adapter": "csv",
            "table": "t.csv",
            "image_dir": "i",
            "columns": {"image": "a", "patient": "b", "text": {"indication": "c"}},
            "label_list": {"column": "l"},
            "pathologies": ["Edema"],
            "not_mentioned": 0,
            "fractions": {"train": 0.5, "test": 0.5},
        },
    ],
)
def test_data_survives_the_pipeline(values: dict[str, Any]) -> None:
    """A pipeline parameter is the dumped model as JSON, with floats for integers."""
    data = parse_data(values)
    assert isinstance(data, MimicCxrData | CsvData | OpeniData | DicomFolderData | DicomwebData)
    assert parse_data(json.loads(data.canonical_json())) == data
    step = PreprocessConfig()
    assert PreprocessConfig.parse({**step.model_dump(mode="json"), "images_per_shard": 1024.0}, where="p") == step


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"fractions": {"train": 0.5, "test": 0.1}}, "sum to 1"),
        ({"fractions": {"train": 1.5, "test": -0.5}}, "sum to 1"),
        ({"columns": {"text": {"indication": "a"}, "report": "b"}}, "either text or report"),
        ({"columns": {"text": {"history": "a"}}}, "data.columns.text.history"),
        ({"validate_fraction": 0}, "data.validate_fraction"),
        ({"not_mentioned": 1}, "data.not_mentioned"),
        ({"adapter": "cvs"}, "data.adapter; found cvs, expected mimic-cxr, csv, openi, dicom-folder or dicomweb"),
        ({"adapter": None}, "missing configuration field: data.adapter"),
    ],
)
def test_bad_data_sections(change: dict[str, Any], match: str) -> None:
    with pytest.raises(UserError, match=match):
        parse_data({"adapter": "csv", "table": "t", "image_dir": "i"} | change)
