"""The whole configuration: every section validated before anything runs, and the platform, known at compile time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field

from components.cxr.cluster.pods import Toleration
from components.cxr.config import Config, load_yaml, section, with_overrides
from components.cxr.errors import UserError
from components.evaluate.config import EvaluateConfig
from components.preprocess.config import PreprocessConfig, parse_data
from components.serve.config import ServeConfig
from components.train.config import TrainConfig

__all__ = [
    "CONFIGS", "ImageName", "PipelineConfig", "Platform", "Retries", "Secret", "Slurm", "SlurmJob", "StepPlatform",
    "Target",
    "load_pipeline_config",
]  # fmt: skip

CONFIGS = Path(__file__).parent / "configs"

ImageName = Literal["preprocess", "train", "evaluate", "serve"]

Target = Literal["kfp", "vertex"]
"""Kubeflow Pipelines on Kubernetes, or Vertex AI Pipelines."""

Cpu = Annotated[str, Field(pattern=r"^([0-9]*\.)?[0-9]+m?$", coerce_numbers_to_str=True)]
Bytes = Annotated[str, Field(pattern=r"^[0-9]+([KMGTPE]i?)?$", coerce_numbers_to_str=True)]


class StepPlatform(Config):
    """Where one step runs and what it may use."""

    cpu: Cpu | None = None
    """Cores, requested and not exceeded, such as 4 or 500m."""
    memory: Bytes | None = None
    """Memory, requested and not exceeded, such as 16Gi; `shm` counts as part of it."""
    gpus: int = Field(0, ge=0)
    """GPUs of the task; `train.num_processes` makes use of more than one."""
    gpu_resource: str = "nvidia.com/gpu"
    """Kubernetes' name of the GPU; which model it is, the node selector says."""
    gpu_type: str | None = None
    """Vertex's name of the GPU, such as NVIDIA_L4, or Slurm's, such as a100."""
    node_selector: dict[str, str] = Field(default_factory=dict)
    """Labels that the node must have. Kubernetes only."""
    tolerations: tuple[Toleration, ...] = ()
    """Taints that the pod tolerates: key, operator, value, effect. Kubernetes only."""
    shm: Bytes = "2Gi"
    """Size of /dev/shm, which train and every task with a GPU get. Kubernetes only."""
    timeout_s: int | None = Field(None, ge=1)
    """Seconds after which a try is ended. Kubernetes only."""


class Retries(Config):
    """How often a failed task is tried again; every step continues from what is there. Slurm has a wait of its own."""

    count: int = Field(2, ge=0)
    """Tries after the first."""
    backoff_s: int = Field(60, ge=0)
    """Seconds before the first of them."""
    factor: float = Field(2.0, ge=1)
    """By which each wait is longer than the one before."""
    max_s: int = Field(3600, ge=1)
    """Longest wait in seconds."""


class Secret(Config):
    """A Kubernetes secret, some keys of which become environment variables."""

    name: str
    """Of the secret, in the namespace of the runs."""
    env: dict[str, str] = Field(min_length=1)
    """Key in the secret: environment variable."""
    steps: tuple[ImageName, ...] = ("preprocess", "train", "evaluate", "serve")
    """Steps that see it."""


Word = Annotated[str, Field(pattern=r"^\S+$", coerce_numbers_to_str=True)]
"""What goes into a line of a batch script, where a blank would begin the next option."""


class SlurmJob(Config):
    """What sbatch is asked for."""

    partition: Word | None = None
    """Partition; null for the cluster's default, as below."""
    account: Word | None = None
    """Account that is charged."""
    qos: Word | None = None
    """Quality of service."""
    constraint: Word | None = None
    """Features that the nodes must have, such as a100."""
    time: Annotated[str, Field(pattern=r"^(\d+-)?\d+(:\d+){0,2}$", coerce_numbers_to_str=True)] | None = None
    """Limit of one try: minutes, hours:minutes:seconds or days-hours."""


