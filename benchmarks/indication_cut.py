"""`python -m benchmarks.indication_cut --reports FILE.tgz`: does the cut keep indications and catch readings?

Open-i keeps its sections apart. Every indication is read as it stands (those that come out shorter are false cuts), and
the first sentence of every FINDINGS and IMPRESSION is put behind `cough`, on its line and on one of its own (those of
which a word stays are leaks). The rules were written with one half of the reports at hand, by their ids' hashes; the
other half is held out. `--sentences` counts a file with one first sentence of a reading per line in the same way.
"""

from __future__ import annotations

import hashlib
import random
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from components.cxr.cli import run_cli
from components.cxr.ids import IdKey
from components.cxr.text.text import parse_report
from components.preprocess.adapters.openi import read_openi
from components.preprocess.audit_report import wilson
from components.preprocess.config import OpeniData

_LAYOUTS = {"on its line": "INDICATION: cough. {}", "on a line of its own": "INDICATION: cough\n{}"}
_ENUMERATION = re.compile(r"(?:\d{1,2}[.)]\s*)+")
_SENTENCE = re.compile(r".+?[.!?](?=\s|$)")


def main(
    reports: Annotated[Path | None, typer.Option(help="Open-i's reports, packed.")] = None,
    sentences: Annotated[
        Path | None, typer.Option(help="A text file, one first sentence of a reading per line.")
    ] = None,
    indications: Annotated[Path | None, typer.Option(help="A text file, one indication per line.")] = None,
    show: Annotated[int, typer.Option(help="Print so many cut and kept sentences of the held-out half.")] = 0,
) -> None:
    """Print recall of readings and the share of indications that are shortened, with 95 % intervals (Wilson)."""
    if sentences is not None:
        lines = [line for line in sentences.read_text().splitlines() if line.strip()]
        _print_recall(sentences.name, lines)
    if indications is not None:
        lines = [line for line in indications.read_text().splitlines() if line.strip()]
        print(f"  {indications.name}: shortened {_share(sum(not _is_kept(line) for line in lines), len(lines))}")
    if reports is None:
        return
    data = OpeniData(reports=str(reports))
    halves: tuple[list[dict[str, str]], ...] = ([], [])
    for study in read_openi(data, key=IdKey(None)).studies:
        half = hashlib.sha256(study.study_id.encode()).digest()[-1] % 2
        halves[half].append(parse_report(study.report_text or "", reader="mimic"))
    for half_name, found in zip(("tuned on", "held out"), halves, strict=True):
        print(f"\n{half_name}: {len(found):,} reports")
        for section in ("findings", "impression"):
            _print_recall(f"first sentence of {section}", [_first(part[section]) for part in found if section in part])
        texts = [part["indication"] for part in found if "indication" in part]
        cut = sum(not _is_kept(text) for text in texts)
        print(f"  indications shortened: {_share(cut, len(texts))}")
    if show:
        _show(halves[1], show)


def leaks(sentence: str, layout: str) -> bool:
    """Whether a word of a reading's sentence stays in the indication.

    >>> leaks("Left basilar atelectasis.", "INDICATION: cough. {}")
    False
    """
    return parse_report(layout.format(sentence)).get("indication") not in ("cough", "cough.")


def _is_kept(indication: str) -> bool:
    return parse_report(f"INDICATION: {indication}").get("indication") == " ".join(indication.split())


def _print_recall(name: str, sentences: Sequence[str]) -> None:
    for layout, form in _LAYOUTS.items():
        caught = sum(not leaks(sentence, form) for sentence in sentences)
        print(f"  {name}, {layout}: caught {_share(caught, len(sentences))}")


def _share(count: int, total: int) -> str:
    found = wilson(count, total)
    return f"{count:,} of {total:,}, {found.share or 0:.1%} ({found.low or 0:.1%}–{found.high or 0:.1%})"


def _first(text: str) -> str:
    text = _ENUMERATION.sub("", text, count=1) if _ENUMERATION.match(text) else text
    sentence = _SENTENCE.match(text)
    return sentence.group() if sentence is not None else text


def _show(reports: Sequence[dict[str, str]], number: int) -> None:
    """Sentences that were cut and that were kept, drawn with a fixed seed from indications and readings alike."""
    cut: list[str] = []
    kept: list[str] = []
    for part in reports:
        for section in ("indication", "findings", "impression"):
            if section in part:
                sentence = _first(part[section])
                (cut if leaks(sentence, _LAYOUTS["on its line"]) is False else kept).append(sentence)
    rng = random.Random(7)
    for name, found in (("cut", cut), ("kept", kept)):
        print(f"\n{name} ({len(found):,})")
        sys.stdout.writelines(f"  {text}\n" for text in rng.sample(found, min(number, len(found))))


if __name__ == "__main__":
    run_cli(main)
