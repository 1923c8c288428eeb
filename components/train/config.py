"""Section `train` of the configuration."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from components.cxr.cluster.pods import PodConfig
from components.cxr.config import Config, content_hash
from components.cxr.labels import LabelPolicy
from components.cxr.model.architecture import Architecture
from components.cxr.text.text import TextConfig

__all__ = [
    "AugmentConfig",
    "EncoderTuning",
    "Lora",
    "ModalityDropout",
    "ReportAlignmentConfig",
    "SemiSupervised",
    "TrainCluster",
    "TrainConfig",
    "Tuning",
]


class AugmentConfig(Config):
    """Strength of the changes to a film in training. Never a flip: hearts are left.

    `train.augment: none` stands for 0 throughout: the film itself is shown.
    """

    rotation_degrees: float = Field(10.0, ge=0.0, le=45.0)
    """Largest rotation either way."""
    translation: float = Field(0.06, ge=0.0, le=0.5)
    """Largest shift as a fraction of the side."""
    scale: float = Field(0.1, ge=0.0, le=0.5)
    """Largest relative zoom either way."""
    contrast: float = Field(0.3, ge=0.0, lt=1.0)
    """Largest relative change of contrast either way."""
    brightness: float = Field(0.15, ge=0.0, le=1.0)
    """Largest change of brightness as a fraction of the grey range."""
    noise: float = Field(0.03, ge=0.0, le=1.0)
    """Largest standard deviation of Gaussian noise as a fraction of the grey range."""
    erase: float = Field(0.25, ge=0.0, lt=1.0)
    """Largest side of one erased rectangle as a fraction of the film's (DeVries and Taylor 2017)."""

    @model_validator(mode="before")
    @classmethod
    def _zeros(cls, values: Any) -> Any:
        return dict.fromkeys(cls.model_fields, 0.0) if values == "none" else values

    @property
    def is_none(self) -> bool:
        """Whether every strength is 0."""
        return not any(vars(self).values())


class ModalityDropout(Config):
    """Probability that a training study is shown without a modality; it never loses film and text at once."""

    image: float = Field(0.1, ge=0.0, le=1.0)
    """Films, only where there is text."""
    text: float = Field(0.3, ge=0.0, le=1.0)
    """Text."""
    meta: float = Field(0.3, ge=0.0, le=1.0)
    """Age, sex and view together."""


class SemiSupervised(Config):
    """What entries without supervision teach."""

    method: Literal["self-training", "none"] = "self-training"
    """Self-training: teachers learn from the labels alone, and a student from the labels and from what the teachers say
    of entries without one (Xie et al. 2020)."""
    weight: float = Field(2.0, ge=0.0)
    """Weight of the loss on entries without supervision."""
    least_unlabeled: float = Field(1.0, ge=0.0)
    """Entries without supervision for each one with it from which on there are teachers; with fewer, training is
    supervised alone: five more trainings would have little to label."""
    num_teachers: int = Field(5, ge=1)
    """Teachers, with other initial weights and orders each."""
    teacher_epochs: int = Field(25, ge=1)
    """Passes of each teacher over the labeled studies."""
    unlabeled_per_labeled: float = Field(3.0, gt=0.0)
    """At most so many unlabeled studies in a batch for each labeled one; a large number takes them as the data come."""


class ReportAlignmentConfig(Config):
    """How findings and impression teach the image side, of labeled and unlabeled training studies alike."""

    weight: float = Field(1.0, gt=0.0)
    """Weight of the loss."""
    temperature: float = Field(0.1, gt=0.0)
    """Of the cosine between film and report."""
    width: int = Field(128, ge=1)
    """Of the space in which they are compared."""
    candidates: int = Field(512, ge=1)
    """Distinct reports of the training split, drawn anew for every step, that a film is compared with."""


class Lora(Config):
    """Low-rank adaptation (Hu et al. 2021) of every linear layer of an encoder; the bundle holds the sum of both."""

    rank: int = Field(8, ge=1)
    """Columns of the one and rows of the other of the two matrices whose product a layer learns."""
    alpha: float = Field(16.0, gt=0.0)
    """The product counts alpha / rank."""


