"""The second contract: a folder with one trained model and all that serving must know about it, without pickle."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from components.cxr.bundle_info import (
    BUNDLE,
    TOKENIZER,
    WEIGHTS,
    BundleInfo,
    describe_folder,
    local_folder,
    read_info,
)
from components.cxr.errors import UserError
from components.cxr.model.network import CxrModel
from components.cxr.storage.storage import Storage
from components.cxr.trained_on import TRAINED_ON, TrainedOn, save_trained_on

__all__ = ["Bundle", "load_bundle", "save_bundle"]


@dataclass(frozen=True)
class Bundle:
    """A bundle in memory, its model in evaluation mode on the CPU."""

    info: BundleInfo
    model: CxrModel
    tokenizer: PreTrainedTokenizerBase
    hash: str
    """SHA-256 over all files that training wrote."""


def save_bundle(
    storage: Storage,
    *,
    info: BundleInfo,
    model: CxrModel,
    tokenizer: PreTrainedTokenizerBase,
    trained_on: TrainedOn,
) -> None:
    """Write a bundle, which nothing changes afterwards; `bundle.json` goes last, its presence means complete."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        tokenizer.save_pretrained(folder / TOKENIZER)
        save_file({name: value.contiguous() for name, value in model.state_dict().items()}, folder / WEIGHTS)
        save_trained_on(trained_on, folder / TRAINED_ON)
        storage.upload_folder(folder)
    data = json.dumps(info.model_dump(mode="json"), indent=1, sort_keys=True) + "\n"
    storage.write(BUNDLE, data.encode())


def load_bundle(storage: Storage) -> Bundle:
    """Read a bundle.

    Raises:
        UserError: none here, another schema version, weights that do not fit, or pixels made by another implementation.
    """
    info = read_info(storage)
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
        digest = describe_folder(info, folder).hash
    return Bundle(info, model.eval(), tokenizer, digest)
