"""What torchrun's environment variables say of this process; without torch, which a finished training does not load."""

from __future__ import annotations

import os

__all__ = ["under_torchrun"]


def under_torchrun() -> bool:
    """Whether torchrun started this process. RANK alone says little: MPI and batch systems set it too."""
    return "TORCHELASTIC_RUN_ID" in os.environ
