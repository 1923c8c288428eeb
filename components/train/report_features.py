"""Reports as numbers for an image-report loss: who wrote the same, and how much alike two reports are.

They are read in training and nowhere else; nothing of words or studies is kept in a checkpoint or a bundle.

Shape letters: S studies of the training split, T distinct texts, F features, B studies of a part of a batch, K
candidates.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse import csr_matrix
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.preprocessing import normalize

from components.cxr.errors import UserError
from components.train.objectives.shown import ShownReports

__all__ = ["ReportFeatures"]

_MAX_WORDS = 20_000
"""The most frequent words and pairs of words that count."""
_NUM_FEATURES = 256
_NONE = -1


class ReportFeatures:
    """The distinct texts of a training split, and which of them may be told apart from which.

    Texts that differ in case, punctuation or spaces alone are one: the few sentences in which normal films are reported
    all over are one candidate, however many studies have them.

    >>> told = ["Clear lungs.", "clear  LUNGS", "Large effusion.", ""]
    >>> reports = ReportFeatures(told, patients=["a", "b", "a", "c"], seed=0)
    >>> reports.text_S.tolist(), reports.feature_TF.shape[0]
    ([0, 0, 1, -1], 2)
    >>> reports.show([1, 0, 3], step=0, num_candidates=2).negative_BK.sum(dim=1).tolist()  # the first study is also a's
    [1, 0, 0]

    Attributes:
        text_S: int64 index of each study's text, -1 without a report.
        feature_TF: float32 rows of length 1: tf-idf of words and pairs of words (Salton and Buckley 1988) along the
            directions of largest variance (latent semantic analysis; Deerwester et al. 1990).

    Args:
        reports: of S studies, "" where there is none.
        patients: by study.
        seed: of the candidates.

    Raises:
        UserError: fewer than two distinct texts, or no word in any.
    """

    def __init__(self, reports: Sequence[str], *, patients: Sequence[str], seed: int) -> None:
        normal = [" ".join(re.findall(r"\w+", report.lower())) for report in reports]
        texts = list(dict.fromkeys(text for text in normal if text))
        place = {text: t for t, text in enumerate(texts)} | {"": _NONE}
        self.text_S: npt.NDArray[np.int64] = np.array([place[text] for text in normal], dtype=np.int64)
        self.feature_TF = torch.from_numpy(_features(texts))
        told = np.flatnonzero(self.text_S != _NONE)
        _, self._patient_S = np.unique(np.asarray(patients), return_inverse=True)
        shape = (int(self._patient_S.max(initial=-1)) + 1, len(texts))
        at = (self._patient_S[told], self.text_S[told])
        self._wrote = csr_matrix((np.ones(len(told), dtype=np.int32), at), shape=shape)
        self._shared_T = np.asarray((self._wrote > 0).sum(axis=0)).ravel() > 1
        self._seed = seed

    def show(self, studies: Sequence[int], *, step: int, num_candidates: int) -> ShownReports:
        """What an image-report loss gets of some studies; on the host.

        The candidates are the same for all studies of a step, so that no answer depends on how they are divided.

        Args:
            studies: index of each study in the training split, length B.
        """
        num_texts, patients = len(self.feature_TF), self._patient_S[list(studies)]
        generator = np.random.default_rng([self._seed, step, 3])
        candidate_K = np.sort(generator.choice(num_texts, size=min(num_candidates, num_texts), replace=False))
        own_B = self.text_S[list(studies)]
        negative_BK = (self._wrote[patients][:, candidate_K].toarray() == 0) & (own_B != _NONE)[:, None]
        return ShownReports(
            own_B=torch.from_numpy(own_B),
            candidate_K=torch.from_numpy(candidate_K),
            negative_BK=torch.from_numpy(negative_BK),
            shared_B=torch.from_numpy(self._shared_T[own_B] & (own_B != _NONE)),
        )


def _features(texts: Sequence[str]) -> npt.NDArray[np.float32]:
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, max_features=_MAX_WORDS, token_pattern=r"\w+")
    if len(texts) < 2:
        raise UserError(
            "no-reports",
            "reports that do not differ teach nothing",
            where="train.report_alignment",
            found=f"{len(texts)} distinct texts of findings and impression in split train",
            expected="at least 2",
            remedy="Set train.report_alignment: null.",
        )
    counts_TW = words.fit_transform(texts)
    num_features = min(_NUM_FEATURES, min(counts_TW.shape) - 1)
    if num_features < 1:
        return counts_TW.toarray().astype(np.float32)  # type: ignore[no-any-return]
    found_TF = TruncatedSVD(num_features, random_state=0).fit_transform(counts_TW)
    return normalize(found_TF).astype(np.float32)  # type: ignore[no-any-return]
