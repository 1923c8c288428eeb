"""The vision encoder: every supported type's map beside transformers' own, its training, its bundle and its sizes."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoBackbone, AutoConfig, AutoModel

from components.cxr.errors import UserError
from components.cxr.model.architecture import Normalization, VisionConfig
from components.cxr.model.dropout import key_dropout, keyed
from components.cxr.model.encoder_config import complete_values, library_config
from components.cxr.model.vision import MODEL_TYPES, VisionEncoder, check_size
from components.train.pretrained_vision import load_pretrained_vision
from tests.components.cxr.model.vision_types import TINY

SIZE = 64
MAPS = {  # what last_hidden_state has to be turned into, by hand
    "efficientnet": 0, "mobilenet_v2": 0, "regnet": 0, "segformer": 0,
    "clip_vision_model": 1, "deit": 2, "ijepa": 0, "siglip_vision_model": 0, "vit": 1, "vit_msn": 1,
}  # fmt: skip


def films(num: int = 2, size: int = SIZE) -> Tensor:
    return torch.randint(0, 256, (num, size, size), generator=torch.Generator().manual_seed(3), dtype=torch.uint8)


def saved(model_type: str, folder: Path) -> torch.nn.Module:
    """A checkpoint of random weights, with three input channels, as its own library model."""
    torch.manual_seed(1)
    model = AutoModel.from_config(AutoConfig.for_model(model_type, **TINY[model_type]))
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    spread = torch.nn.init.kaiming_normal_ if norms else torch.nn.init.xavier_normal_
    for parameter in model.parameters():
        if parameter.dim() > 1 and parameter.numel():
            spread(parameter)
    if norms:
        for norm in norms:
            norm.momentum = 1.0
        model.train()(_three_channels())  # they learn their statistics
    model.save_pretrained(folder)
    return model.eval()


def _three_channels() -> Tensor:
    """Films as the library sees them."""
    return ((films().float() / 255 - 0.5) / 0.25)[:, None].expand(-1, 3, -1, -1)


def loaded(model_type: str, folder: Path) -> VisionEncoder:
    values = complete_values(AutoConfig.from_pretrained(folder))
    encoder = VisionEncoder(VisionConfig(model_type=model_type, pretrained=str(folder), config=values))
    load_pretrained_vision(encoder, str(folder))
    return encoder.eval()


def test_every_supported_type_is_tried() -> None:
    assert set(TINY) == set(MODEL_TYPES)


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_a_checkpoints_map_is_the_librarys(model_type: str, tmp_path: Path) -> None:
    reference = saved(model_type, tmp_path)
    pixels = _three_channels()
    with torch.no_grad():
        if model_type in MAPS:
            options = {"interpolate_pos_encoding": True} if TINY[model_type].get("patch_size") else {}
            want = reference(pixels, **options).last_hidden_state
            if want.dim() == 3:
                want = want[:, MAPS[model_type] :].transpose(1, 2).reshape(2, -1, SIZE // 8, SIZE // 8)
        else:
            backbone = type(AutoBackbone.from_config(AutoConfig.from_pretrained(tmp_path)))
            want = backbone.from_pretrained(tmp_path).eval()(pixels).feature_maps[-1]
        encoder = loaded(model_type, tmp_path)
        found = encoder(films())
    assert found.shape == want.shape
    assert found.shape[1] == encoder.channels
    assert want.std() > 1e-4
    assert torch.allclose(found, want, atol=1e-6)


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_every_parameter_learns_and_the_map_depends_on_the_film(model_type: str) -> None:
    torch.manual_seed(0)
    encoder = VisionEncoder(VisionConfig(model_type=model_type, config={"num_channels": 1, **TINY[model_type]}))
    key_dropout(encoder)
    encoder.train()
    with keyed(torch.tensor([5, 9])):
        map_NChw = encoder(films())
    assert not torch.allclose(map_NChw[0], map_NChw[1])
    map_NChw.square().sum().backward()
    blind = [name for name, p in encoder.named_parameters() if p.requires_grad and p.grad is None]
    assert not blind
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in encoder.modules())


@pytest.mark.parametrize("model_type", ["beit", "siglip_vision_model", "swin", "swinv2", "vit"])
def test_what_is_dropped_depends_on_the_films_keys_alone(model_type: str) -> None:
    torch.manual_seed(0)
    encoder = VisionEncoder(VisionConfig(model_type=model_type, config={"num_channels": 1, **TINY[model_type]}))
    key_dropout(encoder)
    encoder.train()

    def seen(keys: list[int], shown: Tensor) -> Tensor:
        with torch.no_grad(), keyed(torch.tensor(keys)):
            return encoder(shown)

    both = seen([5, 9], films())
    assert torch.allclose(both[1:], seen([9], films()[1:]), atol=1e-5), "whatever the neighbors are"
    others = torch.cat([seen([key], films()[1:]) for key in range(8)])
    assert any(not torch.allclose(other, both[1], atol=1e-3) for other in others), "and other keys drop others"


@pytest.mark.parametrize("model_type", MODEL_TYPES)
@pytest.mark.parametrize("kind", ["default", "tiny"])
def test_a_configuration_comes_back_exactly_from_json_and_from_kfp(model_type: str, kind: str) -> None:
    config = AutoConfig.for_model(model_type, **(TINY[model_type] if kind == "tiny" else {}))
    values = complete_values(config)
    for given in (values, _floats(values), _whole(values)):
        kept = VisionConfig.model_validate_json(VisionConfig(model_type=model_type, config=given).model_dump_json())
        again = library_config(kept).to_dict()
        assert _with_types(again) == _with_types(config.to_dict())


def _floats(value: Any) -> Any:
    """As KFP passes a dict: numbers of its JSON are doubles."""
    if isinstance(value, dict):
        return {name: _floats(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_floats(each) for each in value]
    return float(value) if type(value) is int else value


def _whole(value: Any) -> Any:
    """As JSON of JavaScript writes 1.0."""
    if isinstance(value, dict):
        return {name: _whole(each) for name, each in value.items()}
    return int(value) if type(value) is float and value.is_integer() else value


def _with_types(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _with_types(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_with_types(each) for each in value]
    return type(value).__name__, value


def test_a_type_without_a_map_is_one_error_with_those_that_have() -> None:
    with pytest.raises(UserError, match=r"no encoder of films with a feature map.*levit.*convnext.*dinov2.*vit"):
        VisionEncoder(VisionConfig(model_type="levit"))


@pytest.mark.parametrize(
    ("model_type", "values", "size", "expected"),
    [
        ("dinov2", {"patch_size": 14}, 64, "a multiple of 14, such as 56 or 70"),
        ("vit", {"patch_size": 16}, 10, "a multiple of 16, such as 16"),
        ("siglip_vision_model", {"patch_size": 14}, 450, "a multiple of 14, such as 448 or 462"),
        ("hiera", {"image_size": [224, 224]}, 256, "224"),
        ("swin", {"use_absolute_embeddings": True, "image_size": 224}, 256, "224"),
    ],
)
def test_a_size_that_does_not_fit_names_the_nearest(model_type: str, values: dict, size: int, expected: str) -> None:
    with pytest.raises(UserError, match=rf"preprocess\.pixels\.size.*found {size}.*expected {expected}"):
        check_size(VisionConfig(model_type=model_type, config=values), size)


@pytest.mark.parametrize("patch_size", [0, [16, 16]])
def test_patches_of_no_size_are_one_error(patch_size: object) -> None:
    with pytest.raises(UserError, match=r"config\.patch_size; found .*expected a whole number, at least 1"):
        check_size(VisionConfig(model_type="vit", config={"patch_size": patch_size}), 64)


@pytest.mark.parametrize(("model_type", "size"), [("dinov2", 224), ("vit", 224), ("resnet", 61), ("swin", 100)])
def test_a_size_that_fits_passes(model_type: str, size: int) -> None:
    check_size(VisionConfig(model_type=model_type), size)


@pytest.mark.parametrize("model_type", ["dinov2", "siglip_vision_model", "swin", "vit"])
def test_films_of_another_size_than_the_checkpoints_get_interpolated_positions(model_type: str) -> None:
    torch.manual_seed(0)
    encoder = VisionEncoder(VisionConfig(model_type=model_type, config=TINY[model_type])).eval()
    with torch.no_grad():
        assert encoder(films(size=96)).shape[-1] * 32 == encoder(films(size=32)).shape[-1] * 96


def test_gray_values_are_normalized_per_channel() -> None:
    normalization = Normalization(mean=(0.1, 0.5, 0.9), std=(0.5, 0.25, 1.0))
    config = VisionConfig(model_type="resnet", config=TINY["resnet"], normalization=normalization)
    encoder = VisionEncoder(config).eval()
    seen = []
    encoder.encoder.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    encoder(films())
    gray = films().float() / 255
    for channel, (mean, std) in enumerate(zip(normalization.mean, normalization.std, strict=True)):
        assert torch.allclose(seen[0][:, channel], (gray - mean) / std)


def test_as_many_means_as_channels() -> None:
    normalization = Normalization(mean=(0.1, 0.5), std=(0.5, 0.25))
    config = VisionConfig(model_type="resnet", config=TINY["resnet"], normalization=normalization)
    with pytest.raises(UserError, match=r"normalization\.mean.*2 values.*1 or 3"):
        VisionEncoder(config)
