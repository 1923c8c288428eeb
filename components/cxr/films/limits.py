"""What one film may cost before it is refused; a part of the sections `preprocess` and `serve`."""

from __future__ import annotations

from pydantic import Field

from components.cxr.config import Config

__all__ = ["DecodeLimits"]

MIB = 1 << 20


class DecodeLimits(Config):
    """A film that goes over one of these is rejected, so all of them count for the key of a data set."""

    seconds: float = Field(60.0, gt=0.0)
    """Seconds for one film that must be decoded; then its process is killed and the film rejected as
    `decoder-hung`."""
    memory_bytes: int = Field(1024 * MIB, ge=64 * MIB)
    """Memory that decoding one film may take beside the libraries; more of it, and the film is rejected as
    `too-large`, or as `decoder-crashed` where a decoder ends its process instead of saying so."""
    max_pixels: int = Field(64_000_000, ge=1)
    """Rows times columns; twice the largest radiographs."""
    max_decoded_bytes: int = Field(192 * MIB, ge=1)
    """Bytes of the pixels when they are not compressed, and of a deflated data set when it is inflated."""
