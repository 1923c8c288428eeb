"""Data sets for `benchmarks.loader`: smooth random films, or the metadata of as many studies as MIMIC-CXR has."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from components.cxr.films.pixel_preset import PixelPreset
from components.cxr.labels import PATHOLOGIES
from components.cxr.model.dataset import StudyDataset
from components.cxr.model.study_batches import StudyBatches
from components.cxr.shard_writer import ImageRow, write_shard
from components.cxr.shards import SCHEMA_VERSION, Manifest, ShardInfo, load_manifest, write_manifest
from components.cxr.storage.storage import open_storage
from components.cxr.text.text import TextConfig
from components.train.tokenizer import learn_tokenizer

MAX_TOKENS = 64
WORDS = (
    "man woman with year old and cough fever shortness of breath chest pain evaluate for pneumonia effusion edema "
    "acute process status post line placement follow-up dyspnea history cancer fall interval change"
)


def make_films(place: Path, images: int) -> None:
    """A data set of one split of smooth random films, and its token ids for the peers."""
    if (place / "tokens.npz").exists():
        return
    rng, preset = np.random.default_rng(0), PixelPreset()

    def pixels() -> npt.NDArray[np.uint8]:
        coarse = rng.integers(0, 256, (14, 14), dtype=np.uint8)
        return np.asarray(cv2.resize(coarse, (preset.size, preset.size), interpolation=cv2.INTER_CUBIC))

    write_set(place / "data", [1] * images, preset=preset, pixels=pixels, rng=rng)
    os.environ["CXRFLOW_CACHE"] = str(place / "cache")
    tokens = open_set(place)._tokens
    np.savez(place / "tokens.npz", ids=tokens.id_N, first=tokens.first_S)


def write_set(
    folder: Path,
    films_of: list[int],
    *,
    preset: PixelPreset,
    pixels: Callable[[], npt.NDArray[np.uint8]],
    rng: np.random.Generator,
) -> None:
    """A training split with this many films of each study, in shards of 1,024 films as preprocess writes them."""
    words = WORDS.split()
    infos: list[ShardInfo] = []
    group: list[ImageRow] = []

    def flush() -> None:
        name = f"train-{len(infos):05d}.parquet"
        infos.append(write_shard(folder / name, group, pathologies=PATHOLOGIES, preset=preset, name=name))
        group.clear()

    def sentence(shortest: int, longest: int) -> str:
        return " ".join(words[i] for i in rng.integers(0, len(words), rng.integers(shortest, longest)))

    for s, num_films in enumerate(films_of):
        study_id, patient_id = (f"{kind:016x}" for kind in rng.integers(0, 1 << 62, 2))
        text = {"indication": sentence(3, 20), "findings": sentence(30, 70), "impression": sentence(5, 40)}
        labels: dict[str, int | None] = {
            name: int(value) for name, value in zip(PATHOLOGIES, rng.integers(0, 2, 14), strict=True)
        }
        group += [
            ImageRow(
                study_id=study_id,
                patient_id=patient_id,
                image_id=f"{s}-{v}",
                split="train",
                view_position=("PA", "LATERAL", None)[v % 3],
                pixels=pixels(),
                text=text,
                labels=labels,
                labeled=True,
                age_years=float(20 + s % 70),
                sex=("F", "M")[s % 2],
                source_hash=f"{s:032x}",
            )
            for v in range(num_films)
        ]
        if len(group) >= 1024 or s == len(films_of) - 1:
            flush()
    write_bare_manifest(folder, infos, preset=preset)


def write_bare_manifest(folder: Path, infos: Sequence[ShardInfo], *, preset: PixelPreset) -> None:
    """Name the shards of a folder that no preprocess made: without hashes of a source and counts."""
    manifest = Manifest(
        schema_version=SCHEMA_VERSION,
        pathologies=PATHOLOGIES,
        pixel_preset=preset,
        pixel_preset_hash=preset.hash,
        config_hash="",
        source_hash="",
        id_key_fingerprint="",
        deidentified=True,
        counts={},
        num_rejects=0,
        shards=tuple(infos),
    )
    write_manifest(open_storage(folder), manifest)


def open_set(place: Path) -> StudyBatches:
    """The training split, ready to be gathered into batches."""
    studies = StudyDataset(load_manifest(open_storage(place / "data")), splits=["train"], text=TextConfig())
    tokenizer = learn_tokenizer(studies.texts()[:10_000], vocabulary_size=2000, max_tokens=MAX_TOKENS)
    return StudyBatches(studies, tokenizer=tokenizer, max_tokens=MAX_TOKENS)
