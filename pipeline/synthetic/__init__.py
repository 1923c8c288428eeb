"""Synthetic MIMIC-CXR for the demo, tests and benchmarks: DICOM films, reports and tables drawn from a known truth."""

from pipeline.synthetic.dataset import generate
from pipeline.synthetic.presets import Settings

__all__ = ["Settings", "generate"]
