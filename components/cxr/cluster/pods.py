"""Configuration of pods: where they run and what they get."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from components.cxr.config import Config
from components.cxr.errors import UserError

__all__ = ["PodConfig", "Toleration"]

GPU = "nvidia.com/gpu"

Quantity = Annotated[str, StringConstraints(pattern=r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$")]
SecretKey = Annotated[str, StringConstraints(pattern=r"^[^/]+/[^/]+$")]


class Toleration(Config):
    """A taint of machines that a pod puts up with."""

    key: str | None = None
    """Of the taint; null for every taint, with operator Exists."""
    operator: Literal["Exists", "Equal"] = "Exists"
    """Exists for any value."""
    value: str | None = None
    """Of the taint, with operator Equal."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """Null for every effect."""

    @model_validator(mode="after")
    def _as_kubernetes_takes_it(self) -> Self:
        if self.operator == "Exists" and self.value:
            raise ValueError("operator Equal for a value")
        if self.operator == "Equal" and not self.key:
            raise ValueError("a key with operator Equal")
        return self


class PodConfig(Config):
    """Where pods run and what they get."""

    namespace: str | None = None
    """Namespace; null for the step's own, or the one of the kubeconfig's context."""
    service_account: str | None = None
    """Service account of the pods, which must be able to read and write `root`; null for the namespace's default."""
    resources: dict[str, Quantity] = Field(default_factory=dict)
    """Requests, which are limits as well, of a pod: `{cpu: "8", memory: 32Gi}`."""
    gpus: int = Field(0, ge=0)
    """NVIDIA GPUs of a pod."""
    node_selector: dict[str, str] = Field(default_factory=dict)
    """Labels of the machines that may be used."""
    tolerations: tuple[Toleration, ...] = ()
    """Taints of machines that may be used nevertheless: key, operator, value, effect."""
    run_as_user: Annotated[int, Field(ge=1)] | Literal["cluster"] = 10001
    """User id of the containers, the images' own; `cluster` leaves it to the cluster, as OpenShift wants it."""
    claims: dict[str, str] = Field(default_factory=dict)
    """Persistent volume claims and the folders where they are mounted, for a `root` that is not in gs://."""
    secret_env: dict[str, SecretKey] = Field(default_factory=dict)
    """Environment variables from Kubernetes secrets: `{MLFLOW_TRACKING_PASSWORD: mlflow/password}`."""

    def container_resources(self) -> dict[str, dict[str, str]]:
        """`resources` of a container; empty when nothing is asked for. Quantities are text, as the API prefers."""
        amounts: dict[str, str] = dict(self.resources) | ({GPU: str(self.gpus)} if self.gpus else {})
        return {"requests": amounts, "limits": dict(amounts)} if amounts else {}

    def env(self) -> list[dict[str, Any]]:
        """Entries of a container's `env` that come from secrets."""
        split = {name: source.split("/") for name, source in self.secret_env.items()}
        return [
            {"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}}
            for name, (secret, key) in split.items()
        ]

    def scheduling(self) -> dict[str, Any]:
        """What of a pod's spec says where it may run and as whom."""
        tolerations = [toleration.model_dump(exclude_none=True) for toleration in self.tolerations]
        return (
            ({"serviceAccountName": self.service_account} if self.service_account else {})
            | ({"nodeSelector": dict(self.node_selector)} if self.node_selector else {})
            | ({"tolerations": tolerations} if tolerations else {})
        )

    def security_context(self) -> dict[str, Any]:
        """A container's `securityContext`, as the Pod Security Standard `restricted` asks for."""
        user = {} if self.run_as_user == "cluster" else {"runAsUser": self.run_as_user}
        return user | {
            "runAsNonRoot": True,
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        }

    def volumes(self) -> list[dict[str, Any]]:
        """A pod's `volumes` for the claims."""
        return [{"name": claim, "persistentVolumeClaim": {"claimName": claim}} for claim in self.claims]

    def volume_mounts(self) -> list[dict[str, Any]]:
        """A container's `volumeMounts` for the claims."""
        return [{"name": claim, "mountPath": path} for claim, path in self.claims.items()]

    def require_reachable(self, uri: str, *, where: str) -> None:
        """Refuse a folder of this machine that the pods do not mount.

        Raises:
            UserError: neither gs:// nor under the mount of a claim.
        """
        if "://" in uri or any(PurePosixPath(uri).is_relative_to(mount) for mount in self.claims.values()):
            return
        raise UserError(
            "root-not-shared",
            "the cluster's pods cannot see this folder",
            where=uri,
            expected=f"gs://, or a folder under a mount of {where}.claims",
            remedy="Set root to a bucket, or mount a claim here and there.",
        )
