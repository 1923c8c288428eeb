"""Labels for studies without any, from what a linear classifier learns of the labeled studies' reports.

Findings and impression say what was seen, so that a few hundred labeled reports label the rest nearly as a labeler
would. They are read here, in training, and nowhere else: the network has no input for them. docs/learning.md has what
it is worth.

Shape letters: S studies of the training split, P pathologies, W word pairs.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from components.cxr.labels import NO_TARGET, Targets
from components.cxr.model.dataset import StudyDataset
from components.cxr.shards import LoadedManifest
from components.cxr.text.text import TextConfig

__all__ = ["ReportLabels", "report_labels", "training_reports"]

_MAX_WORDS = 20_000
"""The most frequent words and pairs of words that count."""


class ReportLabels(NamedTuple):
    """What reports say of the studies that no one labeled."""

    chance_SP3: npt.NDArray[np.float32]
    """Of negative, uncertain, positive; rows sum to 1 where `known_SP`, and are 0 elsewhere."""
    known_SP: npt.NDArray[np.bool_]
    """False in labeled studies, in those without a report, and for pathologies whose labels are all the same."""


def training_reports(loaded: LoadedManifest) -> list[str]:
    """Findings and impression of every training study, "" where it has neither."""
    sections = TextConfig(sections=("findings", "impression"), allow_leaky_sections=True)
    return StudyDataset(loaded, splits=["train"], text=sections, max_views=1).texts()


def report_labels(reports: Sequence[str], targets: Targets, labeled_S: npt.NDArray[np.bool_]) -> ReportLabels:
    """Label every unlabeled study that has a report.

    One logistic regression per pathology on the words and pairs of words of the report (tf-idf; Salton and Buckley
    1988), trained toward the targets of the labeled studies with their weights.

    >>> targets = Targets(np.array([[0], [2], [-1]]), np.array([[1], [1], [0]], np.float32), np.array([[0], [0], [1]]))
    >>> told = ["lungs are clear", "a large effusion", "there is a large effusion"]
    >>> report_labels(told, targets, np.array([True, True, False])).chance_SP3[2, 0].argmax().item()
    2

    Args:
        reports: of S studies.
        labeled_S: whether anything of the study is labeled.
    """
    shape = targets.target_BP.shape
    chance_SP3 = np.zeros((*shape, 3), dtype=np.float32)
    known_SP = np.zeros(shape, dtype=bool)
    told_S = np.array([bool(report) for report in reports], dtype=bool)
    asked_S = told_S & ~labeled_S
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, max_features=_MAX_WORDS)
    has_words = any(re.search(words.token_pattern, report) for report in reports)
    if not asked_S.any() or not (told_S & labeled_S).any() or not has_words:
        return ReportLabels(chance_SP3, known_SP)
    counts_SW = words.fit_transform(reports)
    for p in range(shape[1]):
        taught_S = told_S & labeled_S & (targets.target_BP[:, p] != NO_TARGET) & (targets.weight_BP[:, p] > 0)
        class_S = targets.target_BP[taught_S, p]
        if len(np.unique(class_S)) < 2:
            continue
        model = LogisticRegression(C=10.0, max_iter=1000)
        model.fit(counts_SW[taught_S], class_S, sample_weight=targets.weight_BP[taught_S, p])
        asked = np.flatnonzero(asked_S)
        chance_SP3[asked[:, None], p, model.classes_] = model.predict_proba(counts_SW[asked])
        known_SP[asked, p] = True
    return ReportLabels(chance_SP3, known_SP)
