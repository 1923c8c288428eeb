"""The text encoder: any model of the transformers library that answers a sequence of tokens with one vector per token.

Shape letters: B texts, T tokens, C channels.
"""

from __future__ import annotations

from transformers import AutoModel, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_MAPPING

from components.cxr.errors import UserError
from components.cxr.model.architecture import EncoderConfig
from components.cxr.model.dropout import ATTENTION
from components.cxr.model.encoder_config import accepted, library_config

__all__ = ["text_encoder"]

_NOT_KEYED = ("deberta", "deberta-v2")
"""Model types that drop units of a table of positions, which all studies share and no study's key can choose."""


def text_encoder(encoder: EncoderConfig) -> PreTrainedModel:
    """The encoder with random weights, whose `last_hidden_state` is (B, T, C) with C its configuration's `hidden_size`.

    Layers behind a pooled output go, as nothing reads it and they would never see a gradient.

    Raises:
        UserError: a model type without such an answer to text alone, or values that do not go together.
    """
    config = library_config(encoder, where="train.architecture.text")
    model_class = MODEL_MAPPING.get(type(config), None)
    unfit = model_class is None or model_class.main_input_name != "input_ids" or config.is_encoder_decoder
    if unfit or encoder.model_type in _NOT_KEYED:
        raise UserError(
            "unusable-encoder",
            "not an encoder of text",
            where="train.architecture.text",
            found=encoder.model_type,
            expected="a type with one vector per token, such as bert, roberta, distilbert, electra, mpnet, modernbert",
        )
    # Classes that make their own attention read the mask that a registered one gets in another way, without an error:
    # MPNet's answer was off by 0.003 of 1.
    registered = model_class._supports_attention_backend and model_class._supports_sdpa
    with accepted(encoder, where="train.architecture.text"):
        model: PreTrainedModel = AutoModel.from_config(config, attn_implementation=ATTENTION if registered else "eager")
    if getattr(model, "pooler", None) is not None:
        model.register_module("pooler", None)
    return model
