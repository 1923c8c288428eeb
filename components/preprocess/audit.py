"""`python -m components.preprocess.audit`: how often sections that should be pre-read tell findings."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from components.cxr.cli import ConfigOption, SetOption, load_config, run_cli
from components.cxr.config import section
from components.cxr.errors import UserError
from components.cxr.ids import IdKey, hash_fraction, hash_id, load_id_key
from components.cxr.labels import PATHOLOGIES
from components.cxr.progress import track
from components.cxr.storage.atomic import renamed_to
from components.cxr.text.text import SectionName
from components.preprocess.adapters import read_source
from components.preprocess.audit_report import (
    AuditReport,
    Example,
    PathologyAudit,
    SectionAudit,
    print_audit,
    wilson,
)
from components.preprocess.config import DataConfig, PreprocessConfig, parse_data
from components.preprocess.finding_language import State, mentions
from components.preprocess.read_study import read_sections
from components.preprocess.records import SourceStudy

__all__ = ["audit"]

_AUDITED: tuple[SectionName, ...] = ("indication", "comparison", "technique", "examination", "findings", "impression")
_CONTROLS = ("findings", "impression")
_STATES: tuple[State, ...] = ("affirmed", "negated", "uncertain", "history")
"""A study that mentions a pathology twice counts under the first of these."""
_EXAMPLES = 3
"""Of each pathology."""


def main(
    config: ConfigOption,
    overrides: SetOption,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write all counts as JSON.")] = None,
    max_studies: Annotated[
        int | None, typer.Option("--max-studies", min=1, help="Only a sample of this many studies, by keyed hash.")
    ] = None,
) -> None:
    """Audit the text of the configured source: findings in sections that should have been written before the read."""
    values = load_config(config, overrides)
    data = parse_data(section(values, "data"))
    step = PreprocessConfig.parse(section(values, "preprocess"), where="preprocess")
    report = audit(data, step, max_studies=max_studies)
    if json_file is not None:
        with renamed_to(json_file) as partial:
            partial.write_text(json.dumps(report.model_dump(mode="json"), indent=1) + "\n")
            partial.replace(json_file)
    print_audit(report)


def audit(data: DataConfig, config: PreprocessConfig, *, max_studies: int | None = None) -> AuditReport:
    """Read every report with the configured section reader and count what its sections affirm.

    Raises:
        UserError: the source is wrong, or has no report.
    """
    ids = load_id_key()
    source = read_source(data, key=ids)
    studies = _sample(source.studies, max_studies, ids)
    films = source.films.open()
    counts = {name: _Counts(source.pathologies) for name in _AUDITED}
    for study in track(studies, total=len(studies), what="audit", unit="reports"):
        sections = read_sections(study, films, reader=config.section_reader)
        for name, found in counts.items():
            if text := sections.get(name):
                found.add(text, study, ids)
    if not any(found.studies for found in counts.values()):
        raise UserError(
            "no-reports", "source has no reports", where=source.where, expected="text sections or report files"
        )
    return AuditReport(
        section_reader=config.section_reader,
        adapter=data.adapter,
        num_studies=len(studies),
        num_sampled_from=len(source.studies),
        id_key_fingerprint=ids.fingerprint,
        sections={name: found.result(name, num_studies=len(studies)) for name, found in counts.items()},
    )


class _Counts:
    """Running counts of one section."""

    def __init__(self, pathologies: Sequence[str]) -> None:
        self.column = {name: pathologies.index(name) for name in PATHOLOGIES if name in pathologies}
        self.studies = self.affirmed = self.labeled = 0
        self.terms: Counter[str] = Counter()
        self.states: dict[str, Counter[State]] = {name: Counter() for name in PATHOLOGIES}
        self.agree = {name: [0, 0] for name in PATHOLOGIES}
        """Labeled positive, and labeled at all, among the studies that affirm it."""
        self.positive: Counter[str] = Counter()
        self.examples: dict[str, list[Example]] = {name: [] for name in PATHOLOGIES}

    def add(self, text: str, study: SourceStudy, ids: IdKey) -> None:
        """Count one study's section."""
        self.studies += 1
        self.labeled += study.labeled
        positive = {name for name, i in self.column.items() if study.labels[i] == 1}
        self.positive.update(positive)
        found: dict[str, dict[State, str]] = {}
        for pathology, term, state in mentions(text):
            found.setdefault(pathology, {}).setdefault(state, term)
        affirmed = {name: states["affirmed"] for name, states in found.items() if "affirmed" in states}
        self.affirmed += bool(affirmed)
        self.terms.update(set(affirmed.values()))
        for name, states in found.items():
            self.states[name][next(state for state in _STATES if state in states)] += 1
        for name, term in affirmed.items():
            if study.labeled and name in self.column:
                self.agree[name][0] += name in positive
                self.agree[name][1] += 1
            if len(self.examples[name]) < _EXAMPLES:
                study_id = hash_id("study", study.study_id, ids)
                self.examples[name].append(Example(study_id=study_id, pathology=name, term=term))

    def result(self, name: str, *, num_studies: int) -> SectionAudit:
        """The counts as shares."""
        return SectionAudit(
            kind="control" if name in _CONTROLS else "pre-read",
            studies=wilson(self.studies, num_studies),
            affirmed=wilson(self.affirmed, self.studies),
            terms=dict(sorted(self.terms.items(), key=lambda item: (-item[1], item[0]))),
            pathologies={
                pathology: PathologyAudit(
                    **{state: self.states[pathology][state] for state in _STATES},
                    positive=wilson(*self.agree[pathology]),
                    base_rate=wilson(self.positive[pathology], self.labeled if pathology in self.column else 0),
                )
                for pathology in PATHOLOGIES
            },
            examples=tuple(example for examples in self.examples.values() for example in examples),
        )


def _sample(studies: Sequence[SourceStudy], size: int | None, ids: IdKey) -> Sequence[SourceStudy]:
    """All studies, or those whose hashes come first, in the source's order."""
    if size is None or size >= len(studies):
        return studies
    places = [hash_fraction("order", study.study_id, ids) for study in studies]
    chosen = sorted(sorted(range(len(studies)), key=places.__getitem__)[:size])
    return [studies[i] for i in chosen]


if __name__ == "__main__":
    run_cli(main)
