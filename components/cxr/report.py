"""The third contract: what evaluation found, for the tables, the decision and the deployment check."""

from __future__ import annotations

import io
import json
from typing import Literal, Self, get_args

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field, model_validator

from components.cxr.config import Config
from components.cxr.errors import UserError
from components.cxr.labels import LabelPolicy
from components.cxr.shards import read_versioned
from components.cxr.storage.parquet import parquet_table
from components.cxr.storage.storage import Storage

__all__ = [
    "CONDITIONS", "LEAKY_TEXT", "LOW_SUPPORT", "METRICS", "PREDICTIONS", "REPORT",
    "Agreement", "Condition", "Difference", "Estimate", "Gain", "GoldenStudy", "GroupValue", "History", "Interval",
    "MeanScore", "Metric", "Metrics", "PathologyScore", "Protocol", "Reliability", "Report", "Score", "Subgroup",
    "ThresholdRule", "TruthReport", "UncertainScore",
    "load_predictions", "load_report", "write_predictions", "write_report",
]  # fmt: skip

SCHEMA_VERSION = 4
REPORT = "report.json"
PREDICTIONS = "predictions.parquet"

Condition = Literal["all", "image", "image+meta", "text", "meta"]
CONDITIONS: tuple[Condition, ...] = ("all", "image", "image+meta", "text", "meta")
"""What the model sees: pixels, pre-read text and metadata (age, sex, view), or a part of them."""

LEAKY_TEXT = "the model reads what was, or may be, written after the read, from which the labels were mined"
"""The reason of `Report.leaks` that lies in the model's text input."""

LOW_SUPPORT = 10
"""Positive or negative patients below which a pathology's scores are marked wherever they are shown."""

Protocol = Literal["A", "B", "truth"]
"""A: blank and uncertain count as 0. B: explicit 1 and 0, and 0 beside No Finding (labels.truth_of). truth: as A, on
the labels of a second truth in place of the data set's."""


