"""The table from Open-i's MeSH terms to the 14 pathologies.

A term is a heading and qualifiers (`Opacity/lung/base/left`). People wrote them from the whole report for what is
there: what is absent or doubtful has no term. The table follows CheXpert's sense of its 14 (an opacity is also an
infiltrate, a scar or interstitial markings; a device is also hardware), to stand beside MIMIC-CXR's labels.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["NO_INDEXING", "NO_PATHOLOGY", "RULES", "Rule", "is_known", "pathologies_of"]

NO_INDEXING = "no indexing"
"""Stands alone in a report that nobody labeled."""


class Rule(NamedTuple):
    """A heading, perhaps only with or without some qualifiers, and what it means."""

    heading: str
    pathology: str
    having: frozenset[str] = frozenset()
    """At least one of these qualifiers; empty for any."""
    without: frozenset[str] = frozenset()
    """None of these."""


def _rules(*lines: str) -> tuple[Rule, ...]:
    """Lines of `pathology: heading [/ qualifier | qualifier] [/ not qualifier | qualifier]`."""
    rules = []
    for line in lines:
        pathology, _, terms = line.partition(":")
        for term in terms.split(";"):
            heading, *conditions = (part.strip() for part in term.split("/"))
            having = [c for c in conditions if not c.startswith("not ")]
            without = [c.removeprefix("not ") for c in conditions if c.startswith("not ")]
            rules.append(Rule(heading, pathology, _alternatives(having), _alternatives(without)))
    return tuple(rules)


def _alternatives(conditions: list[str]) -> frozenset[str]:
    return frozenset(word.strip() for condition in conditions for word in condition.split("|"))


RULES = _rules(
    "No Finding: normal",
    "Enlarged Cardiomediastinum: mediastinum / enlarged | prominent / not lymph nodes; density / mediastinum",
    "Cardiomegaly: cardiomegaly; cardiac shadow / enlarged; heart / enlarged; heart ventricles / enlarged",
    "Cardiomegaly: heart atria / enlarged",
    "Lung Opacity: opacity; airspace disease; infiltrate; density / not mediastinum | breast | abdomen",
    "Lung Opacity: markings / interstitial; cicatrix / lung; lung diseases, interstitial; pulmonary fibrosis",
    "Lung Opacity: lung / interstitial",
    "Lung Lesion: nodule / not breast | nipple; mass / not breast | mediastinum | abdomen; cavitation; lung neoplasms",
    "Lung Lesion: opacity / round; density / round / not mediastinum | breast | abdomen; neoplasms; carcinoma",
    "Edema: pulmonary edema; pulmonary congestion; heart failure",
    "Consolidation: consolidation",
    "Pneumonia: pneumonia",
    "Atelectasis: pulmonary atelectasis",
    "Pneumothorax: pneumothorax; hydropneumothorax; hemopneumothorax",
    "Pleural Effusion: pleural effusion; hydropneumothorax; hemopneumothorax; hemothorax",
    "Pleural Other: thickening / pleura; cicatrix / pleura; calcinosis / pleura; deformity / pleura; mass / pleura",
    "Fracture: fractures, bone",
    "Support Devices: catheters, indwelling; implanted medical device; medical device; tube, inserted; stents",
)
"""All rules that match a term count."""

_OTHERS = """
    abdomen; adipose tissue; aorta; aorta, thoracic; aortic aneurysm; arthritis; atherosclerosis; azygos lobe; blister;
    bone and bones; bone diseases, metabolic; breast implants; bronchiectasis; bronchiolitis; bronchitis;
    bullous emphysema; calcified granuloma; calcinosis; cardiac shadow; cholelithiasis; cicatrix; contrast media;
    costophrenic angle; cystic fibrosis; cysts; deformity; density; diaphragm; diaphragmatic eventration; dislocations;
    emphysema; epicardial fat; expansile bone lesions; foreign bodies; funnel chest; granuloma; granulomatous disease;
    heart; heart atria; heart ventricles; hernia, diaphragmatic; hernia, hiatal; humerus;
    hyperostosis, diffuse idiopathic skeletal; hypertension, pulmonary; kyphosis; lucency; lumbar vertebrae; lung;
    lung, hyperlucent; lymph nodes; markings; mass; mastectomy; mediastinal emphysema; mediastinum; nipple shadow;
    nodule; osteophyte; osteoporosis; pectus carinatum; pericardial effusion; pleura; pneumonectomy; pneumoperitoneum;
    pulmonary artery; pulmonary disease, chronic obstructive; pulmonary emphysema; ribs; sarcoidosis; sclerosis;
    scoliosis; shift; shoulder; spinal fusion; spine; spondylosis; subcutaneous emphysema; sulcus; surgical instruments;
    sutures; technical quality of image unsatisfactory; thickening; thoracic vertebrae; trachea, carina; tuberculosis;
    volume loss
"""

NO_PATHOLOGY = frozenset(heading.strip() for heading in _OTHERS.split(";"))
"""Headings that name none of the 14, or only with the qualifiers above."""


def pathologies_of(term: str) -> frozenset[str]:
    """What one term affirms; empty for none of the 14."""
    heading, qualifiers = _split(term)
    return frozenset(
        rule.pathology
        for rule in RULES
        if rule.heading == heading and (not rule.having or rule.having & qualifiers) and not rule.without & qualifiers
    )


def is_known(term: str) -> bool:
    """Whether the tables above have the term's heading."""
    heading, _ = _split(term)
    return heading in NO_PATHOLOGY or heading == NO_INDEXING or any(rule.heading == heading for rule in RULES)


def _split(term: str) -> tuple[str, frozenset[str]]:
    heading, *qualifiers = (" ".join(part.split()).lower() for part in term.split("/"))
    return heading, frozenset(qualifiers)
