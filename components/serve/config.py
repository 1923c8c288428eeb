"""Section `serve` of the configuration."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, IPvAnyNetwork, model_validator

from components.cxr.cluster.pods import PodConfig
from components.cxr.config import Config
from components.cxr.films.limits import DecodeLimits

__all__ = ["LISTENING", "ServeCluster", "ServeConfig"]

MIB = 1 << 20
LISTENING = "serve: listening on "
"""What precedes the address in the line that a server prints once it answers."""


class ServeCluster(PodConfig):
    """The pods that serve, for `target` kubernetes and kserve. docs/clusters.md has examples."""

    image: str = "cxrflow-serve:latest"
    """Container image of the server."""
    name: str = Field("cxrflow-serve", pattern=r"^[a-z]([-a-z0-9]{0,38}[a-z0-9])?$")
    """Name of the Deployment and the Service, or of the InferenceService."""
    secrets: dict[str, str] = Field(default_factory=dict)
    """Kubernetes secrets and the folders where the pods have them as files, such as `{cxrflow-keys: /run/keys}` with
    `serve.keys` /run/keys/keys."""
    replicas: int | None = Field(None, ge=1)
    """Pods that serve; null leaves it to an autoscaler, or to the cluster's default of 1."""
    address: str | None = Field(None, pattern=r"^https?://[^/]+$")
    """URL under which this step reaches the server, without a path; null for its address within the cluster."""
    rollout_timeout_s: float = Field(600.0, gt=0.0)
    """Seconds until the new pods must serve the model; else the old ones are restored."""

    def volumes(self) -> list[dict[str, Any]]:
        """A pod's `volumes` for claims and secrets."""
        return super().volumes() + [{"name": f"secret-{s}", "secret": {"secretName": s}} for s in self.secrets]

    def volume_mounts(self) -> list[dict[str, Any]]:
        """A container's `volumeMounts` for claims and secrets, each as a folder: a file alone would not be renewed."""
        mounts = ({"name": f"secret-{s}", "mountPath": p, "readOnly": True} for s, p in self.secrets.items())
        return [*super().volume_mounts(), *mounts]


