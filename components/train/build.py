"""Everything the loop needs, built from configuration and data: network, tokenizer, optimizer."""

from __future__ import annotations

import math
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedTokenizerBase

from components.cxr.errors import UserError
from components.cxr.model.architecture import Architecture, EncoderConfig
from components.cxr.model.network import CxrModel
from components.cxr.storage.storage import open_storage
from components.train.config import TrainConfig
from components.train.tokenizer import learn_tokenizer

__all__ = ["build_model", "build_optimizer", "git_revision", "learning_rate_factor"]


def build_model(
    config: TrainConfig, *, texts: list[str], num_pathologies: int
) -> tuple[Architecture, CxrModel, PreTrainedTokenizerBase]:
    """The network with its initial weights, its complete architecture and its tokenizer.

    Args:
        texts: the training studies' text inputs; only they shape the vocabulary.
    """
    architecture = config.architecture
    with _local_weights(architecture.vision) as vision_source, _local_weights(architecture.text) as text_source:
        if text_source is None:
            tokenizer: PreTrainedTokenizerBase = learn_tokenizer(
                (text for text in texts if text),
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
            tokenizer = AutoTokenizer.from_pretrained(text_source)
            text_config = AutoConfig.from_pretrained(text_source).to_diff_dict()
        if vision_source is None:
            vision_config = {"num_channels": 1, **architecture.vision.config}
        else:
            vision_config = AutoConfig.from_pretrained(vision_source).to_diff_dict()
        architecture = architecture.model_copy(
            update={
                "vision": _complete(architecture.vision, vision_config),
                "text": _complete(architecture.text, text_config),
            }
        )
        model = CxrModel(architecture, num_pathologies=num_pathologies)
        for module, source in ((model.vision, vision_source), (model.text, text_source)):
            if source is not None:
                missing = module.load_state_dict(
                    AutoModel.from_pretrained(source).state_dict(), strict=False
                ).missing_keys
                if missing:
                    raise UserError(
                        "incomplete-weights",
                        "pretrained weights are incomplete",
                        where=source,
                        found=f"no {missing[0]}",
                    )
    return architecture, model, tokenizer


def build_optimizer(model: CxrModel, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter 2019); each group keeps its peak in `peak`.

    epsilon is 1e-6: parameters whose true gradient is 0 (keys' biases) would otherwise turn rounding into steps, and
    two processes would drift from one.
    """
    architecture = config.architecture
    groups = []
    for module, peak in (
        (model.vision, config.pretrained_learning_rate if architecture.vision.pretrained else config.learning_rate),
        (model.text, config.pretrained_learning_rate if architecture.text.pretrained else config.learning_rate),
        (None, config.learning_rate),
    ):
        encoders = {id(p) for encoder in (model.vision, model.text) for p in encoder.parameters()}
        parameters = module.parameters() if module else (p for p in model.parameters() if id(p) not in encoders)
        decayed, plain = _split_by_decay(list(parameters), model)
        groups += [
            {"params": decayed, "weight_decay": config.weight_decay, "peak": peak},
            {"params": plain, "weight_decay": 0.0, "peak": peak},
        ]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=config.learning_rate, eps=1e-6)


def learning_rate_factor(step: int, *, num_steps: int, warm_up: float) -> float:
    """Fraction of the peak at `step` (from 0): linear warm-up, then cosine to 0 (Loshchilov and Hutter 2017).

    >>> [round(learning_rate_factor(step, num_steps=10, warm_up=0.2), 2) for step in (0, 1, 2, 6, 9)]
    [0.5, 1.0, 1.0, 0.5, 0.04]
    """
    warm_steps = max(1, round(warm_up * num_steps))
    if step < warm_steps:
        return (step + 1) / warm_steps
    return 0.5 * (1.0 + math.cos(math.pi * (step - warm_steps) / max(1, num_steps - warm_steps)))


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


def _split_by_decay(parameters: list[nn.Parameter], model: CxrModel) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    embeddings = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)} | {id(model.queries_PD)}
    decayed = [p for p in parameters if p.dim() >= 2 and id(p) not in embeddings]
    chosen = {id(p) for p in decayed}
    return decayed, [p for p in parameters if id(p) not in chosen]


def _complete(encoder: EncoderConfig, values: dict[str, Any]) -> EncoderConfig:
    """The encoder with its whole transformers configuration, so that a bundle never needs a hub."""
    model_type = str(values.get("model_type", encoder.model_type))
    values = {name: value for name, value in values.items() if name not in ("model_type", "transformers_version")}
    try:
        defaults = AutoConfig.for_model(model_type).to_dict()
        values = {n: float(v) if isinstance(defaults.get(n), float) else v for n, v in values.items()}  # 1 for 1.0
        config = AutoConfig.for_model(model_type, **values)
    except (ValueError, TypeError) as error:
        detail = str(error).splitlines()[0][:120]
        raise UserError(
            "unusable-encoder", "unusable encoder", where=f"train.architecture: {model_type}", found=detail
        ) from None
    kept = {
        name: value
        for name, value in config.to_diff_dict().items()
        if name not in ("model_type", "transformers_version")
    }
    return EncoderConfig(model_type=model_type, pretrained=encoder.pretrained, config=kept)


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
