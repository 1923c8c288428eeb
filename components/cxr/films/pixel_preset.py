"""The named recipe that turns a film into pixels; kept in manifest and bundle so that serving can refuse another."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from components.cxr.config import Config, content_hash

__all__ = ["PixelPreset"]

PIXELS_VERSION = 3
"""Raised whenever the same film and preset would give other pixels than before."""


class PixelPreset(Config):
    """How a film becomes a square uint8 image."""

    name: Literal["display", "mimic-jpg"] = "display"
    """`display`: modality, VOI and presentation transforms of DICOM PS3.4 N.2. `mimic-jpg`: min-max and histogram
    equalization of the stored values, as MIMIC-CXR-JPG was made (Johnson et al. 2019)."""
    size: int = Field(224, ge=16, le=4096)
    """Side of the square image in pixels; the film keeps its aspect and is padded with 0."""
    allow_burned_in: bool = False
    """Read films whose BurnedInAnnotation (0028,0301) is YES; without it they are rejected, as a name may show."""
    allow_for_processing: bool = False
    """Read films whose PresentationIntentType (0008,0068) is FOR PROCESSING, by the same transforms as the others;
    without it they are rejected, as raw detector values look like no film that a radiologist reads."""

    reduced_jpeg2000: bool = False
    """Decode JPEG 2000 films only as finely as `size` needs: many times faster, but averages are then those of the
    wavelet, not of areas, and padding is found on the reduced film."""

    @property
    def hash(self) -> str:
        """16 hex digits that change with any field and with the implementation's version."""
        return content_hash(self.canonical_json(), str(PIXELS_VERSION))
