"""One model behind one socket until a signal ends it."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import signal
import socket
import ssl
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import cv2
import torch
import uvicorn

from components.cxr.errors import UserError
from components.cxr.storage.storage import Storage
from components.serve.app import create_app
from components.serve.config import LISTENING, ServeConfig
from components.serve.connections import BACKLOG, Loop, connection_class
from components.serve.json_log import LOGGING
from components.serve.keys import KeyRing
from components.serve.predictor import StudyPredictor
from components.serve.self_check import check_self

__all__ = ["READY_AFTER", "check_tls", "serve"]

READY_AFTER = "serve: ready after "
"""What precedes the seconds that it took to take the port, load the model and start a decoder; imports come before."""

OWN_NAMES = ("localhost", "127.0.0.1", "[::1]")


def serve(
    bundle: Storage,
    config: ServeConfig,
    *,
    evaluation: Storage | None = None,
    seal: str | None = None,
    model_version: str | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT; requests under way are answered first.

    Args:
        evaluation: folder of the operating points; None where they lie beside the model, as deploy copies them.
        seal: hash of the seal beside them, by the deployment; None for any.
        model_version: in MLflow's registry, for the answers.

    Raises:
        UserError: the port is taken, no such device, no usable keys or certificate, no usable bundle as it was sealed,
            or one whose answers to the synthetic studies are not evaluation's here: then nobody was answered.
    """
    started = time.perf_counter()
    keys = None if config.keys is None else KeyRing(Path(config.keys))
    check_tls(config)
    with _ends_quietly(), _listening_socket(config.host, config.port) as listener:
        torch.set_num_threads(config.threads)
        cv2.setNumThreads(config.threads)
        predictor = StudyPredictor.of(config, bundle, evaluation, seal=seal)
        names = _names(config, listener.getsockname()[0])
        app = create_app(predictor, config, model_version=model_version, hosts=names, keys=keys)
        server = uvicorn.Server(
            uvicorn.Config(
                app,
                log_config=LOGGING,
                access_log=False,
                server_header=False,
                lifespan="on",
                ssl_certfile=config.tls_certificate,
                ssl_keyfile=config.tls_key,
                ws="none",
                http=connection_class(config),
                backlog=BACKLOG,
                timeout_keep_alive=config.idle_timeout_s,
                proxy_headers=bool(config.proxies),
                forwarded_allow_ips=[str(proxy) for proxy in config.proxies],
                timeout_graceful_shutdown=max(1, round(config.timeout_s)),
            )
        )
        host, port = listener.getsockname()[:2]
        scheme = "http" if config.tls_key is None else "https"
        address = f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"
        model = f"model {predictor.bundle.hash[:16]} from {bundle.uri}"
        print(f"serve: {model}, operating points {predictor.points.hash}, on {predictor.device} by {config.engine}")
        with predictor.reader:  # a film that is still being decoded does not hold up the end
            predictor.reader.start()
            checked = check_self(predictor, tolerance=config.golden_tolerance)
            print(f"serve: {checked}", flush=True)
            print(f"{READY_AFTER}{time.perf_counter() - started:.2f} s")
            print(f"{LISTENING}{address}", flush=True)
            with asyncio.Runner(loop_factory=lambda: Loop(config.header_timeout_s)) as loop:
                loop.run(server.serve(sockets=[listener]))


def check_tls(config: ServeConfig) -> None:
    """Refuse a certificate or a key that cannot be used, before anything takes time.

    Raises:
        UserError: a file that is not there, is no PEM, or the key of another certificate.
    """
    if config.tls_certificate is None or config.tls_key is None:
        return
    try:
        # An empty passphrase: asking for one at a terminal would hold the server up for ever.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(config.tls_certificate, config.tls_key, password="")
    except OSError as error:  # ssl.SSLError is one
        found = getattr(error, "reason", None) or error.strerror or "not readable"
        raise UserError(
            "bad-tls",
            "the certificate or its key cannot be used",
            where=f"serve.tls_certificate: {config.tls_certificate}, serve.tls_key: {config.tls_key}",
            found=found,
            expected="a certificate and its own key in PEM, without a passphrase",
        ) from None


def _names(config: ServeConfig, address: str) -> list[str]:
    """What a request's Host header may say; probes and the check before a deployment call the machine by its own."""
    is_open = not config.allowed_hosts and not ipaddress.ip_address(address).is_loopback
    return ["*"] if is_open else [*OWN_NAMES, *config.allowed_hosts]


@contextlib.contextmanager
def _listening_socket(host: str, port: int) -> Iterator[socket.socket]:
    """A bound socket; taken before the model is loaded, so that a taken port is known at once."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise UserError("cannot-listen", "cannot listen", where=f"serve.host: {host}", found=error.strerror) from None
    with listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
        except OSError as error:
            raise UserError(
                "cannot-listen",
                "cannot listen",
                where=f"{host}:{port}",
                found=error.strerror,
                remedy="Stop what listens there, or choose another port with --set serve.port=8080.",
            ) from None
        yield listener


@contextlib.contextmanager
def _ends_quietly() -> Iterator[None]:
    """SIGTERM and SIGINT end the process with code 0; uvicorn raises them again after it has shut down."""

    def end(_: int, __: FrameType | None) -> None:
        print("serve: stopped", flush=True)
        sys.exit(0)

    signals = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, end) for number in signals}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
