"""A tiny data set and two tiny bundles, made with the real code, for the tests of what comes after preprocess."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pytest

from components.cxr.ids import IdKey, hash_id

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from components.cxr.bundle_info import BundleInfo
    from components.cxr.film_check import FilmCheck
    from components.cxr.model.architecture import Architecture
    from components.cxr.model.network import CxrModel
    from components.cxr.shard_writer import ImageRow
    from components.cxr.shards import LoadedManifest
    from components.cxr.storage.storage import Storage
    from tests.components.kube_api import KubeApi

SIZE = 32
NAMES = ("No Finding", "Edema", "Pleural Effusion", "Fracture")
"""Fracture has positives in training alone, so that it is undefined elsewhere."""
COUNTS = {"train": 60, "validate": 24, "test": 40}
PUBLIC = IdKey(None)
WORDS = ("edema", "effusion", "cough", "fever", "pain", "dyspnea")


@pytest.fixture(scope="session", autouse=True)
def _own_places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The cache of decoded shards in a temporary folder, and no tracking server of the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CXRFLOW_CACHE", str(tmp_path_factory.mktemp("cache")))
        for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID"):
            patch.delenv(name, raising=False)
        yield


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> LoadedManifest:
    """60 training, 24 validation and 40 test studies of 32 x 32 pixels; a bright blob marks a positive.

    Some studies have two views, no text, no age or sex, no labels, uncertain or blank labels; two studies per patient.
    """
    from components.cxr.films.pixel_preset import PixelPreset
    from components.cxr.shard_writer import write_shard
    from components.cxr.shards import SCHEMA_VERSION, Manifest, SplitCounts, load_manifest, write_manifest
    from components.cxr.storage.storage import open_storage

    folder = tmp_path_factory.mktemp("data")
    preset = PixelPreset(name="display", size=SIZE)
    rng = np.random.default_rng(7)
    shards, counts = [], {}
    for split, count in COUNTS.items():
        studies = [_study(rng, split, s) for s in range(count)]
        for part, start in enumerate(range(0, count, 20)):
            rows = [row for study in studies[start : start + 20] for row in study]
            name = f"{split}-{part}.parquet"
            shards.append(write_shard(folder / name, rows, pathologies=NAMES, preset=preset, name=name))
        counts[split] = SplitCounts(
            patients=len({study[0].patient_id for study in studies}),
            studies=count,
            images=sum(map(len, studies)),
            labeled_studies=sum(study[0].labeled for study in studies),
            labels={},
        )
    manifest = Manifest(
        schema_version=SCHEMA_VERSION,
        pathologies=NAMES,
        pixel_preset=preset,
        pixel_preset_hash=preset.hash,
        config_hash="c" * 16,
        source_hash="s" * 16,
        id_key_fingerprint=PUBLIC.fingerprint,
        deidentified=False,
        counts=counts,
        num_rejects=0,
        shards=tuple(shards),
    )
    write_manifest(open_storage(folder), manifest)
    return load_manifest(open_storage(folder))


@pytest.fixture(scope="session")
def fitted_bundle(tiny_data: LoadedManifest, tmp_path_factory: pytest.TempPathFactory) -> Storage:
    """A bundle that was trained for a few steps: it finds the blobs."""
    return _save_bundle(tiny_data, tmp_path_factory.mktemp("fitted"), num_steps=45)


@pytest.fixture(scope="session")
def untrained_bundle(tiny_data: LoadedManifest, tmp_path_factory: pytest.TempPathFactory) -> Storage:
    """A bundle with its initial weights: it guesses."""
    return _save_bundle(tiny_data, tmp_path_factory.mktemp("untrained"), num_steps=0)


@pytest.fixture
def kube(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[KubeApi]:
    """A Kubernetes API with the namespace `cxr`, which the real client finds by KUBECONFIG."""
    from tests.components.kube_api import KubeApi

    with KubeApi() as server:
        server.write_kubeconfig(tmp_path / "kubeconfig")
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
        monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
        yield server


def _study(rng: np.random.Generator, split: str, s: int) -> list[ImageRow]:
    from components.cxr.shard_writer import ImageRow

    ill = rng.random(2) < 0.45
    labels: dict[str, int | None] = {
        "No Finding": 1 if not ill.any() else None,
        "Edema": 1 if ill[0] else (0, None)[s % 2],
        "Pleural Effusion": 1 if ill[1] else (None, 0, -1)[s % 3],
        "Fracture": 1 if split == "train" and s % 10 == 0 else None,
    }
    text = " ".join(rng.choice(WORDS[2:], size=3)) + (" edema" if ill[0] and rng.random() < 0.5 else "")
    views = ("PA", "LATERAL") if s % 5 == 0 else ("AP",)
    return [
        ImageRow(
            study_id=hash_id("study", f"{split}-study-{s}", PUBLIC),
            patient_id=f"{split}-patient-{s // 2}",
            image_id=f"{split}-image-{s}-{view}",
            split=split,
            view_position=view,
            pixels=_film(rng, ill),
            text={"indication": text, "findings": "never read"} if s % 4 else {},
            labels=labels if s % 10 != 3 else {},
            labeled=s % 10 != 3,
            age_years=None if s % 6 == 1 else float(20 + s),
            sex=(None, "F", "M")[s % 3],
            source_hash=f"{split}{s}{view}",
        )
        for view in views
    ]


def _film(rng: np.random.Generator, ill: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    film = rng.normal(90, 25, size=(SIZE, SIZE))
    for row, present in zip((5, 19), ill, strict=True):
        film[row : row + 8, row : row + 8] += rng.uniform(6, 50) if present else rng.uniform(-10, 18)
    return np.clip(film, 0, 255).astype(np.uint8)


def _save_bundle(data: LoadedManifest, folder: Path, *, num_steps: int) -> Storage:
    import torch

    from components.cxr.bundle import save_bundle
    from components.cxr.model.dataset import StudyDataset
    from components.cxr.model.network import CxrModel
    from components.cxr.storage.storage import open_storage
    from components.cxr.trained_on import trained_on

    tokenizer = _tokenizer()
    architecture = _architecture(len(tokenizer))
    torch.manual_seed(3)
    model = CxrModel(architecture, num_pathologies=len(NAMES))
    if num_steps:
        _fit(model, data, tokenizer, num_steps=num_steps)
        _fit_patches(model, data)
    info = _info(data, architecture, sum(p.numel() for p in model.parameters()))
    splits = [StudyDataset(data, splits=[split], text=info.text) for split in ("train", "validate")]
    seen = trained_on(
        [patient for studies in splits for patient in studies.patient_ids],
        (film for studies in splits for study in studies for film in study.films),
        manifest_hash=data.hash,
    )
    save_bundle(open_storage(folder), info=info, models=[model], tokenizer=tokenizer, trained_on=[seen])
    return open_storage(folder)


def _fit(model: CxrModel, data: LoadedManifest, tokenizer: PreTrainedTokenizerFast, *, num_steps: int) -> None:
    """Full-batch cross-entropy, positive against the rest."""

    import torch

    from components.cxr.model.batch import collate
    from components.cxr.model.dataset import StudyDataset
    from components.cxr.text.text import TextConfig

    studies = StudyDataset(data, splits=["train"], text=TextConfig())
    batch = collate([studies[s] for s in range(len(studies))], tokenizer=tokenizer, max_tokens=16, size=SIZE)
    target_BP = torch.from_numpy((studies.states_SP == 1).astype(np.int64)) * 2
    labeled_B = torch.from_numpy(studies.labeled_S)
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the same weights on every machine, and faster for films this small
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    model.train()
    for step in range(num_steps):
        shown = batch.keep(text_B=step % 2 == 0, meta_B=step % 3 == 0)
        loss = torch.nn.functional.cross_entropy(model(shown)[labeled_B].flatten(0, 1), target_BP[labeled_B].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    torch.set_num_threads(num_threads)


def _fit_patches(model: CxrModel, data: LoadedManifest) -> None:
    from components.cxr.labels import LabelPolicy
    from components.cxr.model.dataset import StudyDataset
    from components.cxr.text.text import TextConfig
    from components.train.patch_words import fit_patch_expert
    from components.train.supervision import supervision_of

    studies = StudyDataset(data, splits=["train"], text=TextConfig())
    supervision = supervision_of(studies.states_SP, studies.labeled_S, policy=LabelPolicy())
    assert model.patch_expert is not None
    fit_patch_expert(model.patch_expert, studies, supervision, seed=3)
    model.patch_expert.scale_P.fill_(0.6)  # 1 would be too sure of itself


def _tokenizer() -> PreTrainedTokenizerFast:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {name: i for i, name in enumerate(("[PAD]", "[UNK]", "[CLS]", *WORDS))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A", special_tokens=[("[CLS]", 2)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=16,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
    )


def _architecture(vocabulary_size: int) -> Architecture:
    from components.cxr.model.architecture import Architecture, EncoderConfig, FusionConfig, PatchConfig, VisionConfig

    resnet = {
        "embedding_size": 8,
        "hidden_sizes": [8, 16],
        "depths": [1, 1],
        "layer_type": "basic",
        "num_channels": 1,
    }
    bert = {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "max_position_embeddings": 16,
        "vocab_size": vocabulary_size,
    }
    return Architecture(
        vision=VisionConfig(model_type="resnet", config=resnet),
        text=EncoderConfig(model_type="bert", config=bert),
        fusion=FusionConfig(width=16, num_heads=2),
        patches=PatchConfig(words=24, patch=5, stride=3, grid=2, side=SIZE),
        max_tokens=16,
    )


def _info(data: LoadedManifest, architecture: Architecture, num_parameters: int) -> BundleInfo:
    from components.cxr.bundle_info import BundleInfo
    from components.cxr.labels import LabelPolicy
    from components.cxr.text.text import TextConfig

    return BundleInfo(
        pathologies=NAMES,
        pixel_preset=data.manifest.pixel_preset,
        pixel_preset_hash=data.manifest.pixel_preset_hash,
        text=TextConfig(),
        label_policy=LabelPolicy(),
        architecture=architecture,
        num_parameters=num_parameters,
        manifest_hash=data.hash,
        id_key_fingerprint=data.manifest.id_key_fingerprint,
        train_config_hash="0" * 16,
        mlflow_run_id=None,
        git_revision=None,
    )


@pytest.fixture(scope="session")
def chest_films() -> npt.NDArray[np.uint8]:
    """Two dark lungs on a bright body, 320 times: as much of a chest film as a check needs."""
    rng = np.random.default_rng(5)
    return np.stack([_chest(rng) for _ in range(320)])


@pytest.fixture(scope="session")
def film_check(chest_films: npt.NDArray[np.uint8]) -> FilmCheck:
    from components.evaluate.film_check import fit_film_check

    return fit_film_check(chest_films[:220], chest_films[220:270], chest_films[270:])


def _chest(rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    size = 32
    y, x = np.mgrid[:size, :size] / size
    film = np.full((size, size), rng.uniform(150, 220))
    for middle in (0.3, 0.7):
        across, along = (
            (x - middle - rng.normal(0, 0.02)) / 0.14,
            (y - 0.5 - rng.normal(0, 0.03)) / rng.uniform(0.3, 0.4),
        )
        film -= rng.uniform(90, 130) * (across**2 + along**2 < 1)
    return np.clip(film + rng.normal(0, 6, film.shape), 0, 255).astype(np.uint8)
