"""Low-rank adaptation (Hu et al. 2021): what a pretrained layer learns is a product of two thin matrices."""

from __future__ import annotations

from torch import nn

from components.cxr.errors import UserError
from components.cxr.model.network import CxrModel
from components.train.config import TrainConfig

__all__ = ["adapt", "merge"]


def adapt(model: CxrModel, config: TrainConfig) -> None:
    """Give every linear layer W of the encoders with `lora` a learned term, W x + alpha / rank B A x; W itself stays.

    B starts at 0, so the answer is the same at first. Dropout on x, which others add, is torch's own: it would draw
    from a process's stream, and two processes would not give the weights of one.

    Raises:
        UserError: an encoder without a linear layer.
    """
    for name in ("vision", "text"):
        lora, encoder = getattr(config.tuning, name).lora, getattr(model, name)
        if lora is None:
            continue
        if not any(isinstance(module, nn.Linear) for module in encoder.modules()):
            raise UserError(
                "no-linear-layers",
                "this encoder has no linear layer that LoRA could adapt",
                where=f"train.tuning.{name}.lora",
                found=getattr(config.architecture, name).model_type,
                remedy="Set it to null, and learning_rate and layer_decay for a gentle training of the whole.",
            )
        from peft import LoraConfig, inject_adapter_in_model  # importing it takes 6 s

        peft_config = LoraConfig(r=lora.rank, lora_alpha=lora.alpha, lora_dropout=0.0, target_modules="all-linear")
        inject_adapter_in_model(peft_config, encoder)


def merge(model: CxrModel) -> None:
    """Make every adapted layer one with the weights W + alpha / rank B A; nothing of peft is left in the model."""
    for name, layer in list(model.named_modules()):
        if hasattr(layer, "lora_A"):
            layer.merge()
            model.set_submodule(name, layer.get_base_layer())
