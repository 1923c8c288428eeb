"""Lookup tables that are empty, short, packed or written in another byte order; palettes."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian

from benchmarks.film_files import transcode
from components.cxr.films.pixels import read_film
from tests.components.cxr.films.pixel_films import (
    DISPLAY,
    MIMIC_JPG,
    DicomWriter,
    assert_close,
    code_of,
    film_values,
    lut,
)

WINDOW = {"WindowCenter": 2048, "WindowWidth": 4096}
ENTRIES = [int(v) for v in 1000 * np.sqrt(np.linspace(0, 1, 4096))]


def unusable_items() -> dict[str, Sequence]:
    """Sequences of one item that is no table."""
    items = {name: Dataset() for name in ("nothing", "both empty", "no data", "no descriptor", "short", "explained")}
    items["both empty"].add_new("LUTDescriptor", "US", None)
    items["both empty"].add_new("LUTData", "US", None)
    items["no data"].add_new("LUTDescriptor", "US", [4096, 0, 16])
    items["no data"].add_new("LUTData", "OW", b"")
    items["no descriptor"].add_new("LUTData", "US", ENTRIES)
    items["short"].add_new("LUTDescriptor", "US", 4096)
    items["short"].add_new("LUTData", "US", ENTRIES)
    items["explained"].LUTExplanation = ""
    return {name: Sequence([item]) for name, item in items.items()} | {"no item": Sequence([])}


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.1", ImplicitVRLittleEndian, ExplicitVRBigEndian])
@pytest.mark.parametrize("keyword", ["VOILUTSequence", "ModalityLUTSequence"])
@pytest.mark.parametrize("name", list(unusable_items()))
def test_a_table_without_data_is_ignored(dicom_bytes: DicomWriter, name: str, keyword: str, syntax: str) -> None:
    values = film_values(0, 4095)
    expected = read_film(dicom_bytes(values, bits_stored=12, **WINDOW), preset=DISPLAY).pixels
    data = transcode(dicom_bytes(values, bits_stored=12, **WINDOW, **{keyword: unusable_items()[name]}), syntax)
    assert np.array_equal(read_film(data, preset=DISPLAY).pixels, expected)


def test_the_first_table_with_data_counts(dicom_bytes: DicomWriter) -> None:
    values, usable = film_values(0, 4095), lut([4096, 0, 16], ENTRIES)
    flat = lut([4096, 0, 16], [7] * 4096)
    expected = read_film(dicom_bytes(values, bits_stored=12, VOILUTSequence=usable), preset=DISPLAY).pixels
    for others in [*unusable_items().values(), flat]:
        both = Sequence([*others, *usable, *lut([2, 0, 16], [0, 9])])
        data = dicom_bytes(values, bits_stored=12, VOILUTSequence=both)
        assert np.array_equal(read_film(data, preset=DISPLAY).pixels, expected)


def test_an_empty_modality_lut_leaves_rescale_and_8_bit_output_alone(dicom_bytes: DicomWriter) -> None:
    empty = unusable_items()["both empty"]
    values = film_values(10, 200, np.uint8)
    assert np.array_equal(read_film(dicom_bytes(values, ModalityLUTSequence=empty), preset=DISPLAY).pixels, values)
    tags: dict[str, Any] = {"RescaleSlope": 2, "RescaleIntercept": -100, "WindowCenter": 1000, "WindowWidth": 900}
    deep = film_values(0, 1000)
    expected = read_film(dicom_bytes(deep, **tags), preset=DISPLAY).pixels
    found = read_film(dicom_bytes(deep, **tags, ModalityLUTSequence=empty), preset=DISPLAY).pixels
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.1", ImplicitVRLittleEndian, ExplicitVRBigEndian])
@pytest.mark.parametrize(
    "form", ["words", "data as OW", "8 bits in bytes", "8 bits in words", "two in a word", "16 of 8"]
)
def test_every_form_of_the_entries(dicom_bytes: DicomWriter, form: str, syntax: str) -> None:
    entries = [int(v) for v in 255 * np.linspace(0, 1, 255) ** 2]  # an odd number
    octets, order = bytes([*entries, 0]), ">u2" if syntax == ExplicitVRBigEndian else "<u2"
    packed = np.frombuffer(octets, "<u2")
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [255, 0, 16 if form in ("words", "data as OW", "16 of 8") else 8])
    if form in ("words", "8 bits in words"):
        item.add_new("LUTData", "US", entries)
    elif form == "two in a word":
        item.add_new("LUTData", "US", packed.tolist())
    elif form == "data as OW":
        item.add_new("LUTData", "OW", np.array(entries, order).tobytes())
    else:
        item.add_new("LUTData", "OW", packed.astype(order).tobytes())
    values = film_values(0, 254)
    data = transcode(dicom_bytes(values, VOILUTSequence=Sequence([item])), syntax)
    assert_close(read_film(data, preset=DISPLAY).pixels, np.array(entries, np.float64)[values])


def test_a_table_with_fewer_entries_than_it_says(dicom_bytes: DicomWriter) -> None:
    """Values behind the last entry have it; 3000 words are not 6000 bytes."""
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [4096, 0, 16])
    item.add_new("LUTData", "OW", np.array(ENTRIES[:3000], "<u2").tobytes())
    values = film_values(0, 4095)
    found = read_film(dicom_bytes(values, bits_stored=12, VOILUTSequence=Sequence([item])), preset=DISPLAY).pixels
    assert_close(found, 255 * np.array(ENTRIES)[np.minimum(values, 2999)] / ENTRIES[2999])


@pytest.mark.parametrize("keyword", ["VOILUTSequence", "ModalityLUTSequence"])
@pytest.mark.parametrize("count", [0, 65536])
def test_no_entries_are_65536(dicom_bytes: DicomWriter, keyword: str, count: int) -> None:
    entries = (np.arange(1 << 16) ** 2 // (1 << 16)).astype(np.float64)
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [count & 0xFFFF, 0, 16])
    item.add_new("LUTData", "OW", entries.astype("<u2").tobytes())
    values = film_values(0, 65535)
    data = dicom_bytes(values, **{keyword: Sequence([item])})
    assert_close(read_film(data, preset=DISPLAY).pixels, 255 * entries[values] / entries[-1])


@pytest.mark.parametrize("interpretation", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize(
    ("tags", "dtype", "low", "signed"),
    [
        ({}, np.uint16, 0, False),
        ({"RescaleIntercept": -1024, "RescaleSlope": 1}, np.uint16, 0, True),
        ({"RescaleIntercept": -1024, "RescaleSlope": 1}, np.uint16, 2000, True),  # no value of this film is negative
        ({"RescaleIntercept": 40000, "RescaleSlope": -1}, np.uint16, 0, True),
        ({"RescaleIntercept": 65535, "RescaleSlope": -1}, np.uint16, 0, False),
        ({}, np.int16, 0, True),  # nor of this one
        ({"RescaleIntercept": 32768, "RescaleSlope": 1}, np.int16, -30000, False),
    ],
)
def test_the_first_value_is_signed_as_the_rescaled_range_is(
    dicom_bytes: DicomWriter, tags: dict[str, Any], dtype: Any, low: int, signed: bool, interpretation: str
) -> None:
    """Not as this film's values are."""
    values = film_values(low, 32767, dtype)
    entries, first = np.arange(0, 30000, 1), 40000
    data = dicom_bytes(
        values,
        PhotometricInterpretation=interpretation,
        VOILUTSequence=lut([30000, first, 16], entries.tolist()),
        **tags,
    )
    rescaled = values.astype(np.float64) * tags.get("RescaleSlope", 1) + tags.get("RescaleIntercept", 0)
    bright = np.clip(rescaled - (first - 65536 if signed else first), 0, 29999) / 29999
    if np.ptp(bright) == 0:
        assert code_of(data) == "flat"
        return
    assert_close(
        read_film(data, preset=DISPLAY).pixels, 255 * (1 - bright if interpretation == "MONOCHROME1" else bright)
    )


