"""Everything the loop needs, built from configuration and data: network and tokenizer."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedTokenizerBase

from components.cxr.bundle import Bundle
from components.cxr.errors import UserError
from components.cxr.model.architecture import Architecture, EncoderConfig
from components.cxr.model.encoder_config import complete_values, library_config
from components.cxr.model.network import CxrModel
from components.cxr.storage.storage import open_storage
from components.train.config import TrainConfig
from components.train.pretrained_vision import (
    check_complete,
    load_pretrained_vision,
    pretrained_normalization,
    pretrained_vision_config,
)
from components.train.tokenizer import learn_tokenizer

__all__ = ["build_model", "continued_model", "log_class_shares"]


def build_model(
    config: TrainConfig,
    *,
    texts: list[str],
    film_size: int,
    num_pathologies: int,
    patients: Sequence[str] | None = None,
) -> tuple[Architecture, CxrModel, PreTrainedTokenizerBase]:
    """The network with its initial weights, its complete architecture and its tokenizer.

    Args:
        texts: the training studies' text inputs; only they shape the vocabulary.
        film_size: side of the films in pixels.
        patients: whose each text is; by default every text is of a patient of its own.

    Raises:
        UserError: an encoder that is none, or pretrained weights that are damaged, incomplete or without tokenizer or
            padding.
    """
    architecture, patches = config.architecture, config.architecture.patches
    if patches != "none":
        patches = patches.model_copy(update={"side": min(patches.side, film_size)})
    with _local_weights(architecture.vision) as vision_source, _local_weights(architecture.text) as text_source:
        for encoder, where in ((architecture.vision, "vision"), (architecture.text, "text")):
            if encoder.pretrained is None:
                _check_fields(encoder, where=f"train.architecture.{where}")
        if text_source is None:
            tokenizer: PreTrainedTokenizerBase = learn_tokenizer(
                texts,
                patients=patients,
                vocabulary_size=config.vocabulary_size,
                max_tokens=architecture.max_tokens,
            )
            text_config = {
                **architecture.text.config,
                "vocab_size": len(tokenizer),
                "pad_token_id": tokenizer.pad_token_id,
            }
            for name in ("hidden_dropout_prob", "attention_probs_dropout_prob"):
                text_config.setdefault(name, architecture.fusion.dropout)
        else:
            with _readable(architecture, "text"):
                tokenizer = AutoTokenizer.from_pretrained(text_source)
                text_config = AutoConfig.from_pretrained(text_source).to_diff_dict()
            if len(tokenizer) <= len(set(tokenizer.all_special_ids)):  # what the library makes where there is none
                raise UserError(
                    "no-tokenizer",
                    "the pretrained weights come without their tokenizer",
                    where="train.architecture.text.pretrained",
                    found=architecture.text.pretrained,
                    expected="tokenizer.json beside config.json",
                )
            if tokenizer.pad_token is None:
                raise UserError(
                    "no-padding",
                    "the pretrained weights' tokenizer has no token for padding",
                    where="train.architecture.text.pretrained",
                    found=architecture.text.pretrained,
                    expected="an encoder of text, such as BERT; GPT-2 and its like are none",
                )
        normalization = architecture.vision.normalization
        if vision_source is None:
            vision_config = {"num_channels": 1, **architecture.vision.config}
        else:
            with _readable(architecture, "vision"):
                vision_config = pretrained_vision_config(vision_source)
                normalization = normalization or pretrained_normalization(vision_source)
        vision = {**_completed(architecture.vision, vision_config), "normalization": normalization}
        architecture = architecture.model_copy(
            update={
                "patches": patches,
                "vision": architecture.vision.model_copy(update=vision),
                "text": architecture.text.model_copy(update=_completed(architecture.text, text_config)),
            }
        )
        model = CxrModel(architecture, num_pathologies=num_pathologies)
        if vision_source is not None:
            with _readable(architecture, "vision"):
                load_pretrained_vision(model.vision, vision_source)
        if text_source is not None:
            with _readable(architecture, "text"):
                loaded, info = AutoModel.from_pretrained(text_source, output_loading_info=True)
            read = model.text.state_dict().keys()  # the library fills what is missing with random numbers
            check_complete([name for name in info["missing_keys"] if name in read], where=text_source)
            model.text.load_state_dict(loaded.state_dict(), strict=False)
    return architecture, model, tokenizer


def continued_model(bundle: Bundle, *, pathologies: Sequence[str], log_share_P3: Tensor) -> CxrModel:
    """The network of a bundle (the first, where it has several) for these pathologies.

    Those of the same name keep their answers, moved by what their classes' shares here are above those where the bundle
    was trained, which is all that changes where the findings look the same (Saerens et al. 2002). The rest is new.
    """
    model = CxrModel(bundle.info.architecture, num_pathologies=len(pathologies))
    model.start_at(log_share_P3)
    known = bundle.info.pathologies
    shared = [(p, known.index(name)) for p, name in enumerate(pathologies) if name in known]
    model.continue_from(bundle.models[0], shared)
    return model


def log_class_shares(target_SP: Tensor, weight_SP: Tensor) -> Tensor:
    """Logarithm of the weighted share of each class (P, 3), in nats; one study more is counted in each class.

    Args:
        target_SP: int64 class 0 negative, 1 uncertain, 2 positive, -1 none.
        weight_SP: float32 in [0, 1].

    >>> log_class_shares(torch.tensor([[0], [0], [2], [-1]]), torch.ones(4, 1)).exp()
    tensor([[0.5000, 0.1667, 0.3333]])
    """
    counts_P3 = torch.stack([((target_SP == c) * weight_SP).sum(dim=0) for c in range(3)], dim=1) + 1.0
    return (counts_P3 / counts_P3.sum(dim=1, keepdim=True)).log()


def _check_fields(encoder: EncoderConfig, *, where: str) -> None:
    """Refuse fields that the library would keep and never read.

    Raises:
        UserError: naming them.
    """
    known = library_config(encoder.model_copy(update={"config": {}}), where=where)
    unknown = [name for name in encoder.config if not hasattr(known, name)]
    if unknown:
        raise UserError(
            "unknown-encoder-field",
            f"no field of the transformers library's {encoder.model_type}",
            where=f"{where}.config",
            found=", ".join(unknown),
            expected=f"fields of {type(known).__name__}",
        )


def _completed(encoder: EncoderConfig, values: dict[str, Any]) -> dict[str, Any]:
    """Type and whole transformers configuration of the encoder, so that a bundle never needs a hub."""
    model_type = str(values.pop("model_type", encoder.model_type))
    named = encoder.model_copy(update={"model_type": model_type, "config": values})
    return {"model_type": model_type, "config": complete_values(library_config(named))}


@contextmanager
def _readable(architecture: Architecture, name: Literal["vision", "text"]) -> Iterator[None]:
    """Within, files of pretrained weights are read, whose libraries raise errors of all kinds."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        source = getattr(architecture, name).pretrained
        raise UserError(
            "damaged-pretrained-weights",
            "pretrained weights cannot be read",
            where=f"train.architecture.{name}.pretrained",
            found=f"{source} with {next(iter(str(error).splitlines()), '') or type(error).__name__}",
            remedy="Get its files anew; in a clone without Git LFS, weights are lines of text.",
        ) from None


@contextmanager
def _local_weights(encoder: EncoderConfig) -> Iterator[str | None]:
    """Hub id or local folder as it is; a gs:// folder as a temporary copy; None when nothing is pretrained."""
    source = encoder.pretrained
    if source is None or not source.startswith("gs://"):
        yield source
        return
    with tempfile.TemporaryDirectory() as temporary:
        open_storage(source).download_folder(Path(temporary))
        yield temporary
