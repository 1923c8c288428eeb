"""Where a task of the pipeline runs: image, resources, placement, retries, in the words of Kubernetes or Vertex."""

from __future__ import annotations

from kfp import kubernetes
from kfp.dsl import PipelineTask

from components.cxr.errors import UserError
from components.cxr.tracking.identity import IMAGE
from pipeline.config import ImageName, Platform, StepPlatform, Target

__all__ = ["place"]


def place(task: PipelineTask, platform: Platform, *, step: ImageName, title: str, target: Target | None) -> None:
    """Say where a task runs; KFP's cache stays off, content-keyed folders under `root` do its work.

    Args:
        step: whose part of `platform` counts.
        title: the task's name on the graph.
        target: None for a run on this machine, which needs image and title alone.

    Raises:
        UserError: `platform` asks for what the target cannot do.
    """
    task.set_display_name(title)
    task.set_container_image(platform.image_of(step))
    task.set_caching_options(False)
    if target is None:
        return
    _set_resources(task, platform.step(step), accelerator=_accelerator(platform.step(step), step, target))
    for name, value in {IMAGE: platform.image_of(step), **platform.env}.items():
        task.set_env_variable(name, value)
    retries = platform.retries
    task.set_retry(retries.count, f"{retries.backoff_s}s", retries.factor, f"{retries.max_s}s")
    if target == "kfp":
        _set_kubernetes(task, platform, step)
    elif platform.claims:
        raise UserError(
            "vertex-claims",
            "Vertex knows no persistent volume claims",
            where="platform.claims",
            found=next(iter(platform.claims)),
            remedy="Leave them out with --set platform.claims={} and keep root and data in gs://.",
        )
    elif platform.secrets:
        raise UserError(
            "vertex-secrets",
            "Vertex knows no Kubernetes secrets",
            where="platform.secrets",
            found=platform.secrets[0].name,
            remedy="Leave them out with --set platform.secrets=[] and give the run a service account.",
        )


def _accelerator(wanted: StepPlatform, step: ImageName, target: Target) -> str:
    if target == "kfp":
        return wanted.gpu_resource
    if wanted.gpus and wanted.gpu_type is None:
        where = f"platform.steps.{step}.gpu_type"
        raise UserError(
            "vertex-gpu-name", "Vertex wants the GPU by its name", where=where, expected="a name such as NVIDIA_L4"
        )
    return wanted.gpu_type or ""


def _set_resources(task: PipelineTask, wanted: StepPlatform, *, accelerator: str) -> None:
    if wanted.cpu:
        task.set_cpu_request(wanted.cpu).set_cpu_limit(wanted.cpu)
    if wanted.memory:
        task.set_memory_request(wanted.memory).set_memory_limit(wanted.memory)
    if wanted.gpus:
        task.set_accelerator_type(accelerator).set_accelerator_limit(wanted.gpus)


def _set_kubernetes(task: PipelineTask, platform: Platform, step: ImageName) -> None:
    """What only Kubernetes knows; it goes into a second YAML document, which Vertex refuses."""
    wanted = platform.step(step)
    if step == "train" or wanted.gpus:  # data loaders and NCCL outgrow a container's usual 64 MB
        kubernetes.empty_dir_mount(task, "shm", "/dev/shm", medium="Memory", size_limit=wanted.shm)
    for claim, folder in platform.claims.items():
        kubernetes.mount_pvc(task, pvc_name=claim, mount_path=folder)
    for label, value in wanted.node_selector.items():
        kubernetes.add_node_selector(task, label, value)
    for toleration in wanted.tolerations:
        kubernetes.add_toleration(task, **toleration.model_dump(exclude_none=True))
    if wanted.timeout_s:
        kubernetes.set_timeout(task, wanted.timeout_s)
    for secret in platform.secrets:
        if step in secret.steps:
            kubernetes.use_secret_as_env(task, secret.name, secret.env)
