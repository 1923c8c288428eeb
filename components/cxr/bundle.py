"""The second contract: a folder with one trained model and all that serving must know about it, without pickle."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from components.cxr.config import Config
from components.cxr.errors import UserError
from components.cxr.films.pixel_preset import PixelPreset
from components.cxr.labels import LabelPolicy
from components.cxr.model.architecture import Architecture
from components.cxr.model.network import CxrModel
from components.cxr.report import Condition
from components.cxr.shards import Manifest, read_versioned
from components.cxr.storage.storage import Storage, sha256_of
from components.cxr.text.text import SectionReader, TextConfig, is_leaky

__all__ = [
    "BUNDLE", "MODEL_CARD", "OPERATING_POINTS",
    "Bundle", "BundleInfo", "Calibration", "OperatingPoint", "OperatingPoints",
    "check_same_pixels", "load_bundle", "load_operating_points", "local_folder", "save_bundle",
    "write_operating_points",
]  # fmt: skip

SCHEMA_VERSION = 1
BUNDLE = "bundle.json"
WEIGHTS = "weights.safetensors"
TOKENIZER = "tokenizer"
OPERATING_POINTS = "operating_points.json"
MODEL_CARD = "MODEL_CARD.md"


class BundleInfo(Config):
    """`bundle.json`."""

    schema_version: int = SCHEMA_VERSION
    pathologies: tuple[str, ...]
    pixel_preset: PixelPreset
    pixel_preset_hash: str
    text: TextConfig
    section_reader: SectionReader = "strict"
    """How the training data's reports became sections; a pasted report is read the same way."""
    label_policy: LabelPolicy
    architecture: Architecture
    num_parameters: int
    manifest_hash: str
    """Of the data the model was trained on."""
    train_config_hash: str
    mlflow_run_id: str | None
    git_revision: str | None

    @property
    def leaky(self) -> bool:
        """Whether the model may read its answer."""
        return is_leaky(self.text, reader=self.section_reader)


class Calibration(Config):
    """Platt scaling (Platt 1999): probability = sigmoid(slope * (z1 - z0) + intercept)."""

    slope: float = 1.0
    intercept: float = 0.0


class OperatingPoint(Config):
    """What evaluation chose for one pathology on validation."""

    threshold: float
    """Calibrated probability in [0, 1] from which the answer is positive."""
    calibration: Calibration = Calibration()


class OperatingPoints(Config):
    """`operating_points.json`: per input condition and pathology."""

    schema_version: int = SCHEMA_VERSION
    conditions: dict[Condition, dict[str, OperatingPoint]]


@dataclass(frozen=True)
class Bundle:
    """A bundle in memory, its model in evaluation mode on the CPU."""

    info: BundleInfo
    model: CxrModel
    tokenizer: PreTrainedTokenizerBase
    hash: str
    """SHA-256 over bundle.json, weights and tokenizer."""


def save_bundle(storage: Storage, *, info: BundleInfo, model: CxrModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Write a bundle; `bundle.json` goes last, its presence means complete."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        tokenizer.save_pretrained(folder / TOKENIZER)
        save_file({name: value.contiguous() for name, value in model.state_dict().items()}, folder / WEIGHTS)
        storage.upload_folder(folder)
    data = json.dumps(info.model_dump(mode="json"), indent=1, sort_keys=True) + "\n"
    storage.write(BUNDLE, data.encode())


def load_bundle(storage: Storage) -> Bundle:
    """Read a bundle.

    Raises:
        UserError: none here, another schema version, weights that do not fit, or pixels made by another implementation.
    """
    where = f"{storage.uri}/{BUNDLE}"
    try:
        data = storage.read(BUNDLE).data
    except FileNotFoundError:
        raise UserError("no-bundle", "no complete bundle here", where=where, remedy="Run train first.") from None
    info = BundleInfo.parse(read_versioned(data, where=where, version=SCHEMA_VERSION, made_by="train"), where=where)
    _check_pixels(info.pixel_preset_hash, info.pixel_preset.hash, where=where)
    model = CxrModel(info.architecture, num_pathologies=len(info.pathologies))
    with local_folder(storage) as folder:
        try:
            model.load_state_dict(load_file(folder / WEIGHTS))
        except (FileNotFoundError, RuntimeError) as error:
            detail = str(error).splitlines()[0]
            raise UserError(
                "bad-weights",
                "weights do not fit the bundle",
                where=folder / WEIGHTS,
                found=detail,
                remedy="Train again.",
            ) from None
        tokenizer = AutoTokenizer.from_pretrained(folder / TOKENIZER)
        digest = _hash(folder)
    return Bundle(info, model.eval(), tokenizer, digest)


def check_same_pixels(info: BundleInfo, manifest: Manifest, *, where: str) -> None:
    """Refuse data whose pixels, pathologies or reading of reports are not those of the bundle.

    Raises:
        UserError: naming both hashes, lists or readers.
    """
    _check_pixels(manifest.pixel_preset_hash, info.pixel_preset_hash, where=where)
    if info.pathologies != manifest.pathologies:
        found, expected = ", ".join(manifest.pathologies), ", ".join(info.pathologies)
        raise UserError(
            "other-pathologies",
            "data and bundle have different pathologies",
            where=where,
            found=found,
            expected=expected,
        )
    if info.text.sections and info.section_reader != manifest.section_reader:
        raise UserError(
            "other-section-reader",
            "data and bundle have reports read in different ways",
            where=where,
            found=manifest.section_reader,
            expected=info.section_reader,
            remedy="Set preprocess.section_reader and run preprocess again.",
        )


def write_operating_points(storage: Storage, points: OperatingPoints) -> None:
    """Add evaluation's operating points to a bundle."""
    data = json.dumps(points.model_dump(mode="json"), indent=1, sort_keys=True) + "\n"
    storage.write(OPERATING_POINTS, data.encode())


def load_operating_points(storage: Storage) -> OperatingPoints:
    """Read a bundle's operating points.

    Raises:
        UserError: evaluation has not written them yet, or another schema version.
    """
    where = f"{storage.uri}/{OPERATING_POINTS}"
    try:
        data = storage.read(OPERATING_POINTS).data
    except FileNotFoundError:
        raise UserError(
            "bundle-not-evaluated", "bundle was not evaluated", where=where, remedy="Run evaluate first."
        ) from None
    return OperatingPoints.parse(
        read_versioned(data, where=where, version=SCHEMA_VERSION, made_by="evaluate"), where=where
    )


@contextmanager
def local_folder(storage: Storage) -> Iterator[Path]:
    """The bundle as a folder on this machine: its own, or a temporary copy of a gs:// one."""
    own = storage.local_path("")
    if own is not None:
        yield own
        return
    with tempfile.TemporaryDirectory() as temporary:
        storage.download_folder(Path(temporary))
        yield Path(temporary)


def _check_pixels(found: str, expected: str, *, where: str) -> None:
    if found != expected:
        raise UserError(
            "other-pixels",
            "pixels were made another way",
            where=f"{where}: pixel_preset_hash",
            found=found,
            expected=expected,
            remedy="Run preprocess and train with one version and one pixel preset.",
        )


def _hash(folder: Path) -> str:
    """Over what training wrote; evaluation's additions do not change a bundle's identity."""
    files = [BUNDLE, WEIGHTS, *sorted(f"{TOKENIZER}/{p.name}" for p in (folder / TOKENIZER).iterdir())]
    digest = hashlib.sha256()
    for name in files:
        digest.update(f"{name} {sha256_of(folder / name)}\n".encode())
    return digest.hexdigest()
