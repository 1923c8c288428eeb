"""The report's part on a second truth: scores against it, and how far the data set's labels agree with it.

Shape letters: S studies, P pathologies.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from components.cxr.errors import UserError
from components.cxr.operating_points import OperatingPoint
from components.cxr.report import Condition, Score, TruthReport
from components.evaluate.agreement import agreement_of
from components.evaluate.config import EvaluateConfig
from components.evaluate.predictions import Rows, Scores, Studies
from components.evaluate.truth_table import SecondTruth

__all__ = ["BesideTruth", "second_truth_of"]


@dataclass(frozen=True)
class BesideTruth:
    """The test studies that a second truth has, with its labels in place of the data set's."""

    report: TruthReport
    rows: Rows
    known_S: npt.NDArray[np.bool_]
    """Over all test studies."""

    def scores(
        self,
        table: Callable[..., Score],
        points: dict[Condition, dict[str, OperatingPoint]],
        scores: dict[Condition, Scores],
    ) -> Iterator[Score]:
        """A table per condition, with the thresholds and calibration of the data set's own labels."""
        for condition, said in scores.items():
            keys = {"points": points[condition], "condition": condition, "protocol": "truth"}
            yield table(said.score_NP[self.known_S], self.rows, **keys, missing=self.report.missing)


def second_truth_of(config: EvaluateConfig, truth: SecondTruth, test: Studies) -> BesideTruth:
    """Join the second truth with the test studies.

    Raises:
        UserError: it has none of them.
    """
    assert config.second_truth is not None
    states_SP, known_S = truth.states_of(test.rows.studies)
    if not known_S.any():
        raise UserError(
            "no-second-truth",
            "second truth has no test study",
            where=truth.where,
            found=f"{truth.num_studies} studies with ids like {truth.id_shape}, "
            f"none of them among {len(test)} test studies",
            expected="study_id as the source of the data set has it",
            remedy="Check evaluate.second_truth.table and CXRFLOW_ID_KEY.",
        )
    possible = min(truth.num_studies, len(test))
    if 2 * known_S.sum() < possible:
        print(
            f"warning: {known_S.sum()} of {possible} studies of the second truth are test studies: {truth.where}; "
            f"its ids look like {truth.id_shape}, those of the data set's source should too",
            file=sys.stderr,
            flush=True,
        )
    own = test.rows.select(known_S)
    rows = Rows(states_SP[known_S], np.ones(int(known_S.sum()), dtype=bool), own.patients, own.studies)
    both_N = own.labeled_N
    agreement = agreement_of(
        own.states_NP[both_N],
        rows.states_NP[both_N],
        own.select(both_N).patients,
        pathologies=truth.pathologies,
        num_resamples=config.num_bootstrap,
        seed=config.seed,
    )
    report = TruthReport(
        name=config.second_truth.name,
        table_hash=truth.sha256[:16],
        studies=len(rows.studies),
        missing=truth.missing,
        agreement={name: found for name, found in agreement.items() if name not in truth.missing},
    )
    return BesideTruth(report, rows, known_S)
