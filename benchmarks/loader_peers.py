"""The peers of `benchmarks.loader`, run in their own environment: each makes its files once, then times passes.

`python benchmarks/loader_peers.py NAME FOLDER` writes one line of JSON per line that it reads. It imports no cxrflow.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet as pq
import torch
from torch.utils.data import DataLoader, Dataset

BATCH = 64
Shown = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""uint8 films (B, 1, H, W), int8 labels (B, P), int64 token ids (B, T) padded with 0."""


class Source(NamedTuple):
    """The films of a data set with what belongs to each."""

    files: list[str]
    pathologies: list[str]
    size: int
    labels_SP: np.ndarray
    tokens: list[np.ndarray]

    def films(self) -> Iterator[np.ndarray]:
        """One after the other, uint8 H x W."""
        for file in self.files:
            for film in pq.read_table(file, columns=["pixels"]).column("pixels").to_pylist():
                yield np.frombuffer(film, np.uint8).reshape(self.size, self.size)


def read_source(folder: Path) -> Source:
    """What `benchmarks.loader` wrote there."""
    manifest = json.loads((folder / "data" / "manifest.json").read_text())
    files = [str(folder / "data" / shard["name"]) for shard in manifest["shards"]]
    pathologies = manifest["pathologies"]
    columns = [pq.read_table(file, columns=pathologies) for file in files]
    labels = [np.stack([t.column(p).fill_null(-2).to_numpy() for p in pathologies], axis=1) for t in columns]
    tokens = np.load(folder / "tokens.npz")
    ids = np.split(tokens["ids"].astype(np.int64), tokens["first"][1:-1])
    return Source(files, pathologies, manifest["pixel_preset"]["size"], np.concatenate(labels).astype(np.int8), ids)


def padded(tokens: Iterable[np.ndarray]) -> torch.Tensor:
    """Token ids (B, T) of texts of different lengths."""
    rows = [torch.from_numpy(np.array(ids)) for ids in tokens]
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)


def collate(samples: list[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> Shown:
    """Stack films and labels, pad tokens."""
    films, labels, tokens = zip(*samples, strict=True)
    return torch.from_numpy(np.stack(films)[:, None]), torch.from_numpy(np.stack(labels)), padded(tokens)


def png(source: Source, folder: Path) -> Callable[[], Iterable[Shown]]:
    """One PNG per film, read by a torch Dataset."""
    from PIL import Image

    if not folder.exists():
        folder.mkdir()
        for s, film in enumerate(source.films()):
            Image.fromarray(film).save(folder / f"{s}.png")

    class Films(Dataset[Any]):
        def __len__(self) -> int:
            return len(source.tokens)

        def __getitem__(self, s: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
            return np.asarray(Image.open(folder / f"{s}.png")), source.labels_SP[s], source.tokens[s]

    return lambda: DataLoader(Films(), batch_size=BATCH, shuffle=True, collate_fn=collate)


def webdataset(source: Source, folder: Path) -> Callable[[], Iterable[Shown]]:
    """Tar files of 512 pickled films, shuffled through a buffer of 1,000; one member per array takes far longer."""
    import webdataset as wds

    if not folder.exists():
        folder.mkdir()
        with wds.ShardWriter(f"{folder}/%04d.tar", maxcount=512, verbose=0) as writer:
            for s, film in enumerate(source.films()):
                sample = (film, source.labels_SP[s], source.tokens[s])
                writer.write({"__key__": f"{s:07d}", "sample.pyd": sample})
    files = sorted(map(str, folder.glob("*.tar")))

    def batches() -> Iterable[Shown]:
        data = wds.WebDataset(files, shardshuffle=len(files), empty_check=False).shuffle(1000).decode()
        data = data.map(lambda entry: entry["sample.pyd"]).batched(BATCH, collation_fn=collate)
        return DataLoader(data, batch_size=None)

    return batches


def hf_datasets(source: Source, folder: Path) -> Callable[[], Iterable[Shown]]:
    """The same Parquet, read by Hugging Face datasets as Arrow: rows of a batch are taken at once."""
    import datasets

    datasets.disable_progress_bars()
    rows = datasets.load_dataset("parquet", data_files=source.files, cache_dir=str(folder), split="train")
    rows = rows.select_columns(["pixels", *source.pathologies]).add_column(
        "tokens", [t.tolist() for t in source.tokens]
    )
    rows = rows.with_format("arrow")
    size = source.size

    class Batches(Dataset[Any]):
        def __getitem__(self, chosen: list[int]) -> Shown:
            table = rows[chosen]
            films = np.empty((len(chosen), 1, size, size), np.uint8)
            for b, film in enumerate(table.column("pixels")):
                films[b, 0] = np.frombuffer(film.as_buffer(), np.uint8).reshape(size, size)
            labels = np.stack([table.column(p).fill_null(-2).to_numpy() for p in source.pathologies], axis=1)
            tokens = padded(np.asarray(ids.values) for ids in table.column("tokens"))
            return torch.from_numpy(films), torch.from_numpy(labels.astype(np.int8)), tokens

    def batches() -> Iterable[Shown]:
        order = np.random.default_rng().permutation(len(rows))
        return DataLoader(Batches(), sampler=np.split(order, range(BATCH, len(rows), BATCH)), batch_size=None)

    return batches


def litdata(source: Source, folder: Path) -> Callable[[], Iterable[Shown]]:
    """litdata's chunks of 64 MB, local, shuffled."""
    import litdata as ld

    if not folder.exists():
        films = dict(enumerate(source.films()))

        def sample(s: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
            return films[s], source.labels_SP[s], source.tokens[s]

        ld.optimize(
            fn=sample,
            inputs=list(range(len(source.tokens))),
            output_dir=str(folder),
            chunk_bytes="64MB",
            num_workers=1,
            start_method="fork",
            verbose=False,
        )
    data = ld.StreamingDataset(str(folder), shuffle=True)
    return lambda: ld.StreamingDataLoader(data, batch_size=BATCH, collate_fn=collate)


PEERS = {"png": png, "webdataset": webdataset, "datasets": hf_datasets, "litdata": litdata}


def answer_lines(batches: Callable[[], Iterable[Shown]]) -> None:
    """A pass over all films per line that is read: how many, in how long, and sums that say that all were shown."""
    for line in sys.stdin:
        start, count, sums = time.perf_counter(), 0, [0, 0, 0]
        check = line.strip() == "check"
        for films, labels, tokens in batches():
            count += len(films)
            if check:
                sums = [total + int(part.sum()) for total, part in zip(sums, (films, labels, tokens), strict=True)]
        print(json.dumps({"images": count, "seconds": time.perf_counter() - start, "sums": sums}), flush=True)


def main() -> None:
    """Make the peer's files where they are not yet, say its version, and time what is asked for."""
    name, folder = sys.argv[1], Path(sys.argv[2])
    torch.set_num_threads(1)
    batches = PEERS[name](read_source(folder), folder / name)
    package = {"png": "pillow"}.get(name, name)
    print(json.dumps({"version": f"{package} {version(package)}"}), flush=True)
    answer_lines(batches)


if __name__ == "__main__":
    main()
