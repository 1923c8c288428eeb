"""Whether the encoders can read what preprocess is to make, asked before it takes hours."""

from __future__ import annotations

from pathlib import Path

from components.cxr.model.architecture import Architecture, EncoderConfig
from components.cxr.storage.storage import Root
from components.preprocess.config import PreprocessConfig
from components.train.config import TrainConfig
from pipeline.config import PipelineConfig

__all__ = ["check_encoders"]

DEFAULT = Architecture()


def check_encoders(config: PipelineConfig, *, here: bool) -> None:
    """Refuse a size of films or a length of texts that the encoders cannot take, before any data are read.

    Training refuses them as well, after preprocess. torch, whose import takes seconds, is left alone where the
    encoders are the default ones: that of films takes any size.

    Args:
        here: whether the run sees the folders and the network of this machine. Pretrained weights that only its
            containers see are left to training, and so is everything where the train step is not installed.

    Raises:
        UserError: naming `preprocess.pixels.size` or `train.architecture.max_tokens` and what would fit, or no such
            weights or bundle to start from.
    """
    size = PreprocessConfig.parse(config.arguments["preprocess"], where="preprocess").pixels.size
    train = TrainConfig.parse(config.arguments["train"], where="train")
    architecture = train.architecture
    if (source := train.fine_tune_from) is not None:
        if not here and not Path(source).is_dir():
            return
        try:
            from components.train.fine_tuning import complete_architecture, with_origin
        except ImportError:
            return
        architecture = complete_architecture(with_origin(train, root=Root(config.root)))
    vision, text = architecture.vision, architecture.text
    takes_any_size = vision.pretrained is None and vision.model_type == DEFAULT.vision.model_type
    if takes_any_size and text == DEFAULT.text and architecture.max_tokens <= DEFAULT.max_tokens:
        return
    try:
        from components.train.pretrained import check_film_size, check_positions
    except ImportError:
        return
    if _is_seen(vision, here=here):
        check_film_size(architecture, size)
    if _is_seen(text, here=here):
        check_positions(architecture)


def _is_seen(encoder: EncoderConfig, *, here: bool) -> bool:
    return here or encoder.pretrained is None or Path(encoder.pretrained).is_dir()
