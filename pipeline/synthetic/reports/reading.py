"""A reader decides what to mention of a study: misses some findings, hedges others, omits most that are absent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from components.cxr.labels import NEGATIVE, NO_FINDING, PATHOLOGIES, POSITIVE, SUPPORT_DEVICES, UNCERTAIN
from pipeline.synthetic.keys import Stream, generator
from pipeline.synthetic.places import Finding, place_finding
from pipeline.synthetic.presets import Preset
from pipeline.synthetic.rates import PUBLISHED, PUBLISHED_STUDIES
from pipeline.synthetic.studies import Study

__all__ = ["Mention", "Reading", "read_studies"]

_FINDINGS_ONLY = {"Support Devices": 0.28, "Fracture": 0.18, "Pleural Other": 0.18}
_USUALLY_FINDINGS_ONLY = 0.08
"""Shares of mentions that stand in the findings and not in the impression, from which labels are mined."""
_ROUTINE = {"Pneumothorax": 0.2, "Pleural Effusion": 0.15, "Consolidation": 0.15, "Cardiomegaly": 0.2}
"""How often the findings of an abnormal film deny a thing that the impression does not name."""
_OPACITY_WORD = {"Pneumonia": 0.75, "Consolidation": 0.5, "Atelectasis": 0.35, "Edema": 0.2, "Lung Lesion": 0.15}
"""How often a reader also calls the finding an opacity."""
_VAGUE = 0.011
"""Share of studies whose report names nothing a labeler knows."""


@dataclass(frozen=True, kw_only=True)
class Mention:
    """One thing the report says about a pathology."""

    pathology: str
    state: int
    """POSITIVE, NEGATIVE or UNCERTAIN of `components.cxr.labels`."""
    finding: Finding | None
    """What was seen, or thought to be seen; None when absent."""
    prior: Finding | None = None
    """What the previous report said of it."""
    in_impression: bool = True
    """Otherwise the findings alone say it."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """All a report will say, in no order."""

    study: Study
    mentions: tuple[Mention, ...]
    is_vague: bool = False

    @property
    def is_normal(self) -> bool:
        """Nothing is called present or possible but devices."""
        return not any(m.state != NEGATIVE and m.pathology != SUPPORT_DEVICES for m in self.mentions)

    @property
    def called(self) -> tuple[int, ...]:
        """1 for each of `PATHOLOGIES` that the impression calls present, whatever its words."""
        said = {m.pathology for m in self.mentions if m.state == POSITIVE and m.in_impression}
        if self.is_normal and not self.is_vague:
            said.add(NO_FINDING)
        return tuple(int(name in said) for name in PATHOLOGIES)

    def seen(self, pathology: str) -> Finding | None:
        """The finding called present or possible, if any."""
        for mention in self.mentions:
            if mention.pathology == pathology and mention.state != NEGATIVE:
                return mention.finding
        return None


def read_studies(studies: Sequence[Study]) -> tuple[Reading, ...]:
    """Read a patient's studies in order, each beside the reading before it."""
    readings: list[Reading] = []
    for study in studies:
        readings.append(_read(study, readings[-1] if readings else None))
    return tuple(readings)


def _read(study: Study, prior: Reading | None) -> Reading:
    rng = generator(study.patient.seed, Stream.READER, study.patient.index, study.index)
    rules = study.patient.settings.rules
    if rng.random() < _VAGUE:
        return Reading(study=study, mentions=(), is_vague=True)
    mentions: list[Mention] = []
    for pathology in PATHOLOGIES:
        if pathology == NO_FINDING:
            continue
        true = [finding for finding in study.findings if finding.pathology == pathology]
        before = prior.seen(pathology) if prior else None
        if true:
            mentions += _mentions_of_present(rng, true, before, rules=rules)
        else:
            mentions += _mentions_of_absent(rng, pathology)
    named = {mention.pathology for mention in mentions}
    for mention in tuple(mentions):
        wanted = _OPACITY_WORD.get(mention.pathology, 0.0) * (1.0 if mention.state == POSITIVE else 0.5)
        if "Lung Opacity" not in named and rng.random() < wanted:
            mentions.append(Mention(pathology="Lung Opacity", state=POSITIVE, finding=mention.finding))
            named.add("Lung Opacity")
    if not Reading(study=study, mentions=tuple(mentions)).is_normal:
        for pathology in PATHOLOGIES:
            draw = rng.random()  # what was missed is not denied outright; `_mistaken` alone decides what is wrong
            if pathology in named or pathology == NO_FINDING or study.has(pathology):
                continue
            asked = _denial_rate(pathology)
            if draw < asked + _ROUTINE.get(pathology, 0.0):
                before = prior.seen(pathology) if prior else None
                mentions.append(_denial(pathology, before=before, in_impression=bool(draw < asked)))
    return Reading(study=study, mentions=tuple(_mistaken(rng, mention, rules.wrong) for mention in mentions))


def _denial(pathology: str, *, before: Finding | None, in_impression: bool) -> Mention:
    return Mention(pathology=pathology, state=NEGATIVE, finding=None, prior=before, in_impression=in_impression)


def _mistaken(rng: np.random.Generator, mention: Mention, share: float) -> Mention:
    """Now and then a mention says the opposite: a slip of the tongue, the wrong template, the other patient's film."""
    if rng.random() >= 1.3 * share:  # devices are never imagined, so others must err more often
        return mention
    if mention.state != NEGATIVE:
        return replace(mention, state=NEGATIVE, finding=None)
    imagined = place_finding(rng, mention.pathology, severity=0.4 * rng.random(), before=()) if (
        mention.pathology != SUPPORT_DEVICES) else None  # fmt: skip
    return mention if imagined is None else replace(mention, state=POSITIVE, finding=imagined)


def _mentions_of_present(
    rng: np.random.Generator, true: Sequence[Finding], before: Finding | None, *, rules: Preset
) -> list[Mention]:
    """Mention what is there, unless it is missed; the subtle is missed and hedged more, the known less."""
    finding = true[0]
    missed = 2.6 * (rules.unreported - rules.wrong) * (1 - finding.severity) * (0.8 if before else 1.06)
    if rng.random() < missed:
        return []
    rate = PUBLISHED[finding.pathology]
    hedging = 0.7 * rate.uncertain / (rate.positive + rate.uncertain)
    hedged = rng.random() < np.clip(hedging * (1.5 - finding.severity), 0, 0.75)
    aside = rng.random() < _FINDINGS_ONLY.get(finding.pathology, _USUALLY_FINDINGS_ONLY)
    state = UNCERTAIN if hedged else POSITIVE
    return [
        Mention(pathology=each.pathology, state=state, finding=each, prior=before, in_impression=not aside)
        for each in true
    ]


def _mentions_of_absent(rng: np.random.Generator, pathology: str) -> list[Mention]:
    """Now and then a reader suspects what is not there."""
    rate = PUBLISHED[pathology]
    suspected = 0.3 * rate.uncertain / PUBLISHED_STUDIES
    if rng.random() >= suspected or pathology == SUPPORT_DEVICES:
        return []
    imagined = place_finding(rng, pathology, severity=0.2 * rng.random(), before=())
    return [Mention(pathology=pathology, state=UNCERTAIN, finding=imagined)]


def _denial_rate(pathology: str) -> float:
    """Chance that an abnormal study's report denies a finding that it does not name, from the published counts."""
    rate = PUBLISHED[pathology]
    abnormal = PUBLISHED_STUDIES - PUBLISHED[NO_FINDING].positive
    return rate.negative / (abnormal - rate.positive - rate.uncertain)
