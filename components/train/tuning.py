"""Which of the encoders' weights learn, and when; where their layers lie."""

from __future__ import annotations

from torch import nn
from transformers import PreTrainedModel

from components.cxr.errors import UserError
from components.cxr.model.dropout import recomputed_with_keys
from components.cxr.model.network import CxrModel
from components.train.config import EncoderTuning, TrainConfig

__all__ = ["Freezer", "checkpoint_gradients", "layer_depths"]


class Freezer:
    """Takes and gives the gradients of encoders that are frozen for a while.

    CxrModel keeps an encoder without gradients in evaluation mode. Weights that never have one (a mask's token, which
    no answer depends on) stay so.
    """

    def __init__(self, model: CxrModel, config: TrainConfig) -> None:
        self._frozen: list[tuple[EncoderTuning, list[nn.Parameter]]] = [
            (tuning, [parameter for parameter in encoder.parameters() if parameter.requires_grad])
            for encoder, tuning in ((model.vision, config.tuning.vision), (model.text, config.tuning.text))
            if tuning.frozen
        ]

    def enter(self, epoch: int) -> bool:
        """Set what learns in `epoch` (from 0).

        Returns:
            Whether anything changed: data parallelism must then be told which weights take part.
        """
        changed = False
        for tuning, parameters in self._frozen:
            learns = tuning.unfreeze_after is not None and epoch >= tuning.unfreeze_after
            for parameter in parameters:
                changed |= parameter.requires_grad != learns
                parameter.requires_grad_(learns)
        return changed


def layer_depths(encoder: nn.Module) -> dict[nn.Parameter, int]:
    """The layer of every parameter: 0 before the first, 1 to n in them, n behind the last.

    The layers are the children of the outermost module list with the most weights: a Transformer's blocks, a CNN's
    stages. What is registered before it (embeddings, a stem) counts as before, all else (the last norm) as behind.
    """
    layers = max(_outermost_lists(encoder), key=_num_weights, default=nn.ModuleList())
    depths = {parameter: depth for depth, layer in enumerate(layers, start=1) for parameter in layer.parameters()}
    last, met = len(layers), not depths
    for parameter in encoder.parameters():
        met = met or parameter in depths
        depths.setdefault(parameter, last if met else 0)
    return depths


def checkpoint_gradients(model: CxrModel, config: TrainConfig) -> None:
    """Have the encoders compute their layers' inside again for the gradient (Chen et al. 2016), with the same dropout.

    Raises:
        UserError: an encoder that the transformers library cannot do that with.
    """
    for name in ("vision", "text"):
        if not getattr(config.tuning, name).gradient_checkpointing:
            continue
        for module in getattr(model, name).modules():
            if isinstance(module, PreTrainedModel):
                if not module.supports_gradient_checkpointing:
                    raise UserError(
                        "no-gradient-checkpointing",
                        "this encoder cannot compute its layers again",
                        where=f"train.tuning.{name}.gradient_checkpointing",
                        found=getattr(config.architecture, name).model_type,
                        remedy="Set it to false.",
                    )
                module.activation_checkpointing_enable(
                    activation_checkpointing_kwargs={"use_reentrant": False, "context_fn": recomputed_with_keys}
                )
                module.disable_input_require_grads()  # or a frozen encoder would run with gradients
                break


def _outermost_lists(module: nn.Module) -> list[nn.ModuleList]:
    found: list[nn.ModuleList] = []
    for child in module.children():
        found += [child] if isinstance(child, nn.ModuleList) else _outermost_lists(child)
    return found


def _num_weights(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
