"""The second contract: a folder with a trained model and all that serving must know about it, without pickle."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from components.cxr.bundle_info import (
    BUNDLE,
    TOKENIZER,
    WEIGHTS,
    BundleInfo,
    bundle_hash,
    file_hashes,
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
    """A bundle in memory, its models in evaluation mode on the CPU."""

    info: BundleInfo
    models: tuple[CxrModel, ...]
    """Of one architecture; the mean of their logits is the answer."""
    tokenizer: PreTrainedTokenizerBase
    hash: str
    """SHA-256 over all files that training wrote."""

    @property
    def model(self) -> CxrModel:
        """The model where there is one.

        Raises:
            UserError: there are several.
        """
        if len(self.models) > 1:
            raise UserError(
                "several-models",
                "this is for a bundle of one model",
                found=f"{len(self.models)} models",
                remedy="Train with train.num_models: 1.",
            )
        return self.models[0]


def save_bundle(
    storage: Storage,
    *,
    info: BundleInfo,
    models: Sequence[CxrModel],
    tokenizer: PreTrainedTokenizerBase,
    trained_on: Sequence[TrainedOn],
) -> None:
    """Write a bundle, which nothing changes afterwards; `bundle.json` goes last, its presence means complete."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        tokenizer.save_pretrained(folder / TOKENIZER)
        weights = _together(models).state_dict()
        save_file({name: value.contiguous() for name, value in weights.items()}, folder / WEIGHTS)
        save_trained_on(trained_on, folder / TRAINED_ON)
        storage.upload_folder(folder)
    data = json.dumps(info.model_dump(mode="json"), indent=1, sort_keys=True) + "\n"
    storage.write(BUNDLE, data.encode())


def load_bundle(storage: Storage, *, check: Callable[[Mapping[str, str]], None] | None = None) -> Bundle:
    """Read a bundle.

    Args:
        check: refuses files by their SHA-256 (seal.check_files), before any of them is believed.

    Raises:
        UserError: none here, another schema version, weights that do not fit, a damaged tokenizer, or pixels made by
            another implementation.
    """
    with local_folder(storage) as folder:
        files = file_hashes(folder)
        if check is not None:
            check(files)
        info = read_info(storage)
        digest = bundle_hash(files, where=storage.uri)
        num_pathologies = len(info.pathologies)
        models = [CxrModel(info.architecture, num_pathologies=num_pathologies) for _ in range(info.num_models)]
        try:
            _together(models).load_state_dict(load_file(folder / WEIGHTS))
        except (RuntimeError, SafetensorError) as error:
            raise _damaged("bad-weights", "weights do not fit the bundle", f"{storage.uri}/{WEIGHTS}", error) from None
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder / TOKENIZER)
        except Exception as error:  # its formats raise errors of all kinds, among them plain Exception
            raise _damaged("bad-tokenizer", "tokenizer is damaged", f"{storage.uri}/{TOKENIZER}", error) from None
    return Bundle(info, tuple(model.eval() for model in models), tokenizer, digest)


def _together(models: Sequence[CxrModel]) -> nn.Module:
    """What names the weights: a model's own names, behind the model's number where there are several."""
    return models[0] if len(models) == 1 else nn.ModuleList(models)


def _damaged(code: str, what: str, where: str, error: Exception) -> UserError:
    found = next(iter(str(error).splitlines()), "") or type(error).__name__
    return UserError(code, what, where=where, found=found, remedy="Train again, or restore the file.")
