"""Who teaches each entry, and what."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from components.cxr.labels import BLANK, NEGATIVE, POSITIVE, UNCERTAIN, LabelPolicy
from components.cxr.shards import LoadedManifest
from components.train.config import TrainConfig
from components.train.report_labels import training_reports
from components.train.setup import Setup
from components.train.supervision import supervision_of

WORDS = {POSITIVE: "large effusion seen", NEGATIVE: "no fluid", UNCERTAIN: "possible small effusion"}
STATES_SP = np.array(
    [[POSITIVE, POSITIVE], [NEGATIVE, POSITIVE], [UNCERTAIN, POSITIVE]] * 4
    + [[BLANK, BLANK], [BLANK, BLANK], [BLANK, BLANK], [NEGATIVE, BLANK]],
    dtype=np.int8,
)
LABELED_S = np.array([True] * 12 + [False] * 4)
REPORTS = [WORDS[int(state)] for state in STATES_SP[:12, 0]] + ["a large effusion", "there is no fluid", "", "no fluid"]


def test_labels_are_certain_targets_and_the_rest_has_none() -> None:
    taught = supervision_of(STATES_SP, LABELED_S, policy=LabelPolicy())
    assert taught.target_SP3[:3, 0].tolist() == [[0, 0, 1], [1, 0, 0], [0, 1, 0]]
    assert not taught.target_SP3[12:].any()
    assert taught.weight_SP[:12].eq(1).all()
    assert not taught.weight_SP[12:].any()
    assert taught.taught().tolist() == LABELED_S.tolist()


def test_reports_teach_the_studies_without_labels_and_no_others() -> None:
    labels, both = (
        supervision_of(STATES_SP, LABELED_S, policy=LabelPolicy(), reports=told) for told in (None, REPORTS)
    )
    assert torch.equal(both.target_SP3[:12], labels.target_SP3[:12])
    assert both.target_SP3[12:, 0].argmax(dim=1)[[0, 1, 3]].tolist() == [2, 0, 0]
    torch.testing.assert_close(both.target_SP3[12:, 0].sum(dim=1), torch.tensor([1.0, 1.0, 0.0, 1.0]))
    assert both.weight_SP[12:, 0].tolist() == [1, 1, 0, 1], "the third has no report"
    assert not both.weight_SP[12:, 1].any(), "all labels are the same: nothing to tell apart"
    assert torch.equal(both.log_share_P3, labels.log_share_P3)
    assert both.taught().tolist() == [True] * 14 + [False, True]


def test_pseudo_labels_are_left_for_what_nobody_teaches_and_labels_tell_apart() -> None:
    labels, both = (
        supervision_of(STATES_SP, LABELED_S, policy=LabelPolicy(), reports=told) for told in (None, REPORTS)
    )
    assert labels.untaught().tolist() == [[False, False]] * 12 + [[True, False]] * 4
    assert both.untaught().tolist() == [[False, False]] * 14 + [[True, False], [False, False]], "no report to read"


def test_a_pseudo_label_is_a_target_where_there_was_none() -> None:
    labels = supervision_of(STATES_SP, LABELED_S, policy=LabelPolicy())
    pseudo_SP = torch.full((16, 2), torch.nan)
    pseudo_SP[12:, 0] = torch.tensor([0.0, 0.25, 0.5, 1.0])
    told = labels.with_pseudo(pseudo_SP)
    assert torch.equal(told.target_SP3[:12], labels.target_SP3[:12])
    assert told.target_SP3[12:, 0].tolist() == [[1.0, 0.0, 0.0], [0.75, 0.0, 0.25], [0.5, 0.0, 0.5], [0.0, 0.0, 1.0]]
    assert told.weight_SP[12:].tolist() == [[1.0, 0.0]] * 4
    assert torch.equal(told.weight_SP[:12], labels.weight_SP[:12])
    assert not told.untaught().any()
    assert told.taught().all()
    assert labels.untaught()[12:, 0].all(), "what the teachers were asked is left as it was"


def test_what_reports_teach_follows_their_words() -> None:
    swapped = [*REPORTS[:12], REPORTS[13], REPORTS[12], *REPORTS[14:]]
    one, other = (
        supervision_of(STATES_SP, LABELED_S, policy=LabelPolicy(), reports=told) for told in (REPORTS, swapped)
    )
    torch.testing.assert_close(one.target_SP3[[12, 13]], other.target_SP3[[13, 12]])


@pytest.mark.parametrize("reports", [[""] * 16, ["-"] * 16, [""] * 12 + REPORTS[12:], REPORTS[:12] + [""] * 4])
def test_without_reports_on_either_side_nobody_teaches_more(reports: list[str]) -> None:
    taught = supervision_of(STATES_SP, LABELED_S, policy=LabelPolicy(), reports=reports)
    assert taught.taught().tolist() == LABELED_S.tolist()


def test_blanks_that_teach_less_count_less_among_the_reports_too() -> None:
    """At weight 0 a blank's report is no example of anything."""
    states_SP = np.where(STATES_SP[:, :1] == NEGATIVE, BLANK, STATES_SP[:, :1])
    full, none = (
        supervision_of(states_SP, LABELED_S, policy=LabelPolicy(blank_weight=weight), reports=REPORTS)
        for weight in (1.0, 0.0)
    )
    assert full.target_SP3[13, 0, 0] > 0.5
    assert none.target_SP3[13, 0, 0] == 0.0


def test_blanks_of_a_small_weight_pull_less_at_what_reports_say_and_at_the_prior() -> None:
    states_SP = np.where(STATES_SP[:, :1] == NEGATIVE, BLANK, STATES_SP[:, :1])
    full, little = (
        supervision_of(states_SP, LABELED_S, policy=LabelPolicy(blank_weight=weight), reports=REPORTS)
        for weight in (1.0, 0.05)
    )
    asked = [12, 13, 15]  # the fourteenth has no report
    assert (little.target_SP3[asked, 0, 2] > full.target_SP3[asked, 0, 2] + 0.01).all()
    assert little.log_share_P3[0, 0] < full.log_share_P3[0, 0]


def test_a_training_reads_the_reports_of_its_own_split(tiny_data: LoadedManifest, tiny_config: TrainConfig) -> None:
    config = tiny_config.model_copy(update={"labeled_fraction": 0.5, "report_labels": True})
    setup = Setup(config, tiny_data, device=torch.device("cpu"))
    reports = training_reports(tiny_data)
    assert len(reports) == len(setup.training)
    told_S = np.array([bool(report) for report in reports])
    unlabeled_S = ~setup.training.labeled_S
    assert (unlabeled_S & told_S).any()
    np.testing.assert_array_equal(setup.supervision.taught()[unlabeled_S], told_S[unlabeled_S])
    assert setup.training.texts() != reports, "they are no input"