def test_behind_a_modality_lut_the_range_is_that_of_its_entries(dicom_bytes: DicomWriter) -> None:
    values = film_values(-2000, 2000, np.int16)
    modality = np.linspace(30000, 65000, 4001).astype(int)
    tags = {
        "ModalityLUTSequence": lut([4001, 65536 - 2000, 16], modality.tolist()),
        "VOILUTSequence": lut([20000, 40000, 16], list(range(20000))),
    }
    bright = np.clip(modality[values + 2000] - 40000, 0, 19999) / 19999
    assert_close(read_film(dicom_bytes(values, **tags), preset=DISPLAY).pixels, 255 * bright)


def test_a_first_value_beyond_the_range_is_negative(dicom_bytes: DicomWriter) -> None:
    """Written as -500 with SS, or with US, for a film of 12 unsigned bits."""
    values, entries = film_values(0, 4095), list(range(4596))
    expected = 255 * (values + 500.0) / 4595
    for kind, first in (("US", 65036), ("SS", -500)):
        tables = lut([4596, 0, 16], entries)
        tables[0].add_new("LUTDescriptor", kind, [4596, first, 16])
        data = dicom_bytes(values, bits_stored=12, VOILUTSequence=tables)
        assert_close(read_film(data, preset=DISPLAY).pixels, expected)


COLORS = ("Red", "Green", "Blue")
WEIGHTS = np.array([0.299, 0.587, 0.114])


def palette_film(
    write: DicomWriter, values: npt.NDArray[Any], tables: list[bytes], *, descriptor: list[int], segmented: bool = False
) -> bytes:
    tags: dict[str, Any] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for name, table in zip(COLORS, tables, strict=True):
        tags[f"{name}PaletteColorLookupTableDescriptor"] = descriptor
        tags[f"{'Segmented' if segmented else ''}{name}PaletteColorLookupTableData"] = table
    return write(values, **tags)