class Slurm(SlurmJob):
    """A run with `--runner slurm` (docs/slurm.md). Cores, memory and GPUs of a node are those of `platform.steps`."""

    steps: dict[ImageName, SlurmJob] = Field(default_factory=dict)
    """What one step asks for instead."""
    options: tuple[Word, ...] = ()
    """Further options of sbatch for every job, such as --exclusive."""
    modules: tuple[Word, ...] = ()
    """Environment modules that every job loads, in this order."""
    container: str | None = None
    """Command that runs what follows it in a container; {step} is preprocess, train, evaluate or serve."""
    folder: str | None = None
    """Where scripts, logs and what the jobs tell each other are kept, on a file system that all nodes share; null for
    `slurm/` under a local root."""
    stop_before_s: int = Field(120, ge=1)
    """Seconds before the limit when preprocess and train are asked to stop; they are queued again and go on."""
    max_requeues: int = Field(100, ge=0)
    """Times that a job may meet its limit before it fails."""

    def job(self, step: ImageName) -> SlurmJob:
        """What a step's jobs ask for."""
        wanted = SlurmJob(**{name: getattr(self, name) for name in SlurmJob.model_fields})
        own = self.steps.get(step, SlurmJob())
        return wanted.model_copy(update=own.model_dump(exclude_none=True))

    def container_of(self, step: ImageName) -> str:
        """The command of a step's container; other braces, such as ${HOME}, are the shell's."""
        return (self.container or "").replace("{step}", step)


class Platform(Config):
    """What must be known when the pipeline is compiled; for a run on this machine `partitions` and `images` alone."""

    partitions: int = Field(1, ge=1)
    """Parallel preprocess tasks."""
    images: dict[ImageName, str] = Field(default_factory=dict)
    """Container image of a step, by tag or digest, where it is not `cxrflow-<step>:latest`."""
    env: dict[str, str] = Field(default_factory=dict)
    """Environment variables of every step, such as MLFLOW_TRACKING_URI; nothing secret, the YAML shows it."""
    secrets: tuple[Secret, ...] = ()
    """Environment variables from Kubernetes secrets: name, env (key: variable) and steps. Not on Vertex."""
    claims: dict[str, str] = Field(default_factory=dict)
    """Persistent volume claims and the folders where all steps mount them, for roots outside gs://. Not on Vertex."""
    service_account: str | None = None
    """Account of the run, which `submit` asks for; null for the platform's default."""
    retries: Retries = Retries()
    """See Retries."""
    steps: dict[ImageName, StepPlatform] = Field(default_factory=dict)
    """Resources and placement of preprocess, train, evaluate and serve."""
    slurm: Slurm = Slurm()
    """See Slurm."""

    def image_of(self, step: ImageName) -> str:
        """The container image of a step."""
        return self.images.get(step, f"cxrflow-{step}:latest")

    def is_shared(self, uri: str) -> bool:
        """Whether the pods of a cluster see the same files there: in a bucket, or under the mount of a claim."""
        return "://" in uri or any(PurePosixPath(uri).is_relative_to(mount) for mount in self.claims.values())

    def step(self, step: ImageName) -> StepPlatform:
        """Resources and placement of a step."""
        return self.steps.get(step, StepPlatform())


class PipelineConfig(NamedTuple):
    """A validated configuration."""

    root: str
    arguments: dict[str, Any]
    """The pipeline's parameters: root and a dict a section, as JSON values."""
    platform: Platform


def load_pipeline_config(path: Path, overrides: Sequence[str] = ()) -> PipelineConfig:
    """Read a configuration file, apply `--set` overrides and validate every section.

    Raises:
        UserError: unreadable file, unknown field, bad value, or no root or data.
    """
    values = with_overrides(load_yaml(path), overrides)
    root = values.get("root")
    if not isinstance(root, str) or not root:
        raise UserError(
            "no-root", "no place to keep results", where=f"{path}: root", found=root, remedy="Set root, or --set root=…"
        )
    arguments: dict[str, Any] = {"root": root, "data": _plain(parse_data(section(values, "data")))}
    steps: dict[str, type[Config]] = {
        "preprocess": PreprocessConfig,
        "train": TrainConfig,
        "evaluate": EvaluateConfig,
        "serve": ServeConfig,
    }
    for name, model in steps.items():
        arguments[name] = _plain(model.parse(section(values, name), where=name))
    return PipelineConfig(root, arguments, Platform.parse(section(values, "platform"), where="platform"))


def _plain(config: Config) -> dict[str, Any]:
    """JSON values without nulls, which KFP's parameters do not have; absent means the same."""
    values: dict[str, Any] = config.model_dump(mode="json", exclude_none=True)
    return values
