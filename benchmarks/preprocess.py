"""How long a film takes from DICOM bytes to the model's pixels, beside other recipes and beside decoding alone.

One thread, contestants interleaved, medians of CPU time: `make bench`. cxrflow's includes its process for decoders and
the films' way there; the others decode in this process.
"""

from __future__ import annotations

import argparse
import functools
import io
import json
import os
import statistics
import time
from collections.abc import Callable

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"  # before numpy starts its threads

import cv2
import numpy as np
import numpy.typing as npt
import pydicom
import skimage.transform
from PIL import Image
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut
from pydicom.uid import UID
from rich.console import Console
from rich.table import Table

from benchmarks.film_files import make_film, transcode
from components.cxr.films.isolated import FilmReader
from components.cxr.films.pixel_preset import PixelPreset

JPEG = "1.2.840.10008.1.2.4."
SYNTAXES = {
    "1.2.840.10008.1.2.1": 12,
    "1.2.840.10008.1.2": 12,
    "1.2.840.10008.1.2.2": 12,
    "1.2.840.10008.1.2.1.99": 12,
    "1.2.840.10008.1.2.5": 12,
    JPEG + "50": 8,
    JPEG + "57": 12,
    JPEG + "70": 12,
    JPEG + "80": 12,
    JPEG + "81": 12,
    JPEG + "90": 12,
    JPEG + "91": 12,
    JPEG + "201": 12,
    JPEG + "203": 12,
}
"""What can be encoded here, and the bits of the film. GDCM's encoder of 12-bit JPEG makes streams for itself alone."""


def main() -> None:
    """Print two tables and one line of JSON."""
    options = _options()
    cv2.setNumThreads(1)
    plain = make_film(options.rows, options.columns)
    preset = PixelPreset(size=options.size)
    reader = FilmReader()
    recipes: dict[str, Callable[[], object]] = {
        "cxrflow": lambda: reader.read(plain, preset=preset),
        "decode alone": lambda: pydicom.dcmread(io.BytesIO(plain)).pixel_array,
        "pydicom recipe": lambda: pydicom_recipe(plain, options.size),
        "torchxrayvision recipe": lambda: torchxrayvision_recipe(plain, options.size),
    }
    took = medians(recipes, reader, rounds=options.rounds)
    console = Console(width=120)
    console.print(_recipes_table(took, options))
    console.print(_syntaxes_table(options, preset, reader))
    ratios = {
        "speedup_vs_pydicom": took["pydicom recipe"] / took["cxrflow"],
        "speedup_vs_torchxrayvision": took["torchxrayvision recipe"] / took["cxrflow"],
        "times_decode_floor": took["cxrflow"] / took["decode alone"],
    }
    print(json.dumps({"benchmark": "preprocess"} | {name: round(value, 2) for name, value in ratios.items()}))


def pydicom_recipe(data: bytes, size: int) -> npt.NDArray[np.uint8]:
    """What most tutorials do: both transforms of pydicom, min-max in floating point, resize with Pillow."""
    dataset = pydicom.dcmread(io.BytesIO(data))
    image = apply_voi_lut(apply_modality_lut(dataset.pixel_array, dataset), dataset).astype(np.float64)
    image = (image - image.min()) / (image.max() - image.min())
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        image = 1.0 - image
    gray = Image.fromarray((image * 255).astype(np.uint8))
    return np.asarray(gray.resize((size, size), Image.Resampling.BILINEAR))


def torchxrayvision_recipe(data: bytes, size: int) -> npt.NDArray[np.float32]:
    """The steps of torchxrayvision: float32 in -1024..1024, cut to the central square, skimage's resize."""
    dataset = pydicom.dcmread(io.BytesIO(data))
    image = dataset.pixel_array.astype(np.float32)
    most = np.float32((1 << dataset.BitsStored) - 1)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        image = most - image
    image = (2 * (image / most) - 1) * 1024
    side = min(image.shape)
    top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
    square = image[top : top + side, left : left + side]
    resized = skimage.transform.resize(square, (size, size), mode="constant", preserve_range=True)
    return np.asarray(resized, dtype=np.float32)


