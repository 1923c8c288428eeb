"""How often each pathology occurs: MIMIC-CXR's published label counts, and the rates of the synthetic truth."""

from __future__ import annotations

from typing import NamedTuple

from pipeline.synthetic.presets import Prevalence

__all__ = ["PUBLISHED", "PUBLISHED_STUDIES", "PublishedRate", "prevalence"]

PUBLISHED_STUDIES = 222_750
"""Labeled training studies behind `PUBLISHED`."""


class PublishedRate(NamedTuple):
    """Training studies of MIMIC-CXR that CheXpert labeled 1, 0 and -1; the rest are blank."""

    positive: int
    negative: int
    uncertain: int


PUBLISHED: dict[str, PublishedRate] = {
    "No Finding": PublishedRate(74_019, 0, 0),
    "Enlarged Cardiomediastinum": PublishedRate(6_798, 5_158, 9_015),
    "Cardiomegaly": PublishedRate(38_002, 15_563, 5_753),
    "Lung Opacity": PublishedRate(49_512, 2_794, 2_052),
    "Lung Lesion": PublishedRate(5_939, 822, 996),
    "Edema": PublishedRate(25_549, 24_746, 11_426),
    "Consolidation": PublishedRate(10_199, 7_791, 2_913),
    "Pneumonia": PublishedRate(15_333, 23_771, 17_313),
    "Atelectasis": PublishedRate(44_012, 921, 9_623),
    "Pneumothorax": PublishedRate(9_159, 41_250, 848),
    "Pleural Effusion": PublishedRate(51_680, 26_532, 5_184),
    "Pleural Other": PublishedRate(1_884, 120, 707),
    "Fracture": PublishedRate(3_675, 871, 295),
    "Support Devices": PublishedRate(63_971, 3_014, 95),
}

_SEEN = {
    "Enlarged Cardiomediastinum": 0.50,
    "Lung Lesion": 0.66,
    "Edema": 0.63,
    "Consolidation": 0.62,
    "Pneumonia": 0.48,
    "Pleural Other": 0.50,
    "Fracture": 0.68,
    "Support Devices": 0.66,
}
_USUALLY_SEEN = 0.74
"""Roughly the share of present findings that a report of the preset `medium` has labeled 1; uncertain ones are not."""
_FLOOR = 0.12
"""Least share of studies labeled 1 of each finding with the prevalence `floor`."""
_OTHER_OPACITY = {"mimic": 0.05, "floor": 0.08}
"""Share of studies with an opacity that is none of the named ones."""


def prevalence(pathology: str, kind: Prevalence) -> float:
    """Share of studies in which the truth holds the finding itself, in (0, 1).

    The published rate of positives divided by the share that gets that label, because labels come from reports. `floor`
    raises it until 12 % are labeled 1, so that a test split of 100 studies can hold 15 of all 14. Of Lung Opacity it is
    the share that is none of the named opacities.
    """
    if pathology == "Lung Opacity":
        return _OTHER_OPACITY[kind]
    published = PUBLISHED[pathology].positive / PUBLISHED_STUDIES
    labeled = max(published, _FLOOR) if kind == "floor" else published
    return labeled / _SEEN.get(pathology, _USUALLY_SEEN)
