"""A reader decides what to mention of a study: misses some findings, hedges others, omits most that are absent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from components.cxr.labels import NEGATIVE, NO_FINDING, PATHOLOGIES, POSITIVE, SUPPORT_DEVICES, UNCERTAIN
from pipeline.synthetic.keys import Stream, generator
from pipeline.synthetic.places import Finding, place_finding
from pipeline.synthetic.rates import PUBLISHED, PUBLISHED_STUDIES
from pipeline.synthetic.studies import Study

__all__ = ["Mention", "Reading", "labels_of", "read_studies"]

_RECALL = {
    "Enlarged Cardiomediastinum": 0.68,
    "Lung Opacity": 0.70,
    "Lung Lesion": 0.68,
    "Pleural Other": 0.66,
    "Fracture": 0.64,
    "Support Devices": 0.90,
}
_USUAL_RECALL = 0.74
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
    if rng.random() < _VAGUE:
        return Reading(study=study, mentions=(), is_vague=True)
    mentions: list[Mention] = []
    for pathology in PATHOLOGIES:
        if pathology == NO_FINDING:
            continue
        true = [finding for finding in study.findings if finding.pathology == pathology]
        before = prior.seen(pathology) if prior else None
        if true:
            mentions += _mentions_of_present(rng, true, before)
        else:
            mentions += _mentions_of_absent(rng, pathology)
    named = {mention.pathology for mention in mentions}
    for mention in tuple(mentions):
        wanted = _OPACITY_WORD.get(mention.pathology, 0.0) * (1.0 if mention.state == POSITIVE else 0.5)
        if "Lung Opacity" not in named and rng.random() < wanted:
            mentions.append(Mention(pathology="Lung Opacity", state=POSITIVE, finding=mention.finding))
            named.add("Lung Opacity")
    reading = Reading(study=study, mentions=tuple(mentions))
    if reading.is_normal:
        return reading
    for pathology in PATHOLOGIES:
        if pathology not in named and pathology != NO_FINDING and rng.random() < _denial_rate(pathology):
            before = prior.seen(pathology) if prior else None
            mentions.append(Mention(pathology=pathology, state=NEGATIVE, finding=None, prior=before))
    return Reading(study=study, mentions=tuple(mentions))


def _mentions_of_present(rng: np.random.Generator, true: Sequence[Finding], before: Finding | None) -> list[Mention]:
    """Mention what is there, unless it is missed; the subtle is missed and hedged more, the known less."""
    finding = true[0]
    recall = _RECALL.get(finding.pathology, _USUAL_RECALL) + 0.3 * finding.severity + 0.15 * (before is not None)
    if rng.random() > recall:
        return []
    rate = PUBLISHED[finding.pathology]
    hedging = 0.7 * rate.uncertain / (rate.positive + rate.uncertain)
    hedged = rng.random() < np.clip(hedging * (1.5 - finding.severity), 0, 0.75)
    state = UNCERTAIN if hedged else POSITIVE
    return [Mention(pathology=each.pathology, state=state, finding=each, prior=before) for each in true]


def _mentions_of_absent(rng: np.random.Generator, pathology: str) -> list[Mention]:
    """Now and then a reader suspects, or even reports, what is not there."""
    rate = PUBLISHED[pathology]
    suspected = 0.3 * rate.uncertain / PUBLISHED_STUDIES
    reported = 0.03 * rate.positive / PUBLISHED_STUDIES
    draw = rng.random()
    if draw >= suspected + reported or pathology == SUPPORT_DEVICES:
        return []
    imagined = place_finding(rng, pathology, severity=0.2 * rng.random(), before=())
    return [Mention(pathology=pathology, state=UNCERTAIN if draw < suspected else POSITIVE, finding=imagined)]


def _denial_rate(pathology: str) -> float:
    """Chance that an abnormal study's report denies a finding that it does not name, from the published counts."""
    rate = PUBLISHED[pathology]
    abnormal = PUBLISHED_STUDIES - PUBLISHED[NO_FINDING].positive
    return rate.negative / (abnormal - rate.positive - rate.uncertain)


def labels_of(reading: Reading) -> tuple[int | None, ...]:
    """The CheXpert row mined from a report: 1, 0, -1 or None (blank) for each of `PATHOLOGIES`.

    Present outranks possible outranks absent (Irvin et al. 2019). No Finding is 1 or blank. As in the published table,
    a report without findings has nothing but No Finding and devices, though its text denies several.
    """
    states: dict[str, int] = {}
    rank = (NEGATIVE, UNCERTAIN, POSITIVE)
    for mention in reading.mentions:
        held = states.get(mention.pathology, NEGATIVE)
        states[mention.pathology] = max(held, mention.state, key=rank.index)
    if reading.is_normal and not reading.is_vague:
        states = {name: state for name, state in states.items() if name == SUPPORT_DEVICES} | {NO_FINDING: POSITIVE}
    return tuple(states.get(name) for name in PATHOLOGIES)
