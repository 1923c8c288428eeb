"""The source's revision, for bundles and MLflow."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

__all__ = ["git_revision"]


def git_revision() -> str | None:
    """The source's revision: $CXRFLOW_REVISION (set in the images), else git's; None when unknown."""
    if revision := os.environ.get("CXRFLOW_REVISION"):
        return revision
    try:
        found = subprocess.run(
            ["git", "rev-parse", "HEAD"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip()