class EncoderTuning(Config):
    """How one encoder learns."""

    learning_rate: float | None = Field(None, gt=0.0)
    """Peak of its learning rate; null for 1e-4 where it is pretrained and `train.learning_rate` where it is not
    and for LoRA's matrices."""
    layer_decay: float = Field(1.0, gt=0.0, le=1.0)
    """Factor on the learning rate from a layer to the one before it; the last has the full rate (Clark et al. 2020)."""
    frozen: bool = False
    """Keep the pretrained weights: no gradients, no dropout."""
    unfreeze_after: int | None = Field(None, ge=1)
    """Epochs after which a frozen encoder is trained, with a warm-up of its own; null for never."""
    lora: Lora | None = None
    """The pretrained weights stay, and each linear layer learns a product of two thin matrices; null for none."""
    gradient_checkpointing: bool = False
    """Compute what is inside a layer again for its gradient instead of keeping it: less memory, more time."""


class Tuning(Config):
    """How the encoders learn; what is new always learns at `train.learning_rate`."""

    vision: EncoderTuning = EncoderTuning()
    """On films."""
    text: EncoderTuning = EncoderTuning()
    """On text."""


class TrainCluster(PodConfig):
    """The nodes of a training on more than one: pods of a Kubeflow TrainJob. docs/clusters.md has an example."""

    image: str = "cxrflow-train:latest"
    """Container image of the nodes."""
    runtime: str = "torch-distributed"
    """ClusterTrainingRuntime that the job is made from."""
    shm_size: str = Field("1Gi", pattern=r"^[0-9]+(Mi|Gi)$")
    """Size of /dev/shm, through which loader processes and NCCL pass data; counts towards the memory limit."""
    deadline_s: int | None = Field(None, ge=1)
    """Seconds after which the job is ended as failed; null for never."""
    retries: int = Field(3, ge=0)
    """Times that a job is started again whose nodes were taken away; it goes on from the last checkpoint."""


