"""What the header tells, silence, threads, and the preset's hash."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
import warnings

import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from components.cxr.films.pixel_preset import PixelPreset
from components.cxr.films.pixels import read_film, view_of
from tests.components.cxr.films.pixel_films import (
    DISPLAY,
    MIMIC_JPG,
    SIZE,
    DicomWriter,
    film_values,
)


@pytest.mark.parametrize(
    ("age", "years"),
    [
        ("063Y", 63.0),
        ("006M", 0.5),
        ("052W", 52 * 7 / 365.25),
        ("003D", 3 / 365.25),
        ("63", 63.0),
        ("131Y", None),
        ("", None),
        ("old", None),
    ],
)
def test_age(dicom_bytes: DicomWriter, age: str, years: float | None) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = dicom_bytes(film_values(0, 255), PatientAge=age)
    assert read_film(data, preset=DISPLAY).age_years == (None if years is None else pytest.approx(years))


@pytest.mark.parametrize(("sex", "kept"), [("F", "F"), ("M", "M"), ("O", None), ("", None)])
def test_sex(dicom_bytes: DicomWriter, sex: str, kept: str | None) -> None:
    assert read_film(dicom_bytes(film_values(0, 255), PatientSex=sex), preset=DISPLAY).sex == kept


def test_view_position_or_view_code(dicom_bytes: DicomWriter) -> None:
    code = Dataset()
    code.CodeMeaning = "postero-anterior"
    only_code = dicom_bytes(film_values(0, 255), ViewCodeSequence=Sequence([code]))
    both = dicom_bytes(film_values(0, 255), ViewCodeSequence=Sequence([code]), ViewPosition="AP")
    assert read_film(only_code, preset=DISPLAY).view_position == "PA"
    assert read_film(both, preset=DISPLAY).view_position == "AP"
    assert read_film(dicom_bytes(film_values(0, 255)), preset=DISPLAY).view_position is None
    assert view_of(" ll ") == "LL"
    assert view_of("", "left lateral") == "LL"
    assert view_of(None, "Erect") is None


def test_no_warning_and_no_log_quotes_the_file(dicom_bytes: DicomWriter, caplog: pytest.LogCaptureFixture) -> None:
    data = dicom_bytes(film_values(0, 255)).replace(b"19999999", b"19999!\x01\x9f")
    data = data.replace(b"DX", b"d\xff", 1)
    with warnings.catch_warnings(record=True) as caught, caplog.at_level(logging.DEBUG):
        warnings.simplefilter("always")
        read_film(data, preset=DISPLAY)
    assert not caught
    assert not [record for record in caplog.records if "pydicom" in record.name]


def test_warning_filters_survive_many_threads(dicom_bytes: DicomWriter) -> None:
    data = dicom_bytes(film_values(0, 255))
    before = list(warnings.filters)
    errors: list[BaseException] = []

    def read() -> None:
        try:
            for _ in range(10):
                read_film(data, preset=DISPLAY)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=read) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert list(warnings.filters) == before


def test_never_imports_torch() -> None:
    modules = (
        "components.cxr.films.pixels, components.cxr.text.text, components.cxr.shards, components.preprocess.collect"
    )
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_preset_hash_changes_with_every_field_and_with_the_version(monkeypatch: pytest.MonkeyPatch) -> None:
    others = {"name": "mimic-jpg", "size": 64}
    presets = [
        PixelPreset(size=SIZE).model_copy(update={name: others.get(name, True)}) for name in PixelPreset.model_fields
    ]
    assert len({DISPLAY.hash, *(preset.hash for preset in presets)}) == 1 + len(presets)
    assert MIMIC_JPG.hash != DISPLAY.hash
    before = DISPLAY.hash
    assert PixelPreset(size=SIZE).hash == before
    monkeypatch.setattr("components.cxr.films.pixel_preset.PIXELS_VERSION", 10**6)
    assert DISPLAY.hash != before
