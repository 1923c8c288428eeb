"""README.md of an export: what is in it and how it is read, with the front matter that the Hugging Face Hub reads."""

from __future__ import annotations

from collections.abc import Mapping

import yaml

from components.cxr.shards import SPLITS, Manifest

__all__ = ["card"]

_LABELS = {
    "hf": "0 negative, 1 positive, 2 uncertain (ClassLabel), null blank",
    "webdataset": "1 positive, 0 negative, -1 uncertain, null blank",
    "png": "1 positive, 0 negative, -1 uncertain, empty blank",
}
_READ = {
    "hf": 'import datasets\n\nfilms = datasets.load_dataset("OUT")',
    "webdataset": "from webdataset import WebDataset\n\n"
    'films = WebDataset("train-00000.tar", shardshuffle=False).decode("l8")',
    "png": 'import datasets\n\nfilms = datasets.load_dataset("imagefolder", data_dir="OUT")',
}


def card(manifest: Manifest, to: str, *, names: Mapping[str, str]) -> str:
    """The page in Markdown.

    Args:
        names: of the splits in the export, by ours.
    """
    size = manifest.pixel_preset.size
    present = [split for split in SPLITS if manifest.shards_of(split)]
    front: dict[str, object] = {
        "pretty_name": "Chest X-rays",
        "task_categories": ["image-classification"],
        "tags": ["medical", "chest-x-ray"],
        "license": "other",
    }
    if to == "hf":
        files = [{"split": names[split], "path": f"data/{names[split]}-*.parquet"} for split in present]
        front["configs"] = [{"config_name": "default", "data_files": files}]
    lines = [
        "---",
        yaml.safe_dump(front, sort_keys=False).rstrip(),
        "---",
        "",
        "# Chest X-rays",
        "",
        f"Films of {size} x {size} pixels, 8-bit gray, with labels and texts, written by cxrflow. "
        "The license and the data use agreement are those of the source.",
        "",
        "| split | patients | studies | films |",
        "|---|---|---|---|",
    ]
    for split in present:
        counts = manifest.counts[split]
        lines.append(f"| {names[split]} | {counts.patients} | {counts.studies} | {counts.images} |")
    ids = "keyed hashes" if manifest.deidentified else "hashes with a public salt, which anybody can try: no release"
    lines += [
        "",
        f"- Labels ({', '.join(manifest.pathologies)}): {_LABELS[to]}. "
        "`labeled` is false where nobody labeled the study.",
        f"- Splits are by patient. Ids are {ids}.",
        "- Where labels were mined from reports, `text_findings` and `text_impression` give the answer away: "
        "a model may read `text_indication` alone.",
        "",
        "```python",
        _READ[to],
        "```",
        "",
    ]
    return "\n".join(lines)