class ServeConfig(Config):
    """The server, its limits, and the check before a model goes into service."""

    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 inside a container."""
    port: int = Field(8000, ge=0, le=65535)
    """Port to listen on; 0 takes a free one."""
    allowed_hosts: tuple[Annotated[str, Field(pattern=r"^(\*\.)?[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$")], ...] = ()
    """Names under which clients may ask, such as cxr.example.org or *.example.org, besides this machine's own; empty
    allows any, but on a loopback address those alone, so that no page of another site reaches the server (DNS
    rebinding)."""
    keys: str | None = None
    """File of the API keys' hashes, which `python -m components.serve key` makes; read again when it changes. null lets
    everybody in who reaches the server."""
    tls_certificate: str | None = None
    """PEM file of the server's certificate, with those between it and the authority; with `tls_key` the server speaks
    HTTPS alone."""
    tls_key: str | None = None
    """PEM file of the certificate's private key, without a passphrase."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the model answers, in float32 anywhere; auto takes CUDA when there is one, as with `cluster.gpus`."""
    engine: Literal["torch", "onnx"] = "torch"
    """What runs the film encoder: PyTorch, or ONNX Runtime, which takes .38 to .75 of the time on a CPU and is for that
    alone; the first start on a machine exports the encoder (docs/serving.md)."""
    threads: int = Field(1, ge=1)
    """Threads of one pass of the model."""
    max_batch_films: int = Field(16, ge=1)
    """Films in one pass of the model, which takes all studies that came during the pass before it; none waits for
    others to come, so that a study is delayed by the pass under way at most, and more only behind so many films."""
    max_files: int = Field(8, ge=1)
    """Films per request."""
    max_file_bytes: int = Field(64 * MIB, ge=1)
    """Size of one film's file."""
    max_request_bytes: int = Field(128 * MIB, ge=1)
    """Size of a whole request; requests are held in memory."""
    limits: DecodeLimits = DecodeLimits(seconds=20.0)
    """What decoding a film may cost before it is refused with 422."""
    readers: int = Field(2, ge=1)
    """Requests whose films are read at a time, each by a process of its own: a film that takes `limits.seconds` holds
    up the other requests only when there are this many."""
    max_text_chars: int = Field(20_000, ge=1)
    """Length of the text."""
    max_requests: int = Field(64, ge=1)
    """Requests that wait for their answer or are answered at a time; more are sent away with 429."""
    max_uploads: int = Field(64, ge=1)
    """Requests whose body is still being sent at a time; more are sent away with 429."""
    max_held_bytes: int | None = Field(None, ge=1)
    """Bytes of the bodies of all requests under way; null for 8 times `max_request_bytes`."""
    max_connections: int = Field(512, ge=1)
    """Open connections, fewer where the file limit (`ulimit -n`) has no room for them; more are closed at once."""
    address_share: float = Field(0.5, gt=0.0, le=1.0)
    """The share of `max_requests`, `max_uploads`, `max_held_bytes` and `max_connections` that one address may hold; of
    IPv6 all addresses with the same first 64 bits count as one."""
    proxies: tuple[IPvAnyNetwork, ...] = ()
    """Addresses or networks of proxies, such as 10.0.0.0/8: they may hold all connections, and what they forward counts
    as sent by the address that their X-Forwarded-For names. Without it all clients of a proxy share one address's
    part."""
    timeout_s: float = Field(60.0, gt=0.0)
    """Seconds for a request's upload, for reading its films, for the model's answer and for the client to take it,
    each."""
    upload_patience_s: float = Field(10.0, gt=0.0)
    """Seconds that a body may stall; and in all, as many more than `least_upload_rate` takes."""
    least_upload_rate: int = Field(16_384, ge=1)
    """Bytes a second of a body."""
    header_timeout_s: float = Field(10.0, gt=0.0)
    """Seconds from a connection's opening, or from a request's first byte, to the end of its header."""
    idle_timeout_s: int = Field(15, ge=1)
    """Seconds that a connection stays open after an answer without another request."""
    golden_tolerance: float = Field(1e-4, gt=0.0, lt=1.0)
    """Largest difference of a probability between evaluation and the server for the model to be deployed."""
    startup_timeout_s: float = Field(120.0, gt=0.0)
    """Seconds until a server that is started for the check must answer."""
    public_key: str | None = Field(None, pattern=r"^MCowBQYDK2VwAyEA[A-Za-z0-9+/]{43}=$")
    """Ed25519 key, in base64 as `python -m components.serve sign` prints it: a model that its owner has not signed is
    neither deployed nor served; null asks for no signature."""
    shadow: str | None = None
    """Bundle or deployed copy of a challenger that answers the same requests unseen, in a process of its own at the
    lowest priority, after each answer has gone out; its differences are in `/metrics`."""
    shadow_evaluation: str | None = None
    """Folder of its operating points; null where they lie beside it, as deploy copies them."""
    shadow_seal: str | None = Field(None, pattern=r"^[0-9a-f]{64}$")
    """SHA-256 of its seal, where a deployment names one."""
    shadow_queue: int = Field(8, ge=1)
    """Answered requests that wait for it, of `max_request_bytes` together; more are dropped and counted."""
    target: Literal["local", "kubernetes", "kserve"] = "local"
    """Where a deployed model is put into service: local moves the pointer under `root` only, kubernetes rolls out a
    Deployment with a Service as well, kserve an InferenceService."""
    cluster: ServeCluster = ServeCluster()
    """Its pods, unless the target is local."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key need each other")
        if self.tls_key and self.target != "local" and not (self.cluster.address or "").startswith("https://"):
            raise ValueError("with TLS in a cluster, cluster.address must be its https:// address")
        return self
