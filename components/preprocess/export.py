"""`python -m components.preprocess export`: a data set in the formats of other tools; its shards stay as they are."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Annotated, Literal, NamedTuple

import typer

from components.cxr.cli import RootOption, open_root
from components.cxr.errors import UserError
from components.cxr.progress import track
from components.cxr.shards import SPLITS, LoadedManifest, Manifest, ShardInfo, load_manifest, read_shard
from components.cxr.storage.pointers import read_pointer
from components.cxr.storage.storage import Storage, open_storage
from components.preprocess.export_card import card
from components.preprocess.export_files import Rows, write_parquet, write_pictures, write_tar

__all__ = ["export"]

Format = Literal["hf", "webdataset", "png"]

_NAMES = {"train": "train", "validate": "validation", "test": "test"}
"""Our splits as Hugging Face and most others call them."""
_CLAIM, _CARD = "export.json", "README.md"


class _Piece(NamedTuple):
    """What one shard becomes."""

    info: ShardInfo
    name: str
    """The file whose presence means that it is done."""


def export(
    out: Annotated[str, typer.Argument(metavar="OUT", help="Folder to fill, local or gs://.", show_default=False)],
    to: Annotated[Format, typer.Option("--to", help="Parquet with pictures, tar files, or folders of PNG files.")],
    root: RootOption = None,
    manifest: Annotated[str | None, typer.Option(metavar="URI", help="Data set; default: the newest.")] = None,
) -> None:
    """Write a data set for Hugging Face datasets, for WebDataset or as PNG files.

    A shard at a time is in memory. Killed and started again, it continues to the same files; README.md comes last.
    """
    loaded = load_manifest(
        open_storage(manifest or read_pointer(open_root({}, root), "manifest", made_by="preprocess"))
    )
    place = open_storage(out)
    _claim(place, to, loaded)
    place.remove_partials()
    there = place.sizes()
    write: Callable[[Storage, str, Rows], None] = {
        "hf": write_parquet,
        "webdataset": write_tar,
        "png": write_pictures,
    }[to]
    pieces = list(_pieces(loaded.manifest, to))
    pending = [piece for piece in pieces if piece.name not in there]
    if not pending and _CARD in there:
        print(f"export: reused {place.uri}")
        return
    total = sum(piece.info.rows for piece in pending)
    for piece in track(pending, total=total, what="export", unit="films", size=lambda piece: piece.info.rows):
        rows = Rows(read_shard(loaded.storage, piece.info), loaded.manifest)
        write(place, piece.name, rows)
    place.write(_CARD, card(loaded.manifest, to, names=_NAMES).encode())
    print(f"export: {sum(piece.info.rows for piece in pieces)} films in {place.uri}")


def _pieces(manifest: Manifest, to: Format) -> Iterator[_Piece]:
    for split in SPLITS:
        shards, name = manifest.shards_of(split), _NAMES[split]
        for i, info in enumerate(shards):
            yield _Piece(
                info,
                {
                    "hf": f"data/{name}-{i:05}-of-{len(shards):05}.parquet",
                    "webdataset": f"{name}-{i:05}.tar",
                    "png": f"{name}/{i:05}/metadata.csv",
                }[to],
            )


def _claim(place: Storage, to: Format, loaded: LoadedManifest) -> None:
    """Note first what the folder is for, so that two exports never mix.

    Raises:
        UserError: it holds another export, or something else.
    """
    claim = (json.dumps({"export": to, "manifest": loaded.hash}, sort_keys=True) + "\n").encode()
    try:
        if place.read(_CLAIM).data == claim:
            return
        found = "another data set or format"
    except (FileNotFoundError, NotADirectoryError):
        if not place.sizes():
            place.write(_CLAIM, claim)
            return
        found = "files of something else"
    raise UserError(
        "output-not-ours",
        "output folder holds something else",
        where=place.uri,
        found=found,
        expected="nothing, or this export",
        remedy="Name another folder, or empty it.",
    )