class TrainConfig(Config):
    """How a bundle is trained."""

    experiment: str = "cxrflow"
    """MLflow experiment."""
    architecture: Architecture = Architecture()
    """The network."""
    fine_tune_from: str | None = None
    """Bundle whose weights training starts from, with its architecture and tokenizer: its folder, or the root of the
    run that trained it. Pathologies of the same name keep their answers. null for new weights."""
    vocabulary_size: int = Field(2000, ge=16)
    """Largest vocabulary of the tokenizer that is learned when the text encoder is not pretrained."""
    text: TextConfig = TextConfig()
    """Which report sections are the text input."""
    labels: LabelPolicy = LabelPolicy()
    """What uncertain and blank mean."""
    labeled_fraction: float = Field(1.0, gt=0.0, le=1.0)
    """Share of the patients whose labels are used in training and validation."""
    labeled_seed: int = Field(0, ge=0)
    """Draws those patients."""
    report_labels: bool = False
    """Label the unlabeled training studies by their reports, with what the labeled ones' reports teach."""
    report_alignment: ReportAlignmentConfig | None = None
    """Let findings and impression of all training studies teach what is seen on films; null for not at all."""
    augment: AugmentConfig = AugmentConfig()
    """Views of a film; `none` shows it as it is."""
    modality_dropout: ModalityDropout = ModalityDropout()
    """Makes image-only and text-only answers first-class."""
    semi_supervised: SemiSupervised = SemiSupervised()
    """The loss without labels."""
    keep_maps: bool = True
    """With a vision encoder that stays frozen and `augment: none`: run it once per film and keep the feature maps in
    this machine's cache. docs/encoders.md says what they take."""
    epochs: int = Field(30, ge=1)
    """Passes over the training studies."""
    batch_size: int = Field(32, ge=1)
    """Studies per optimizer step over all processes."""
    accumulate: int = Field(1, ge=1)
    """Parts of a process's studies of a step that go through the network one after the other: less memory."""
    max_views: int = Field(3, ge=1)
    """Films of a study in training; evaluation sees all."""
    learning_rate: float = Field(1e-3, gt=0.0)
    """Peak of AdamW's learning rate, after a linear warm-up and before a cosine decay to 0."""
    tuning: Tuning = Tuning()
    """Freezing and learning rates of the encoders."""
    warm_up: float = Field(0.1, ge=0.0, lt=1.0)
    """Fraction of the steps over which the learning rate rises from 0."""
    weight_decay: float = Field(0.05, ge=0.0)
    """On weight matrices and kernels; not on biases, norms and embeddings."""
    clip_norm: float = Field(1.0, gt=0.0)
    """Largest global gradient norm."""
    ema_decay: float = Field(0.995, ge=0.0, lt=1.0)
    """Of the exponential moving average of the weights, which is what is exported."""
    seed: int = Field(0, ge=0, le=4_000_000_000)
    """Of weights, order, augmentation and dropout."""
    num_models: int = Field(1, ge=1)
    """Trainings from this seed and the next ones, the mean of whose logits is one model's answer. docs/learning.md has
    what it is worth; training, bundle and every answer cost so many times as much."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """bfloat16 runs the network under autocast; weights stay float32."""
    compile: bool = False
    """Compile the network with torch.compile, which takes minutes and a C++ compiler."""
    log_every: int = Field(10, ge=1)
    """Steps between two lines of metrics."""
    checkpoint_every: int = Field(200, ge=1)
    """Steps between two checkpoints; there is one after every epoch too."""
    num_processes: int = Field(1, ge=1)
    """Processes of one machine (one per GPU), started through torchrun."""
    num_nodes: int = Field(1, ge=1)
    """Machines. More than one are pods of a Kubeflow TrainJob, with `num_processes` each."""
    cluster: TrainCluster = TrainCluster()
    """Those pods."""
    timeout_s: float = Field(3600.0, gt=0.0)
    """Seconds that a process waits for the others: a node that first has to fetch the shards must not end the rest."""
    num_threads: int = Field(2, ge=1)
    """CPU threads per process."""
    num_workers: int = Field(0, ge=0)
    """Loader processes a training process."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto takes CUDA when there is one."""

    @model_validator(mode="after")
    def _only_pretrained_weights_are_frozen(self) -> Self:
        for name in ("vision", "text"):
            tuning: EncoderTuning = getattr(self.tuning, name)
            is_new = self.fine_tune_from is None and getattr(self.architecture, name).pretrained is None
            if tuning.frozen and is_new:
                raise ValueError(
                    f"tuning.{name}.frozen with architecture.{name}.pretrained or fine_tune_from: it must learn"
                )
            if tuning.lora is not None and (tuning.frozen or is_new):
                raise ValueError(f"tuning.{name}.lora with pretrained weights that are not frozen: it adapts those")
            if tuning.unfreeze_after is not None and not tuning.frozen:
                raise ValueError(f"tuning.{name}.unfreeze_after with tuning.{name}.frozen")
            if tuning.unfreeze_after is not None and tuning.unfreeze_after >= self.epochs:
                raise ValueError(f"tuning.{name}.unfreeze_after below epochs ({self.epochs}): the encoder never learns")
        return self

    @property
    def maps_are_fixed(self) -> bool:
        """Whether a film's feature map is the same in every step: the encoder never learns, nothing is augmented."""
        vision = self.tuning.vision
        return vision.frozen and vision.unfreeze_after is None and self.augment.is_none

    @property
    def hash(self) -> str:
        """16 hex digits over what changes the result; where and how often it is watched does not."""
        neutral = {
            "experiment", "accumulate", "log_every", "checkpoint_every", "num_processes", "num_nodes", "cluster",
            "timeout_s", "keep_maps", "num_workers", "device",
        }  # fmt: skip
        same = self.model_copy(update={n: TrainConfig.model_fields[n].default for n in neutral})
        alone = same.canonical_json(exclude={"num_models", "fine_tune_from"})
        more = [] if self.num_models == 1 else [f"{self.num_models} models"]
        more += [] if self.fine_tune_from is None else [f"from {self.fine_tune_from}"]
        return content_hash(alone, *more)