def big(data: bytes) -> bytes:
    """The film in big endian, its palette's words with it."""
    dataset = pydicom.dcmread(io.BytesIO(data))
    for element in dataset:
        if element.keyword.endswith("PaletteColorLookupTableData"):
            element.value = np.frombuffer(element.value, "<u2").astype(">u2").tobytes()
    buffer = io.BytesIO()
    dataset.save_as(buffer)
    return transcode(buffer.getvalue(), ExplicitVRBigEndian)


@pytest.mark.parametrize("form", ["16 bits", "8 bits in bytes", "8 bits in words", "8 bits under 16", "8 bits above 8"])
@pytest.mark.parametrize("count", [256, 255])
def test_palettes_in_every_form_and_both_byte_orders(dicom_bytes: DicomWriter, form: str, count: int) -> None:
    rng = np.random.default_rng(4)
    eight = rng.integers(0, 256, (3, count))
    eight[:, 0], eight[:, 1] = 0, 255
    words = {"16 bits": eight * 257, "8 bits above 8": eight * 256}.get(form, eight)
    if form == "8 bits in bytes":
        tables = [bytes(color.astype(np.uint8)) + bytes(count % 2) for color in words]
    else:
        tables = [color.astype("<u2").tobytes() for color in words]
    bits = 16 if form in ("16 bits", "8 bits under 16") else 8
    values = film_values(0, count - 1, np.uint8)
    data = palette_film(dicom_bytes, values, tables, descriptor=[count, 0, bits])
    expected = np.tensordot(WEIGHTS, eight[:, values], 1) * (255 * 256 / 65535 if form == "8 bits above 8" else 1)
    assert_close(read_film(data, preset=DISPLAY).pixels, expected)
    assert np.array_equal(read_film(big(data), preset=DISPLAY).pixels, read_film(data, preset=DISPLAY).pixels)


@pytest.mark.parametrize("bits", [8, 16])
def test_segmented_palettes(dicom_bytes: DicomWriter, bits: int) -> None:
    """A discrete segment of two entries and a linear one up to the greatest (PS3.3 C.7.9.2)."""
    most = (1 << bits) - 1
    segments = np.array([0, 2, 0, 4, 1, 254, most], "u1" if bits == 8 else "<u2").tobytes()
    segments += bytes(len(segments) % 2)
    values = film_values(0, 255, np.uint8)
    data = palette_film(dicom_bytes, values, [segments] * 3, descriptor=[256, 0, bits], segmented=True)
    expected = np.concatenate([[0, 4], np.linspace(4, most, 255)[1:]])[values] * 255 / most
    assert_close(read_film(data, preset=DISPLAY).pixels, expected)
    assert np.array_equal(read_film(big(data), preset=DISPLAY).pixels, read_film(data, preset=DISPLAY).pixels)


def test_a_palette_that_starts_later_and_one_of_65536_entries(dicom_bytes: DicomWriter) -> None:
    ramp = np.linspace(0, 65535, 100).astype("<u2")
    values = film_values(0, 255, np.uint8)
    data = palette_film(dicom_bytes, values, [ramp.tobytes()] * 3, descriptor=[100, 50, 16])
    expected = ramp[np.clip(values.astype(int) - 50, 0, 99)] / 257.0
    assert_close(read_film(data, preset=DISPLAY).pixels, expected)
    whole = np.arange(65535, -1, -1).astype("<u2")
    deep = film_values(0, 65535)
    data = palette_film(dicom_bytes, deep, [whole.tobytes()] * 3, descriptor=[0, 0, 16])
    assert_close(read_film(data, preset=DISPLAY).pixels, whole[deep] / 257.0)


@pytest.mark.parametrize(("dtype", "descriptor"), [(np.uint8, [256, 0, 16]), (np.int16, [256, 0, 16])])
def test_the_preset_mimic_jpg_sees_a_palettes_colors(
    dicom_bytes: DicomWriter, dtype: Any, descriptor: list[int]
) -> None:
    shuffled = np.random.default_rng(3).permutation(256)
    values = film_values(0, 255, dtype)
    palette = [(shuffled * 257).astype("<u2").tobytes()] * 3
    data = palette_film(dicom_bytes, values, palette, descriptor=descriptor)
    gray = dicom_bytes(shuffled[values].astype(np.uint8), PhotometricInterpretation="MONOCHROME2")
    assert np.array_equal(read_film(data, preset=MIMIC_JPG).pixels, read_film(gray, preset=MIMIC_JPG).pixels)


def test_a_palette_without_data_is_refused(dicom_bytes: DicomWriter) -> None:
    values = film_values(0, 255, np.uint8)
    assert code_of(dicom_bytes(values, PhotometricInterpretation="PALETTE COLOR")) == "photometric"
    assert code_of(palette_film(dicom_bytes, values, [b""] * 3, descriptor=[256, 0, 8])) == "photometric"
    ramp = bytes(range(256))
    assert code_of(palette_film(dicom_bytes, values, [ramp, ramp, b""], descriptor=[256, 0, 8])) == "photometric"
    broken = palette_film(dicom_bytes, values, [b"\x09\x09"] * 3, descriptor=[256, 0, 8], segmented=True)
    assert code_of(broken) == "photometric"
