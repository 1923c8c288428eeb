"""A tiny configuration of every supported vision encoder, each with another size of map than the defaults have."""

from typing import Any

VIT: dict[str, Any] = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48, "image_size": 32,
    "patch_size": 8,
}  # fmt: skip
STAGES: dict[str, Any] = {"hidden_sizes": [8, 16], "depths": [1, 1]}
PYRAMID: dict[str, Any] = {
    **STAGES, "num_encoder_blocks": 2, "sr_ratios": [2, 1], "patch_sizes": [7, 3], "strides": [4, 2],
    "num_attention_heads": [1, 2], "mlp_ratios": [2, 2],
}  # fmt: skip
WINDOWS: dict[str, Any] = {
    "embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2], "window_size": 2, "image_size": 32, "drop_path_rate": 0.5,
    "attention_probs_dropout_prob": 0.25,
}  # fmt: skip

TINY: dict[str, dict[str, Any]] = {
    "beit": {**VIT, "drop_path_rate": 0.5},
    "bit": {**STAGES, "embedding_size": 8, "num_groups": 2},
    "clip_vision_model": VIT,
    "convnext": {**STAGES, "num_stages": 2, "layer_scale_init_value": 1.0},
    "convnextv2": {**STAGES, "num_stages": 2},
    "deit": VIT,
    "dinov2": {**VIT, "layerscale_value": 1.0},
    "dinov2_with_registers": VIT,
    "dinov3_convnext": {"hidden_sizes": [8, 16, 16, 32], "depths": [1, 1, 1, 1]},
    "dinov3_vit": VIT,
    "efficientnet": {
        "width_coefficient": 0.25, "depth_coefficient": 0.2, "image_size": 64, "hidden_dim": 320,
        "num_hidden_layers": 16, "batch_norm_eps": 1e-5,
    },
    "focalnet": {
        "embed_dim": 8, **STAGES, "focal_levels": [1, 1], "focal_windows": [3, 3], "image_size": 32,
    },
    "hiera": {
        "embed_dim": 8, "image_size": [64, 64], "depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2],
    },
    "ijepa": VIT,
    "mobilenet_v2": {"depth_multiplier": 0.1, "image_size": 32},
    "pvt_v2": PYRAMID,
    "regnet": {**STAGES, "embedding_size": 8, "groups_width": 8},
    "resnet": {**STAGES, "embedding_size": 8, "layer_type": "basic"},
    "segformer": PYRAMID,
    "siglip_vision_model": {**VIT, "attention_dropout": 0.25},
    "swin": WINDOWS,
    "swinv2": WINDOWS,
    "vit": {**VIT, "hidden_dropout_prob": 0.25},
    "vit_msn": VIT,
}  # fmt: skip
