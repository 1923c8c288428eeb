"""Vision encoders that others trained: their weights, their gray values, and a bundle that needs them no more."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel, PreTrainedTokenizerBase, SiglipConfig, SiglipModel

from components.cxr.bundle import load_bundle, save_bundle
from components.cxr.bundle_info import describe
from components.cxr.errors import UserError
from components.cxr.model.architecture import Architecture, Normalization, VisionConfig
from components.cxr.model.batch import Batch, Study, collate
from components.cxr.model.vision import MODEL_TYPES
from components.cxr.shards import LoadedManifest
from components.cxr.storage.storage import Root, Storage, open_storage
from components.train.build import build_model
from components.train.config import TrainConfig
from components.train.launch import launch
from components.train.pretrained import check_film_size
from components.train.pretrained_source import by_content
from components.train.pretrained_vision import pretrained_normalization
from components.train.train import train
from tests.components.cxr.model.vision_types import TINY

TEXTS = ["cough and fever", "shortness of breath", "chest pain"]
RAD_DINO = {
    "crop_size": {"height": 518, "width": 518}, "do_center_crop": True, "do_convert_rgb": True, "do_normalize": True,
    "do_rescale": True, "do_resize": True, "image_mean": [0.5307, 0.5307, 0.5307],
    "image_std": [0.2583, 0.2583, 0.2583],
    "image_processor_type": "BitImageProcessor", "resample": 3, "rescale_factor": 0.00392156862745098,
    "size": {"shortest_edge": 518},
}  # fmt: skip


def checkpoint(folder: Path, model_type: str, processor: dict | None = None) -> Path:
    torch.manual_seed(1)
    AutoModel.from_config(AutoConfig.for_model(model_type, **TINY[model_type])).save_pretrained(folder)
    if processor is not None:
        (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return folder


def config_of(folder: Path | str, **changes: object) -> TrainConfig:
    vision = VisionConfig(model_type="resnet", pretrained=str(folder), **changes)
    return TrainConfig(architecture=Architecture(vision=vision))


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_a_bundle_of_any_encoder_answers_the_same_without_the_checkpoint(
    model_type: str, tmp_path: Path, untrained_bundle: Storage
) -> None:
    folder = checkpoint(tmp_path / "weights", model_type, RAD_DINO)
    architecture, model, tokenizer = build_model(config_of(folder), texts=TEXTS, film_size=64, num_pathologies=4)
    assert architecture.vision.model_type == model_type
    assert architecture.vision.normalization == Normalization(mean=(0.5307,) * 3, std=(0.2583,) * 3)
    batch = _batch(tokenizer)
    model.train()
    model(batch).square().sum().backward()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter -= 1e-3 * parameter.grad.sign()
        want = model.eval()(batch)
    shutil.rmtree(folder)
    bundle, described = open_storage(tmp_path / "bundle"), describe(untrained_bundle)
    changes = {"architecture": architecture, "pathologies": described.info.pathologies[:1] * 4}
    info = described.info.model_copy(update=changes)
    save_bundle(bundle, info=info, models=[model], tokenizer=tokenizer, trained_on=described.trained_on)
    again = load_bundle(bundle)
    with torch.no_grad():
        assert torch.equal(again.model(_batch(again.tokenizer)), want)


def _batch(tokenizer: PreTrainedTokenizerBase) -> Batch:
    rng = np.random.default_rng(0)
    films = [rng.integers(0, 256, (64, 64), dtype=np.uint8) for _ in range(3)]
    studies = [
        Study(films=films[:2], view_positions=["PA", "LATERAL"], text=TEXTS[0], age_years=60.0, sex="F"),
        Study(films=films[2:], view_positions=[None], text="", age_years=None, sex=None),
    ]
    return collate(studies, tokenizer=tokenizer, max_tokens=16, size=64)


@pytest.mark.parametrize("model_type", ["dinov2", "resnet", "siglip_vision_model", "swin"])
def test_an_encoder_starts_from_the_checkpoints_weights(model_type: str, tmp_path: Path) -> None:
    folder = checkpoint(tmp_path, model_type)
    _, model, _ = build_model(config_of(folder), texts=TEXTS, film_size=64, num_pathologies=4)
    reference = AutoModel.from_pretrained(folder).state_dict()
    found = {name.removeprefix(f"{model_type}."): value for name, value in model.vision.encoder.state_dict().items()}
    shared = [name for name in found if name in reference]
    assert len(shared) > len(found) - 4
    for name in shared:
        assert torch.equal(found[name], reference[name]), name


@pytest.mark.parametrize(
    "classifier",
    [
        transformers.ConvNextV2ForImageClassification,
        transformers.DeiTForImageClassification,
        transformers.Dinov2ForImageClassification,
        transformers.ResNetForImageClassification,
        transformers.SwinForImageClassification,
        transformers.ViTForImageClassification,
    ],
)
def test_a_classifiers_checkpoint_gives_its_encoder(
    classifier: type[transformers.PreTrainedModel], tmp_path: Path
) -> None:
    """Its weights have a prefix, and ViT's and DeiT's have no pooler."""
    torch.manual_seed(1)
    model_type = classifier.config_class.model_type
    whole = classifier(classifier.config_class(**TINY[model_type]))
    whole.save_pretrained(tmp_path)
    _, model, _ = build_model(config_of(tmp_path), texts=TEXTS, film_size=64, num_pathologies=4)
    have = {name.removeprefix(f"{model_type}."): value for name, value in whole.state_dict().items()}
    found = {name.removeprefix(f"{model_type}."): value for name, value in model.vision.encoder.state_dict().items()}
    same = [name for name in found if name in have and torch.equal(found[name], have[name])]
    assert set(found) - set(same) <= {name for name in found if "hidden_states_norms" in name}


def test_a_pretrained_network_keeps_its_batch_norm_with_frozen_statistics(tmp_path: Path) -> None:
    _, model, _ = build_model(config_of(checkpoint(tmp_path, "resnet")), texts=TEXTS, film_size=64, num_pathologies=3)
    model.train()
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert norms
    assert not any(module.training for module in norms)


def test_the_image_side_of_a_model_of_images_and_text(tmp_path: Path) -> None:
    torch.manual_seed(1)
    text = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32,
            "vocab_size": 50, "projection_size": 32}  # fmt: skip
    config = SiglipConfig(text_config=text, vision_config=TINY["siglip_vision_model"])
    whole = SiglipModel(config)
    whole.save_pretrained(tmp_path)
    architecture, model, _ = build_model(config_of(tmp_path), texts=TEXTS, film_size=64, num_pathologies=3)
    assert architecture.vision.model_type == "siglip_vision_model"
    for name, value in model.vision.encoder.state_dict().items():
        assert torch.equal(value, whole.vision_model.state_dict()[name.removeprefix("vision_model.")]), name


def test_weights_come_from_a_bucket_too(tmp_path: Path, gcs_bucket: str) -> None:
    folder, source = checkpoint(tmp_path, "dinov2", RAD_DINO), f"{gcs_bucket}/weights/rad-dino"
    open_storage(source).upload_folder(folder)
    there = config_of(source)
    with pytest.raises(UserError, match=r"preprocess\.pixels\.size.*60.*a multiple of 8"):
        check_film_size(there.architecture, 60)
    check_film_size(there.architecture, 64)
    assert by_content(there.architecture) == by_content(config_of(folder).architecture), "the same weights, one key"
    architecture, model, _ = build_model(there, texts=TEXTS, film_size=64, num_pathologies=3)
    assert architecture.vision.model_type == "dinov2"
    assert architecture.vision.normalization == Normalization(mean=(0.5307,) * 3, std=(0.2583,) * 3)
    own = AutoModel.from_pretrained(folder).state_dict()
    found = model.vision.encoder.state_dict()
    shared = own.keys() & found.keys()
    assert len(shared) > 20
    assert all(torch.equal(found[name], own[name]) for name in shared)


@pytest.mark.parametrize("name", ["model.safetensors", "preprocessor_config.json"])
def test_files_that_are_cut_off_are_one_clean_error(name: str, tmp_path: Path) -> None:
    file = checkpoint(tmp_path, "dinov2", RAD_DINO) / name
    file.write_bytes(file.read_bytes()[:60])
    with pytest.raises(UserError, match=r"cannot be read: train\.architecture\.vision\.pretrained; found /") as error:
        build_model(config_of(tmp_path), texts=TEXTS, film_size=64, num_pathologies=4)
    assert error.value.code == "damaged-pretrained-weights"


def test_weights_that_are_not_in_the_bucket_are_one_clean_error(gcs_bucket: str) -> None:
    there = config_of(f"{gcs_bucket}/nothing")
    for look in (lambda: check_film_size(there.architecture, 64), lambda: by_content(there.architecture)):
        with pytest.raises(UserError, match=r"no pretrained weights there: train\.architecture\.vision\.pretrained"):
            look()


def test_weights_that_lack_some_are_refused(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path, "dinov2")
    weights = load_file(folder / "model.safetensors")
    del weights["encoder.layer.1.layer_scale1.lambda1"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"pretrained weights are incomplete.*encoder\.layer\.1\.layer_scale1"):
        build_model(config_of(folder), texts=TEXTS, film_size=64, num_pathologies=3)


def test_a_size_that_the_checkpoint_cannot_take_is_told_from_its_configuration_alone(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path, "dinov2")
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"preprocess\.pixels\.size.*60.*a multiple of 8, such as 56 or 64"):
        check_film_size(config_of(folder).architecture, 60)
    check_film_size(config_of(folder).architecture, 64)


def test_a_folder_may_lie_below_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = checkpoint(tmp_path, "dinov2")
    monkeypatch.setenv("HOME", str(tmp_path.parent))
    below = config_of(f"~/{folder.relative_to(tmp_path.parent)}").architecture
    assert by_content(below) == by_content(config_of(folder).architecture)


@pytest.mark.parametrize(
    ("processor", "mean", "std"),
    [
        pytest.param(RAD_DINO, (0.5307,) * 3, (0.2583,) * 3, id="rad-dino"),
        pytest.param({"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225], "size": 224},
                     (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), id="old-files-without-rescale"),
        pytest.param({"do_normalize": False, "image_mean": [0.5], "image_std": [0.5]}, (0.0,), (1.0,), id="rescaled"),
        pytest.param({"do_rescale": False, "image_mean": [127.5], "image_std": [51.0]}, (0.5,), (0.2,), id="0-to-255"),
        pytest.param({"rescale_factor": 1 / 127.5, "rescale_offset": True, "do_normalize": False}, (0.5,), (0.5,),
                     id="minus-1-to-1"),
        pytest.param({"include_top": True, "image_mean": [0.5], "image_std": [0.5]}, (0.5,), (0.25,), id="twice"),
    ],
)  # fmt: skip
def test_gray_values_become_what_the_checkpoint_is_used_to(
    processor: dict, mean: tuple[float, ...], std: tuple[float, ...], tmp_path: Path
) -> None:
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(processor))
    found = pretrained_normalization(str(tmp_path))
    assert found is not None
    assert found.mean == pytest.approx(mean)
    assert found.std == pytest.approx(std)


def test_newer_checkpoints_have_their_image_processor_inside_another(tmp_path: Path) -> None:
    (tmp_path / "processor_config.json").write_text(json.dumps({"image_processor": RAD_DINO}))
    assert pretrained_normalization(str(tmp_path)) == Normalization(mean=(0.5307,) * 3, std=(0.2583,) * 3)


def test_without_a_processor_or_against_it_the_configuration_decides(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path, "resnet")
    architecture, _, _ = build_model(config_of(folder), texts=TEXTS, film_size=64, num_pathologies=3)
    assert architecture.vision.normalization is None
    (folder / "preprocessor_config.json").write_text(json.dumps(RAD_DINO))
    own = Normalization(mean=(0.4,), std=(0.3,))
    architecture, _, _ = build_model(config_of(folder, normalization=own), texts=TEXTS, film_size=64, num_pathologies=3)
    assert architecture.vision.normalization == own


def test_a_normalization_that_cannot_be_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.5, 0.5], "image_std": [0.0]}))
    with pytest.raises(UserError, match=r"normalization cannot be used.*vision\.normalization"):
        pretrained_normalization(str(tmp_path))


@pytest.mark.parametrize("model_type", ["dinov2", "siglip_vision_model"])
def test_a_vit_trains_through_the_whole_step(
    model_type: str, tmp_path: Path, tiny_data: LoadedManifest, tiny_config: TrainConfig
) -> None:
    folder = checkpoint(tmp_path / "weights", model_type, RAD_DINO)
    architecture = tiny_config.architecture.model_copy(update={"vision": config_of(folder).architecture.vision})
    config = tiny_config.model_copy(update={"architecture": architecture, "epochs": 1})
    bundle = load_bundle(train(config, loaded=tiny_data, root=Root(tmp_path / "root")))
    assert bundle.info.architecture.vision.model_type == model_type
    moved = [
        name for name, value in AutoModel.from_pretrained(folder).state_dict().items()
        if name in bundle.model.vision.encoder.state_dict()
        and not torch.equal(bundle.model.vision.encoder.state_dict()[name], value)
    ]  # fmt: skip
    assert len(moved) > 20


def test_a_size_that_does_not_fit_is_told_before_processes_are_started(
    tmp_path: Path, tiny_data: LoadedManifest, tiny_config: TrainConfig
) -> None:
    vision = VisionConfig(model_type="vit", config={**TINY["vit"], "patch_size": 15})
    architecture = tiny_config.architecture.model_copy(update={"vision": vision})
    config = tiny_config.model_copy(update={"architecture": architecture, "num_processes": 2})
    with pytest.raises(UserError, match=r"preprocess\.pixels\.size"):
        launch(config, root=Root(tmp_path), manifest=tiny_data.storage)
