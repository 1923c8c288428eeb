"""What a bundle says of its model, read without the model: nothing here imports torch."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import Field

from components.cxr.config import Config
from components.cxr.errors import UserError
from components.cxr.films.pixel_preset import PixelPreset
from components.cxr.labels import LabelPolicy
from components.cxr.model.architecture import Architecture
from components.cxr.shards import Manifest, read_versioned
from components.cxr.storage.atomic import PARTIAL
from components.cxr.storage.storage import Storage, sha256_of
from components.cxr.text.text import SectionReader, TextConfig, is_leaky
from components.cxr.trained_on import TRAINED_ON, Film, TrainedOn, load_trained_on

__all__ = [
    "BUNDLE", "TOKENIZER", "WEIGHTS",
    "BundleInfo", "Description", "Origin", "bundle_hash", "check_same_input", "check_same_pixels", "describe",
    "describe_folder", "file_hashes", "is_bundle_file", "local_folder", "read_info",
]  # fmt: skip

SCHEMA_VERSION = 6
BUNDLE = "bundle.json"
WEIGHTS = "weights.safetensors"
TOKENIZER = "tokenizer"
_FILES = (BUNDLE, WEIGHTS, TRAINED_ON)


class Origin(Config):
    """A bundle that another one was fine-tuned from."""

    bundle_hash: str
    manifest_hash: str
    """Of the data it was trained on."""
    id_key_fingerprint: str
    """Of the key that made that data's ids."""


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
    num_models: int = Field(1, ge=1)
    """Networks of that architecture, the mean of whose logits is the answer."""
    precision: Literal["float32"] = "float32"
    """Of every answer on any device, so that a report made on a GPU holds for a server on a CPU; never TF32."""
    num_parameters: int
    """Of all of them."""
    manifest_hash: str
    """Of the data the model was trained on."""
    id_key_fingerprint: str
    """Of the key that made that data's ids."""
    fine_tuned_from: tuple[Origin, ...] = ()
    """The bundle whose weights training started from, then the one that was started from there, and so on."""
    train_config_hash: str
    mlflow_run_id: str | None
    git_revision: str | None

    @property
    def size(self) -> str:
        """For people: parameters, and of how many models."""
        models = "" if self.num_models == 1 else f" in {self.num_models} models, the mean of whose logits is the answer"
        return f"{self.num_parameters:,} parameters{models}"

    @property
    def leaky(self) -> bool:
        """Whether the model may read its answer."""
        return is_leaky(self.text, reader=self.section_reader)


class Description(NamedTuple):
    """A bundle without its network."""

    info: BundleInfo
    trained_on: tuple[TrainedOn, ...]
    """By the training, then by those of the bundles it was fine-tuned from."""
    hash: str
    """SHA-256 over all files that training wrote."""
    files: Mapping[str, str]
    """SHA-256 of each of them, by name."""

    def as_origin(self) -> tuple[Origin, ...]:
        """What a bundle that starts from this one says of its origins."""
        data = {"manifest_hash": self.info.manifest_hash, "id_key_fingerprint": self.info.id_key_fingerprint}
        return Origin(bundle_hash=self.hash, **data), *self.info.fine_tuned_from

    def knows(
        self,
        patient_ids: Sequence[str],
        films: Callable[[], Iterable[Sequence[Film]]],
        *,
        id_key_fingerprint: str | None,
    ) -> npt.NDArray[np.bool_]:
        """Whether the patient of each study (S,) was in this training or one before it, as TrainedOn.knows.

        Args:
            patient_ids: of each study.
            films: gives those of each study, H x W each; read only for a training under another key.
            id_key_fingerprint: of the key that made the ids; None compares films alone.
        """
        seen_S = np.zeros(len(patient_ids), dtype=bool)
        here = self.as_origin()[0]
        for data, trained_on in zip((here, *self.info.fine_tuned_from), self.trained_on, strict=True):
            same_id_key = data.id_key_fingerprint == id_key_fingerprint
            seen_S |= trained_on.knows(patient_ids, films(), manifest_hash=data.manifest_hash, same_id_key=same_id_key)
        return seen_S


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
    files = file_hashes(folder)
    digest = bundle_hash(files, where=str(folder))
    trained_on = load_trained_on(folder / TRAINED_ON, num_trainings=1 + len(info.fine_tuned_from))
    return Description(info, trained_on, digest, files)


def is_bundle_file(name: str) -> bool:
    """Whether training wrote it."""
    return name in _FILES or name.startswith(f"{TOKENIZER}/")


def file_hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of the files that training wrote, by name; what a killed copy left half written does not count."""
    tokenizer = (path for path in sorted((folder / TOKENIZER).rglob("*")) if not path.name.startswith(PARTIAL))
    paths = [*(folder / name for name in _FILES), *tokenizer]
    return {path.relative_to(folder).as_posix(): sha256_of(path) for path in paths if path.is_file()}


def bundle_hash(files: Mapping[str, str], *, where: str) -> str:
    """SHA-256 over the names and hashes of a bundle's files.

    Raises:
        UserError: one is missing.
    """
    digest = hashlib.sha256()
    for name in (*_FILES, *sorted(name for name in files if name not in _FILES)):
        if name not in files:
            raise UserError(
                "incomplete-bundle", "bundle is incomplete", where=f"{where}/{name}", found="no file",
                remedy="Train again.",
            )  # fmt: skip
        digest.update(f"{name} {files[name]}\n".encode())
    return digest.hexdigest()


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
