"""How often each pathology occurs: MIMIC-CXR's published label counts, and the raised rates of the synthetic truth."""

from __future__ import annotations

from typing import NamedTuple

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

_EXPONENT = 0.35
_ANCHOR = 0.17
_SEEN = 0.78
"""Roughly the share of present findings that a reader reports as present."""


def prevalence(pathology: str) -> float:
    """Share of studies in which the truth holds the finding, in (0, 1).

    The published rate p (positive, and half of the uncertain) becomes p**0.35 * 0.17**0.65: common findings keep about
    their rate, and one seen in 1 of 120 studies is raised to 1 in 12, so that a few hundred studies hold positives of
    all 14. It is then divided by the share that readers report, because labels come from reports.
    """
    published = (PUBLISHED[pathology].positive + PUBLISHED[pathology].uncertain / 2) / PUBLISHED_STUDIES
    return float(published**_EXPONENT * _ANCHOR ** (1 - _EXPONENT) / _SEEN)