class ThresholdRule(Config):
    """How the threshold of an answer is chosen on validation."""

    rule: Literal["youden", "f1", "sensitivity", "specificity"] = "youden"
    """The best of Youden's J (recall + specificity - 1) or F1, or the most specific answer of at least the sensitivity
    `level`, or the most sensitive one of at least the specificity `level`."""
    level: float | None = Field(None, gt=0.0, lt=1.0)
    """Of sensitivity or specificity on validation; for these two rules alone."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.level is None) is (self.rule in ("sensitivity", "specificity")):
            raise ValueError("a level with the rules sensitivity and specificity, and with no other")
        return self

    @property
    def told(self) -> str:
        """In words.

        >>> ThresholdRule(rule="sensitivity", level=0.9).told
        'at least 90 % sensitivity'
        """
        if self.level is not None:
            return f"at least {100 * self.level:g} % {self.rule}"
        return {"youden": "the best Youden's J", "f1": "the best F1"}[self.rule]


class Interval(Config):
    """A 95 % interval from a bootstrap over patients (components/evaluate/bootstrap.py), or by formula."""

    low: float
    high: float


Metric = Literal[
    "auroc",
    "average_precision",
    "accuracy",
    "precision",
    "recall",
    "specificity",
    "f1",
    "sensitivity_at_90_specificity",
    "sensitivity_at_95_specificity",
    "specificity_at_90_sensitivity",
    "specificity_at_95_sensitivity",
    "ppv",
    "npv",
    "brier",
    "ece",
]
METRICS: tuple[Metric, ...] = get_args(Metric)
"""What a table has per pathology and as a mean, each with an interval, in the order of wide tables."""


class Metrics(Config):
    """Values of every one of METRICS, in [0, 1]; undefined is None, never 0."""

    auroc: float | None = None
    average_precision: float | None = None
    accuracy: float | None = None
    """This, precision, recall, specificity and F1 at the threshold from validation."""
    precision: float | None = None
    """None where no answer is positive."""
    recall: float | None = None
    specificity: float | None = None
    f1: float | None = None
    sensitivity_at_90_specificity: float | None = None
    """On the ROC curve of these very rows, as the next three: the highest sensitivity of all thresholds with at least
    that specificity. No threshold that could be served."""
    sensitivity_at_95_specificity: float | None = None
    specificity_at_90_sensitivity: float | None = None
    specificity_at_95_sensitivity: float | None = None
    ppv: float | None = None
    """Positive predictive value of the answer at `PathologyScore.prevalence`, from recall and specificity."""
    npv: float | None = None
    """Negative predictive value, likewise."""
    brier: float | None = None
    """Mean squared error of the calibrated probability (Brier 1950)."""
    ece: float | None = None
    """Expected calibration error of the calibrated probability, 10 equal-width bins."""
    intervals: dict[Metric, Interval] = Field(default_factory=dict)
    """By metric; none for one that is undefined, or is so in more than 10 % of the resamples."""
    resamples: dict[Metric, int] = Field(default_factory=dict)
    """How many resamples define the metric, where not all do."""


class PathologyScore(Metrics):
    """Scores of one pathology, with the counts behind them."""

    threshold: float | None = None
    """Probability from which the answer is positive, chosen on validation; None for a table that comes without."""
    prevalence: float | None = None
    """Share of positives that PPV and NPV are for: of these rows where the configuration states none."""
    positives: int
    negatives: int
    unknown: int
    """Rows that the protocol leaves out."""
    positive_patients: int
    """Patients with a positive row."""
    negative_patients: int
    """Patients with a negative row."""

    @property
    def low_support(self) -> bool:
        """Fewer than `LOW_SUPPORT` positive or negative patients: the score and its interval are hardly known."""
        return min(self.positive_patients, self.negative_patients) < LOW_SUPPORT


class MeanScore(Metrics):
    """Means over `pathologies`: those of the configured list whose AUROC is defined on all rows.

    The list is the same for every metric and in every resample: where a metric is undefined for one of them, so is its
    mean.
    """

    pathologies: tuple[str, ...]


class Score(Config):
    """One table: a condition, a protocol and a unit."""

    condition: Condition
    protocol: Protocol
    unit: Literal["study", "image"]
    subset: Literal["all", "common"]
    """All test studies, or those that have film, text and metadata (age, sex or view)."""
    num_patients: int
    num_studies: int
    num_rows: int
    """Studies or images, as `unit` says."""
    pathologies: dict[str, PathologyScore]
    mean: MeanScore


class Difference(Config):
    """Of two AUROCs on the same rows."""

    difference: float | None
    """None where one is undefined."""
    ci: Interval | None
    """Of a pathology by formula, of a mean by the bootstrap; both over patients."""
    p_value: float | None
    """Of no difference, two-sided, adjusted for the number of pathologies (Holm 1979); None for a mean."""


class Gain(Config):
    """AUROC of `condition` minus that of `over`, protocol A, on the studies that have films, text and metadata."""

    condition: Condition
    over: Condition
    num_studies: int
    num_patients: int
    pathologies: dict[str, Difference]
    mean: Difference
    """Over the headline's pathologies that have a difference."""


class Agreement(Config):
    """Positive against not positive (protocol A: blank and uncertain count as 0); undefined is None, never 0."""

    studies: int
    """That both label sets have."""
    both_positive: int
    first_alone: int
    """Positive in the first label set alone."""
    second_alone: int
    """Positive in the second label set alone."""
    agreement: float | None
    """Share of the studies on which they agree, in [0, 1]; None without studies."""
    kappa: float | None
    """Cohen's kappa (Cohen 1960), in [-1, 1]; None when both sets call every study the same."""
    kappa_ci: Interval | None
    """Over the resamples in which kappa is defined."""


