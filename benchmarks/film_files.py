"""A made-up radiograph, as a DICOM file of any transfer syntax; for the benchmark and the tests of codecs."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path
from typing import Any

import gdcm
import imagecodecs
import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    HTJ2K,
    UID,
    DeflatedExplicitVRLittleEndian,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    generate_uid,
)

__all__ = ["make_film", "transcode"]


def make_film(rows: int, columns: int, *, bits: int = 12, seed: int = 7) -> bytes:
    """An uncompressed DX file, MONOCHROME1 with a window: smooth shapes of a chest under detector noise."""
    rng = np.random.default_rng(seed)
    y, x = np.linspace(-1, 1, rows)[:, None], np.linspace(-1, 1, columns)[None]
    lungs = np.exp(-(((np.abs(x) - 0.45) / 0.3) ** 4) - ((y + 0.1) / 0.6) ** 4)
    shoulders = 1 / (1 + np.exp(np.clip(-20 * (x**2 + 0.6 * y**2 - 0.9), -50, 50)))
    film = 0.35 + 0.35 * lungs - 0.2 * np.exp(-((x / 0.15) ** 2)) + 0.3 * shoulders
    film += 0.02 * np.sin(40 * y + 8 * np.abs(x)) * lungs + rng.normal(0, 0.004, (rows, columns))
    most = (1 << bits) - 1
    values = np.clip(np.rint(film * most), 0, most).astype(np.uint16 if bits > 8 else np.uint8)
    return _file(values, bits)


def transcode(data: bytes, syntax: str) -> bytes:
    """The film in another transfer syntax. GDCM encodes the JPEG families, imagecodecs HTJ2K, pydicom the rest.

    Raises:
        ValueError: no encoder here makes this syntax.
    """
    syntax = UID(syntax)
    dataset = pydicom.dcmread(io.BytesIO(data))
    if syntax in (ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian):
        dataset.file_meta.TransferSyntaxUID = syntax
        return _written(dataset)
    if syntax == ExplicitVRBigEndian:
        pixels = dataset.pixel_array
        dataset.PixelData = pixels.astype(pixels.dtype.newbyteorder(">")).tobytes()
        dataset.file_meta.TransferSyntaxUID = syntax
        return _written(dataset)
    if syntax == pydicom.uid.RLELossless:
        plugin = "pylibjpeg" if dataset.BitsStored == dataset.BitsAllocated or dataset.BitsStored == 12 else "pydicom"
        dataset.compress(syntax, encoding_plugin=plugin, generate_instance_uid=False)
        return _written(dataset)
    if syntax in (HTJ2KLossless, HTJ2K):
        stream = imagecodecs.htj2k_encode(dataset.pixel_array, reversible=syntax == HTJ2KLossless)
        dataset.PixelData = encapsulate([bytes(stream)])
        dataset["PixelData"].VR, dataset["PixelData"].is_undefined_length = "OB", True
        dataset.file_meta.TransferSyntaxUID = syntax
        return _written(dataset)
    with tempfile.TemporaryDirectory() as folder:
        return _with_gdcm(data, syntax, Path(folder))


def _with_gdcm(data: bytes, syntax: UID, folder: Path) -> bytes:
    (folder / "plain").write_bytes(data)
    reader = gdcm.ImageReader()
    reader.SetFileName(str(folder / "plain"))
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(str(syntax))))
    if not reader.Read():
        raise ValueError("GDCM cannot read the film")
    change.SetInput(reader.GetImage())
    if not change.Change():
        raise ValueError(f"GDCM cannot encode {syntax.name}")
    writer = gdcm.ImageWriter()
    writer.SetFileName(str(folder / "packed"))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    if not writer.Write():
        raise ValueError(f"GDCM cannot write {syntax.name}")
    return (folder / "packed").read_bytes()


def _file(values: npt.NDArray[Any], bits: int) -> bytes:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=["benchmark"])
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    dataset.PatientID, dataset.Modality, dataset.PresentationIntentType = "0", "DX", "FOR PRESENTATION"
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME1"
    dataset.Rows, dataset.Columns = values.shape
    dataset.BitsAllocated, dataset.BitsStored = values.dtype.itemsize * 8, bits
    dataset.HighBit, dataset.PixelRepresentation = bits - 1, 0
    dataset.WindowCenter, dataset.WindowWidth = 0.5 * (1 << bits), 0.75 * (1 << bits)
    dataset.RescaleIntercept, dataset.RescaleSlope = 0, 1
    dataset.PixelData = values.tobytes()
    dataset["PixelData"].VR = "OB" if bits <= 8 else "OW"
    return _written(dataset)


def _written(dataset: FileDataset) -> bytes:
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()
