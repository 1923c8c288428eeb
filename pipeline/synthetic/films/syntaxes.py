"""Stores pixels in the transfer syntaxes that pydicom can write here."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.pixels.encoders.base import get_encoder
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from components.cxr.errors import UserError

__all__ = ["Syntax", "available_syntaxes", "check_encoder", "store_pixels"]

Syntax = Literal[
    "explicit-little", "implicit-little", "explicit-big", "deflated", "rle", "jpeg2000", "jpeg-ls", "mixed"
]

_UIDS: dict[str, UID] = {
    "explicit-little": ExplicitVRLittleEndian,
    "implicit-little": ImplicitVRLittleEndian,
    "explicit-big": ExplicitVRBigEndian,
    "deflated": DeflatedExplicitVRLittleEndian,
    "rle": RLELossless,
    "jpeg2000": JPEG2000Lossless,
    "jpeg-ls": JPEGLSLossless,
}


def available_syntaxes() -> tuple[str, ...]:
    """Names of the syntaxes that can be written here, without `mixed`."""
    return tuple(name for name, uid in _UIDS.items() if not uid.is_encapsulated or get_encoder(uid).is_available)


def check_encoder(syntax: Syntax) -> None:
    """Refuse a syntax that cannot be written here.

    Raises:
        UserError: no such syntax, or its encoder is not installed.
    """
    if syntax not in get_args(Syntax):
        raise UserError(
            "unknown-transfer-syntax", "unknown transfer syntax", found=syntax, expected=", ".join(get_args(Syntax))
        )
    if syntax != "mixed" and syntax not in available_syntaxes():
        missing = get_encoder(_UIDS[syntax]).missing_dependencies
        raise UserError(
            "no-encoder",
            "no encoder for this transfer syntax",
            where=syntax,
            found="none installed",
            expected="; ".join(missing),
            remedy="Install it, or take another syntax.",
        )


def store_pixels(ds: Dataset, pixels: npt.NDArray[np.uint16], *, syntax: Syntax, number: int) -> None:
    """Set transfer syntax and Pixel Data (PS3.5 8 and A.4); `mixed` takes syntax `number` modulo those available."""
    names = available_syntaxes()
    uid = _UIDS[names[number % len(names)] if syntax == "mixed" else syntax]
    ds.file_meta.TransferSyntaxUID = uid
    if not uid.is_encapsulated:
        ds.PixelData = pixels.astype("<u2" if uid.is_little_endian else ">u2").tobytes()
        ds["PixelData"].VR = "OW"
        return
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.compress(uid, arr=pixels, generate_instance_uid=False)