class UncertainScore(Config):
    """How one pathology's third state does: labels and answers of 1, 0 and -1, blank labels counting as 0."""

    uncertain: int
    """Studies with the label -1."""
    uncertain_patients: int
    auroc: float | None
    """Of the probability of uncertain, for uncertain against all other labels."""
    auroc_ci: Interval | None
    abstention: float
    """Share of the answers that are -1."""
    abstention_ci: Interval | None
    confusion: tuple[tuple[int, int, int], tuple[int, int, int], tuple[int, int, int]]
    """Studies by label (row) and answer (column), each in the order -1, 0, 1."""

    @property
    def low_support(self) -> bool:
        """Fewer than `LOW_SUPPORT` patients with an uncertain label."""
        return self.uncertain_patients < LOW_SUPPORT


class Reliability(Config):
    """Of one pathology's probabilities."""

    brier: float | None
    brier_ci: Interval | None
    ece: float | None
    ece_ci: Interval | None


class TruthReport(Config):
    """A second truth of the test studies, and how far the data set's labels agree with it."""

    name: str
    """What made it, such as radiologist."""
    table_hash: str
    """Of the table's labels."""
    studies: int
    """Test studies that it has."""
    missing: tuple[str, ...]
    """Pathologies that it does not have; undefined under protocol truth."""
    agreement: dict[str, Agreement]
    """By pathology; the data set's labels are the first, the second truth's the second."""


class GroupValue(Config):
    """A number of one subgroup, in [0, 1]; undefined is None, never 0."""

    value: float | None = None
    ci: Interval | None = None
    gap: float | None = None
    """To all other studies of which the attribute is known; None where they are too few."""
    gap_ci: Interval | None = None


class Subgroup(Config):
    """One group of test studies, protocol A, by study, with every input; no scores where it is too small."""

    attribute: str
    """sex, age, race, insurance, view, images, indication or support devices."""
    group: str
    studies: int
    patients: int
    too_small: bool
    """Fewer than 50 studies."""
    pathologies: tuple[str, ...]
    """Over which the next three are means: of the headline, those with enough patients on both sides."""
    auroc: GroupValue
    tpr: GroupValue
    """Sensitivity at the threshold from validation."""
    fpr: GroupValue
    """1 - specificity, likewise."""
    underdiagnosis: GroupValue
    """Share of the studies with a finding (Support Devices aside) that are answered with No Finding."""


class Estimate(Config):
    """A number and its interval; undefined is None, never 0."""

    value: float | None = None
    ci: Interval | None = None


class History(Config):
    """Whether films add to what text and metadata say, protocol A, on the studies that have all three.

    Balanced: a positive is compared only with negatives of the same twentieth of the studies by what text and
    metadata predict of the pathology. Except `films`, all are means over `pathologies`.
    """

    num_studies: int
    num_patients: int
    pathologies: tuple[str, ...]
    """Of the headline, those with a balanced AUROC."""
    plain: dict[Condition, Estimate]
    """AUROC of the conditions with films."""
    balanced: dict[Condition, Estimate]
    films: dict[str, Estimate]
    """Balanced AUROC of films alone by pathology."""
    context: Estimate
    """AUROC of what text and metadata predict."""
    context_balanced: Estimate
    """The same, balanced: what is left of it within a twentieth, 0.5 in the limit."""
    films_over_context: Difference
    """Balanced AUROC of films alone minus that."""
    text: Estimate
    meta: Estimate
    text_over_films: Difference
    """AUROC of the text alone minus that of films alone."""
    shuffled: Estimate | None
    """With every input, the text another patient's; None where there are no texts to exchange."""
    own_over_shuffled: Difference | None
    """With the study's own text minus with another patient's."""
    alarms: tuple[str, ...]
    """Why the text says more than it should before the film is read."""


class GoldenStudy(Config):
    """A study and the answer that a faithful server must give for it."""

    shard: str
    row: int
    """First row of the study in the shard."""
    num_images: int
    probabilities: dict[str, float]
    """Calibrated, condition `all`."""


