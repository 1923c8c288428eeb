"""Section `evaluate` of the configuration."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from components.cxr.config import Config, content_hash
from components.cxr.report import ThresholdRule

__all__ = ["EvaluateConfig", "PromotionConfig", "SecondTruthConfig", "TrackingConfig"]


class PromotionConfig(Config):
    """When the evaluated model replaces the deployed one."""

    policy: Literal["superior", "non_inferior"] = "superior"
    """The lower 95 % bound of the paired difference of the mean AUROC must be above 0, or above -margin."""
    margin: float = Field(0.0, ge=0.0, lt=0.5)
    """Loss of mean AUROC that `non_inferior` tolerates."""
    min_auroc: float = Field(0.5, ge=0.5, lt=1.0)
    """What the lower 95 % bound of the mean AUROC must be above where nothing is deployed, or nothing comparable."""
    max_film_drop: float = Field(0.02, gt=0.0, lt=0.5)
    """Films alone must be shown to lose less of the mean AUROC than this (by the lower 95 % bound of the paired
    difference): a better guess from text is no better reader of films."""
    max_pathology_drop: float = Field(0.05, ge=0.0, lt=0.5)
    """A pathology whose AUROC is shown to be lower (the upper 95 % bound is below 0), and by more than this, stops the
    promotion; one of fewer than ten positive or negative patients never does."""
    max_subgroup_drop: float = Field(0.05, ge=0.0, lt=0.5)
    """The same for the mean AUROC of a subgroup of at least 50 studies (sex, age, race, insurance, view, number of
    images, indication, support devices)."""
    max_ece_increase: float = Field(0.02, ge=0.0, lt=1.0)
    """A mean expected calibration error that is shown to be larger (the lower 95 % bound of the paired difference is
    above 0), and by more than this, stops the promotion; each model is taken with its own operating points."""
    force: bool = False
    """Let the model replace a deployed one with which it cannot be compared (other pathologies, other pixels), where
    `min_auroc` and the reason suffice. It never lets a model pass that was compared and lost."""
    reason: str = ""
    """Why a model that is not shown to be better may be deployed; `non_inferior` and `force` need it."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.force and not self.reason.strip():
            raise ValueError("force with a reason")
        if self.policy == "non_inferior" and not (self.margin > 0.0 and self.reason.strip()):
            raise ValueError("non_inferior with a margin above 0 and a reason")
        if self.policy == "superior" and self.margin > 0.0:
            raise ValueError("no margin with the policy superior")
        return self


class SecondTruthConfig(Config):
    """Another reader's labels of the test studies: scored against, never trained on."""

    name: str = Field("truth", pattern=r"[a-z][a-z0-9_-]{0,30}")
    """What made it, for tables and metric names, such as `radiologist`."""
    table: str = Field(min_length=1)
    """CSV (plain or .gz; local or gs://) with `study_id` and a column per pathology holding 1, 0, -1 or nothing;
    study_id as the source has it. MIMIC-CXR's `mimic-cxr-2.1.0-test-set-labeled.csv` is read as it is."""
    user_project: str | None = None
    """The project billed for a requester-pays bucket."""


class TrackingConfig(Config):
    """What of an evaluation goes into MLflow besides numbers, figures and tables."""

    log_images: bool = False
    """Whether a sheet of `num_golden` test films goes there; whoever may open the run then sees films of patients."""


class EvaluateConfig(Config):
    """How a bundle is scored and judged."""

    headline: tuple[str, ...] = ()
    """Pathologies behind every mean and the decision; empty for all of the data set."""
    threshold: ThresholdRule = ThresholdRule()
    """How the threshold of an answer is chosen on validation."""
    uncertain: Literal["likeliest", "youden"] = "likeliest"
    """When the answer is -1 (uncertain): where that is the likeliest of three states, or from the probability with the
    best Youden's J on validation, which can leave many studies open (docs/evaluation.md)."""
    prevalence: dict[str, Annotated[float, Field(gt=0.0, lt=1.0)]] = Field(default_factory=dict)
    """Share of positives by pathology for which PPV and NPV are told, such as that of the patients whom the model would
    read for; that of the test studies where it is not stated."""
    num_bootstrap: int = Field(1000, ge=100)
    """Resamples of the patients behind every interval."""
    seed: int = Field(0, ge=0)
    """Of the resamples."""
    num_golden: int = Field(8, ge=1)
    """Test studies whose answers a server must repeat before it is put into service."""
    second_truth: SecondTruthConfig | None = None
    """Labels that a second table of scores is made with; ids are joined under the key of CXRFLOW_ID_KEY."""
    promotion: PromotionConfig = PromotionConfig()
    """When the evaluated model replaces the deployed one."""
    registered_model: str = Field("cxrflow", min_length=1)
    """Name in MLflow's model registry."""
    tracking: TrackingConfig = TrackingConfig()
    """What goes into MLflow."""
    batch_size: int = Field(32, ge=1)
    """Studies a forward pass."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto takes CUDA when there is one."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(set(self.headline)) != len(self.headline):
            raise ValueError("each pathology of headline at most once")
        return self

    @property
    def hash(self) -> str:
        """16 hex digits over what changes the report; the decision is made anew each time."""
        neutral = {"promotion", "registered_model", "tracking", "batch_size", "device"}
        defaults = {name: EvaluateConfig.model_fields[name].default for name in neutral}
        config = self.model_copy(update=defaults)
        if config.second_truth is not None:  # its labels count by content; see evaluation_key
            anywhere = config.second_truth.model_copy(update={"table": "", "user_project": None})
            config = config.model_copy(update={"second_truth": anywhere})
        return content_hash(config.canonical_json())
