"""What a bundle says of its model, read without the model: nothing here imports torch."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple

from components.cxr.config import Config
from components.cxr.errors import UserError
from components.cxr.films.pixel_preset import PixelPreset
from components.cxr.labels import LabelPolicy
from components.cxr.model.architecture import Architecture
from components.cxr.shards import Manifest, read_versioned
from components.cxr.storage.storage import Storage, sha256_of
from components.cxr.text.text import SectionReader, TextConfig, is_leaky
from components.cxr.trained_on import TRAINED_ON, TrainedOn, load_trained_on

__all__ = [
    "BUNDLE", "TOKENIZER", "WEIGHTS",
    "BundleInfo", "Description",
    "check_same_input", "check_same_pixels", "describe", "describe_folder", "local_folder", "read_info",
]  # fmt: skip

SCHEMA_VERSION = 3
BUNDLE = "bundle.json"
WEIGHTS = "weights.safetensors"
TOKENIZER = "tokenizer"


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
    precision: Literal["float32"] = "float32"
    """Of every answer on any device, so that a report made on a GPU holds for a server on a CPU; never TF32."""
    num_parameters: int
    manifest_hash: str
    """Of the data the model was trained on."""
    id_key_fingerprint: str
    """Of the key that made that data's ids."""
    train_config_hash: str
    mlflow_run_id: str | None
    git_revision: str | None

    @property
    def leaky(self) -> bool:
        """Whether the model may read its answer."""
        return is_leaky(self.text, reader=self.section_reader)


class Description(NamedTuple):
    """A bundle without its network."""

    info: BundleInfo
    trained_on: TrainedOn
    hash: str
    """SHA-256 over all files that training wrote."""


def describe(storage: Storage) -> Description:
    """Read everything about a bundle but its network.

    Raises:
        UserError: as read_info, or an incomplete bundle.
    """
    info = read_info(storage)
    with local_folder(storage) as folder:
        return describe_folder(info, folder)


def describe_folder(info: BundleInfo, folder: Path) -> Description:
    """The same for a bundle on this machine.

    Raises:
        UserError: a file is missing.
    """
    names = [BUNDLE, WEIGHTS, TRAINED_ON, *sorted(f"{TOKENIZER}/{p.name}" for p in (folder / TOKENIZER).glob("*"))]
    digest = hashlib.sha256()
    for name in names:
        if not (folder / name).is_file():
            raise UserError(
                "incomplete-bundle", "bundle is incomplete", where=folder / name, found="no file", remedy="Train again."
            )
        digest.update(f"{name} {sha256_of(folder / name)}\n".encode())
    return Description(info, load_trained_on(folder / TRAINED_ON), digest.hexdigest())


def read_info(storage: Storage) -> BundleInfo:
    """Read `bundle.json`.

    Raises:
        UserError: none here, another schema version, or pixels made by another implementation.
    """
    where = f"{storage.uri}/{BUNDLE}"
    try:
        data = storage.read(BUNDLE).data
    except FileNotFoundError:
        raise UserError("no-bundle", "no complete bundle here", where=where, remedy="Run train first.") from None
    info = BundleInfo.parse(read_versioned(data, where=where, version=SCHEMA_VERSION, made_by="train"), where=where)
    _check_pixels(info.pixel_preset_hash, info.pixel_preset.hash, where=where)
    return info


def check_same_pixels(info: BundleInfo, manifest: Manifest, *, where: str) -> None:
    """Refuse data whose pixels, pathologies or reading of reports are not those of the bundle.

    Raises:
        UserError: naming both hashes, lists or readers.
    """
    check_same_input(info, manifest, where=where)
    if info.pathologies != manifest.pathologies:
        found, expected = ", ".join(manifest.pathologies), ", ".join(info.pathologies)
        raise UserError(
            "other-pathologies",
            "data and bundle have different pathologies",
            where=where,
            found=found,
            expected=expected,
        )


def check_same_input(info: BundleInfo, manifest: Manifest, *, where: str) -> None:
    """Refuse data that the model cannot read: pixels or reports that were read another way; labels may be others.

    Raises:
        UserError: naming both hashes or readers.
    """
    _check_pixels(manifest.pixel_preset_hash, info.pixel_preset_hash, where=where)
    if info.text.sections and info.section_reader != manifest.section_reader:
        raise UserError(
            "other-section-reader",
            "data and bundle have reports read in different ways",
            where=where,
            found=manifest.section_reader,
            expected=info.section_reader,
            remedy="Set preprocess.section_reader and run preprocess again.",
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
