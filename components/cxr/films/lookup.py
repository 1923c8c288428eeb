"""Lookup tables in a header: modality, VOI and palette, in any of the ways that archives write them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.pixels.processing import apply_color_lut
from pydicom.sequence import Sequence

__all__ = ["LookupTable", "lookup_tables", "palette"]

Float = npt.NDArray[np.float64]

_LUMINANCE = {"Red": 0.299, "Green": 0.587, "Blue": 0.114}


class LookupTable(NamedTuple):
    """Entries for `first`, `first` + 1, …; values before and behind them have the first and the last one."""

    first: int
    entries: Float

    def at(self, values: Float) -> Float:
        """The entries of values, rounded to whole ones."""
        places = np.clip(np.rint(values) - self.first, 0, len(self.entries) - 1).astype(np.int64)
        found: Float = self.entries[places]
        return found


def lookup_tables(dataset: Dataset, keyword: str, *, reach: tuple[float, float]) -> list[LookupTable]:
    """The tables of ModalityLUTSequence (0028,3000) or VOILUTSequence (0028,3010); items without data are left out.

    PS3.3 C.11.1.1, C.11.2.1.1.

    Args:
        reach: least and greatest value that may be looked up. It tells whether the first value is signed.
    """
    items = dataset.get(keyword)
    tables = []
    for item in items if isinstance(items, Sequence) else ():
        entries = _entries(item, "LUTDescriptor", "LUTData", little=_is_little(dataset))
        if entries is not None:
            tables.append(LookupTable(_first(item, "LUTDescriptor", reach), entries))
    return tables


def palette(dataset: Dataset, *, reach: tuple[float, float]) -> LookupTable | None:
    """Luminance in [0, 1] of a palette's colors (0028,1101..1103), (0028,1201..1203), or segmented (0028,1221..1223).

    PS3.3 C.7.6.3.1.5, C.7.9.2. None without a readable one.
    """
    colors = []
    for color in _LUMINANCE:
        name = f"{color}PaletteColorLookupTable"
        colors.append(_entries(dataset, f"{name}Descriptor", f"{name}Data", little=_is_little(dataset)))
    whole = [entries for entries in colors if entries is not None]
    if not whole:
        whole = _segmented(dataset)
    if len(whole) != 3:
        return None
    size, most = min(map(len, whole)), max(float(entries.max()) for entries in whole)
    # Entries of 8 bits are found in words, and under a descriptor of 16.
    bright = sum(weight * entries[:size] for weight, entries in zip(_LUMINANCE.values(), whole, strict=True))
    table: Float = np.asarray(bright / (255 if most <= 255 else 65535), dtype=np.float64)
    return LookupTable(_first(dataset, "RedPaletteColorLookupTableDescriptor", reach), table)


def _first(holder: Dataset, keyword: str, reach: tuple[float, float]) -> int:
    """The first value looked up; the tag's 16 bits are signed where the values are."""
    unsigned = _descriptor(holder, keyword)[1] & 0xFFFF
    signed = unsigned - (1 << 16) if unsigned >= 1 << 15 else unsigned
    return signed if reach[0] < 0 or unsigned > reach[1] else unsigned


def _descriptor(holder: Dataset, keyword: str) -> list[int]:
    """Number of entries, first value and bits of an entry; empty when it is not readable."""
    numbers = _integers(_value(holder, keyword), little=_is_little(holder)).tolist()
    if len(numbers) < 2:
        return []
    return [(numbers[0] & 0xFFFF) or 1 << 16, numbers[1], numbers[2] if len(numbers) > 2 else 16]


def _entries(holder: Dataset, descriptor: str, keyword: str, *, little: bool) -> Float | None:
    described, data = _descriptor(holder, descriptor), _value(holder, keyword)
    if not described or data is None:
        return None
    count, _, bits = described
    if isinstance(data, bytes) and (count <= len(data) <= count + count % 2 or (bits <= 8 and len(data) < 2 * count)):
        octets = np.frombuffer(data, np.uint8)
        if not little and holder[keyword].VR != "OB" and len(octets) % 2 == 0:
            octets = octets.reshape(-1, 2)[:, ::-1].ravel()  # the first entry is a word's low byte (PS3.5 D)
        table = octets.astype(np.float64)
    else:
        table = _integers(data, little=little).astype(np.float64)
        if bits == 8 and len(table) == -(-count // 2) and count > 1:  # two 8-bit entries per word
            table = table.astype(np.uint16).astype("<u2").view(np.uint8).astype(np.float64)
    table = table[:count]
    return table if len(table) else None


def _segmented(dataset: Dataset) -> list[Float]:
    """The expanded entries of each color by pydicom, which reads little endian right."""
    plain = Dataset()
    plain.set_original_encoding(False, True)
    try:
        for color in _LUMINANCE:
            descriptor, data = (
                f"{color}PaletteColorLookupTableDescriptor",
                f"Segmented{color}PaletteColorLookupTableData",
            )
            count, _, bits = _descriptor(dataset, descriptor)
            words = _integers(_value(dataset, data), little=_is_little(dataset))
            plain.add_new(descriptor, "US", [count & 0xFFFF, 0, bits])
            plain.add_new(data, "OW", words.astype("<u2").tobytes())
        colors = apply_color_lut(np.arange(count, dtype=np.uint16), plain)
        return [colors[:, place].astype(np.float64) for place in range(len(_LUMINANCE))]
    except Exception:  # pydicom raises whatever it met in a damaged palette
        return []


def _value(holder: Dataset, keyword: str) -> Any:
    """A tag's value; None when it is absent, empty or not readable."""
    try:
        value = holder.get(keyword)
    except Exception:  # pydicom converts lazily and raises what it met
        return None
    return None if value is None or (isinstance(value, (bytes, str, MultiValue, list)) and not len(value)) else value


def _integers(value: Any, *, little: bool) -> npt.NDArray[np.int64]:
    if isinstance(value, bytes):
        return np.frombuffer(value[: len(value) // 2 * 2], "<u2" if little else ">u2").astype(np.int64)
    try:
        return np.array([*value] if isinstance(value, (MultiValue, list)) else [value], dtype=np.int64)
    except (TypeError, ValueError, OverflowError):
        return np.empty(0, dtype=np.int64)


def _is_little(dataset: Dataset) -> bool:
    return dataset.original_encoding[1] is not False