def medians(contestants: dict[str, Callable[[], object]], reader: FilmReader, *, rounds: int) -> dict[str, float]:
    """Median CPU seconds of each, taken in turn so that all meet the same machine; the reader's processes included."""
    took: dict[str, list[float]] = {name: [] for name in contestants}
    for run in contestants.values():
        run()
    for _ in range(rounds):
        for name, run in contestants.items():
            start = _cpu_seconds(reader)
            run()
            took[name].append(_cpu_seconds(reader) - start)
    return {name: statistics.median(times) for name, times in took.items()}


def _cpu_seconds(reader: FilmReader) -> float:
    """Of this process and the reader's, by the clock that Linux keeps for each (clock_getcpuclockid(3))."""
    clocks = [~pid << 3 | 2 for pid in reader.process_ids()]
    return time.process_time() + sum(time.clock_gettime(clock) for clock in clocks)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=3056)
    parser.add_argument("--columns", type=int, default=2544)
    parser.add_argument("--size", type=int, default=224, help="side of the output")
    parser.add_argument("--rounds", type=int, default=15)
    return parser.parse_args()


def _recipes_table(took: dict[str, float], options: argparse.Namespace) -> Table:
    table = Table(title=f"Uncompressed film, {options.columns} x {options.rows}, 12 bits, to {options.size} pixels")
    for heading in ("", "ms per film", "times cxrflow"):
        table.add_column(heading, justify="right" if heading else "left")
    for name, seconds in took.items():
        table.add_row(name, f"{seconds * 1e3:.1f}", f"{seconds / took['cxrflow']:.2f}")
    return table


def _syntaxes_table(options: argparse.Namespace, preset: PixelPreset, reader: FilmReader) -> Table:
    """Every transfer syntax: each installed decoder alone, and cxrflow over the quickest of them."""
    table = Table(title="By transfer syntax: ms per film, and cxrflow over the quickest decoder alone")
    for heading in ("transfer syntax", "MB", "decoders alone", "cxrflow", "times"):
        table.add_column(heading, justify="left" if heading in ("transfer syntax", "decoders alone") else "right")
    for syntax, bits in SYNTAXES.items():
        data = transcode(make_film(options.rows, options.columns, bits=bits), syntax)
        contestants = _decoders(data)
        contestants["cxrflow"] = functools.partial(reader.read, data, preset=preset)
        took = medians(contestants, reader, rounds=max(3, options.rounds // 3))
        ours = took.pop("cxrflow")
        alone = ", ".join(f"{name} {seconds * 1e3:.0f}" for name, seconds in took.items())
        ratio = ours / min(took.values())
        table.add_row(
            UID(syntax).name.split(",")[0] + _variant(syntax),
            f"{len(data) / 1e6:.1f}",
            alone,
            f"{ours * 1e3:.0f}",
            f"{ratio:.2f}",
        )
    return table


def _variant(syntax: str) -> str:
    return {JPEG + "57": ", process 14", JPEG + "70": ", SV1"}.get(syntax, "")


def _decoders(data: bytes) -> dict[str, Callable[[], object]]:
    syntax = pydicom.dcmread(io.BytesIO(data), stop_before_pixels=True).file_meta.TransferSyntaxUID
    if not syntax.is_encapsulated:
        return {"pydicom": lambda: pydicom.dcmread(io.BytesIO(data)).pixel_array}
    decoder = get_decoder(syntax)

    def alone(plugin: str) -> Callable[[], object]:
        return lambda: decoder.as_array(pydicom.dcmread(io.BytesIO(data)), decoding_plugin=plugin)

    return {plugin: alone(plugin) for plugin in decoder.available_plugins}


if __name__ == "__main__":
    main()