class Report(Config):
    """Everything that evaluation computed for one bundle on one data set."""

    schema_version: int = SCHEMA_VERSION
    bundle_hash: str
    manifest_hash: str
    mlflow_run_id: str | None
    """Of the training, which evaluation joined; None when there is none."""
    operating_points_hash: str
    """Of the operating points behind every probability and answer here."""
    leaks: tuple[str, ...] = ()
    """Why the scores prove nothing: the model reads sections written after the film was read, or it was trained on test
    patients. Such a model is never promoted."""
    label_policy: LabelPolicy
    """The policies that the model was trained with."""
    threshold_rule: ThresholdRule
    scores: tuple[Score, ...]
    gains: tuple[Gain, ...]
    """Empty where no study has films, text and metadata."""
    uncertain: dict[str, UncertainScore] = Field(default_factory=dict)
    """On the headline's studies, of pathologies that have uncertain labels there."""
    uncalibrated: dict[str, Reliability] = Field(default_factory=dict)
    """Of the headline's probabilities as they were before Platt scaling; how they are after it, the headline says."""
    golden: tuple[GoldenStudy, ...]
    num_bootstrap: int
    second_truth: TruthReport | None = None
    """None when none is configured."""
    subgroups: tuple[Subgroup, ...] = ()
    history: History | None = None
    """None where no study has films, text and metadata."""

    @property
    def leaky(self) -> bool:
        """Whether the scores prove nothing (`leaks` says why)."""
        return bool(self.leaks)

    @property
    def headline(self) -> Score:
        """Every modality, protocol A, by study, over all test studies."""
        return self.score("all")

    def score(
        self,
        condition: Condition,
        *,
        protocol: Protocol = "A",
        unit: Literal["study", "image"] = "study",
        subset: Literal["all", "common"] = "all",
    ) -> Score:
        """The one table with these keys.

        Raises:
            KeyError: the report has no such table.
        """
        wanted = (condition, protocol, unit, subset)
        for score in self.scores:
            if (score.condition, score.protocol, score.unit, score.subset) == wanted:
                return score
        raise KeyError(wanted)


def write_report(storage: Storage, report: Report, *, over: int | None = None) -> None:
    """Write the report, the last file of an evaluation: its presence means complete.

    Args:
        over: generation of the file that it may replace, ABSENT for none; None for whichever.

    Raises:
        StaleWriteError: there is another one.
    """
    data = json.dumps(report.model_dump(mode="json"), indent=1) + "\n"  # in the pathologies' order
    storage.write(REPORT, data.encode(), if_generation=over)


def load_report(storage: Storage) -> Report:
    """Read a report.

    Raises:
        UserError: not JSON, or another schema version.
        FileNotFoundError: there is none.
    """
    where = f"{storage.uri}/{REPORT}"
    values = read_versioned(storage.read(REPORT).data, where=where, version=SCHEMA_VERSION, made_by="evaluate")
    return Report.parse(values, where=where)


def write_predictions(storage: Storage, table: pa.Table) -> None:
    """Write `predictions.parquet`.

    One row a test study and condition: study_id, patient_id, condition, labeled, and per pathology `score/<name>`
    (z1 - z0 of the head, uncalibrated), `probability/<name>` (calibrated), `uncertain/<name>` (both in [0, 1]) and
    `label/<name>` (int8, No Finding's 0 derived, null for blank).
    """
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    storage.write(PREDICTIONS, buffer.getvalue())


def load_predictions(storage: Storage) -> pa.Table:
    """Read `predictions.parquet` (see write_predictions).

    Raises:
        UserError: there is none; it holds ids, so that somebody may have deleted it alone.
    """
    try:
        data = storage.read(PREDICTIONS).data
    except FileNotFoundError:
        raise UserError(
            "no-predictions",
            "an evaluation lacks its predictions",
            where=f"{storage.uri}/{PREDICTIONS}",
            remedy="Delete the evaluation's folder and run evaluate again.",
        ) from None
    return parquet_table(data)
