"""Fine-tuning: the bundle that a training starts from, found by its folder or by the run that made it.

Nothing here imports torch: the key of a finished training asks for it.
"""

from __future__ import annotations

import functools
from pathlib import Path

from components.cxr.bundle_info import BUNDLE, Description, describe
from components.cxr.errors import UserError
from components.cxr.model.architecture import Architecture
from components.cxr.storage.pointers import read_pointer
from components.cxr.storage.storage import Root, open_storage
from components.train.config import TrainConfig

__all__ = ["complete_architecture", "origin", "with_origin"]


def with_origin(config: TrainConfig, *, root: Root) -> TrainConfig:
    """The configuration with the folder of the bundle to start from, and with that bundle's architecture.

    Unchanged where `fine_tune_from` is null, or where that is what it has already.

    Args:
        root: of this training, whose newest bundle it cannot start from: that is another one afterwards.

    Raises:
        UserError: no bundle there, or an architecture of the configuration's own.
    """
    if config.fine_tune_from is None:
        return config
    if _real(Root(config.fine_tune_from)) == _real(root):
        raise UserError(
            "fine-tune-itself",
            "a run cannot start from its own newest bundle",
            where="train.fine_tune_from",
            found=config.fine_tune_from,
            expected="the root of another run, or the folder of a bundle",
        )
    folder, known = origin(config.fine_tune_from)
    if config.architecture not in (Architecture(), known.info.architecture):
        raise UserError(
            "other-architecture",
            "another architecture than that of the bundle to start from",
            where="train.architecture",
            expected="nothing beside train.fine_tune_from: the network is the bundle's",
        )
    return config.model_copy(update={"fine_tune_from": folder, "architecture": known.info.architecture})


def _real(root: Root) -> str:
    """Its address without `..` and links."""
    return root.uri if "://" in root.uri else str(Path(root.uri).resolve())


@functools.lru_cache(maxsize=4)
def origin(source: str) -> tuple[str, Description]:
    """Folder and description of a bundle, or of the newest one of a run's root; read once, as bundles stay what they
    are.

    Raises:
        UserError: neither is there.
    """
    folder = source
    if not open_storage(source).exists(BUNDLE):
        try:
            folder = read_pointer(Root(source), "bundle", made_by="train")
        except UserError as error:
            raise UserError(
                "no-bundle",
                "no bundle to start from",
                where="train.fine_tune_from",
                found=error.found or source,
                expected="the folder of a bundle, or the root of a run that has trained one",
            ) from None
    return folder, describe(open_storage(folder))


def complete_architecture(config: TrainConfig) -> Architecture:
    """The architecture whose configurations are complete: a bundle's has no need of the hub that it came from."""
    architecture = config.architecture
    if config.fine_tune_from is None:
        return architecture
    nothing = {"pretrained": None}
    encoders = {"vision": architecture.vision.model_copy(update=nothing)}
    return architecture.model_copy(update=encoders | {"text": architecture.text.model_copy(update=nothing)})
