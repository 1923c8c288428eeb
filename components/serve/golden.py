"""The check before a deployment: the real server must give evaluation's answers."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import httpx
import numpy as np
import yaml

from components.cxr.errors import UserError
from components.cxr.films.pixels import encode_png
from components.cxr.model.batch import VIEW_INDEX
from components.cxr.report import GoldenStudy, Report
from components.cxr.shards import LoadedManifest, read_shard
from components.cxr.storage.storage import Storage
from components.cxr.text.text import SECTIONS, SectionReader, TextConfig, request_text, select_text
from components.serve.client import open_client
from components.serve.config import LISTENING, ServeConfig
from components.serve.keys import API_KEY_VARIABLE, add_key, new_key

__all__ = ["Checked", "RunningServer", "Server", "check_answers", "running_server"]

POLL_S = 0.05
STOP_TIMEOUT_S = 10.0
LAST_LINES = 10
SOURCE = Path(__file__).resolve().parents[2]


class Server(Protocol):
    """What can be checked: a server somewhere."""

    @property
    def address(self) -> str:
        """URL without a path."""

    @property
    def key(self) -> str | None:
        """An API key that it knows."""

    @property
    def certificate(self) -> str | None:
        """PEM file of its certificate, where its name is not the address's."""

    def died(self) -> UserError:
        """The error to raise when it does not answer, with its last lines."""


class RunningServer(NamedTuple):
    """A server process that is ready."""

    address: str
    process: subprocess.Popen[bytes]
    log: Path
    """Everything it printed."""
    key: str | None = None
    certificate: str | None = None

    def died(self) -> UserError:
        """How it ended, with its last lines."""
        return _died(self.process, self.log)


@contextlib.contextmanager
def running_server(
    config: ServeConfig,
    bundle: Storage,
    evaluation: Storage | None = None,
    *,
    seal: str | None = None,
    shadow: bool = False,
    niceness: int = 0,
) -> Iterator[RunningServer]:
    """`python -m components.serve` in a process of its own, on a free local port, stopped afterwards.

    It ends with this process, however that ends: it reads a pipe that breaks then.

    Args:
        evaluation, seal: as StudyPredictor.
        shadow: whether it starts the configuration's challenger too.
        niceness: of the process once it is ready; 19 is the lowest priority.

    Raises:
        UserError: it ended or was not ready in time; with its last lines.
    """
    here: dict[str, Any] = {"host": "127.0.0.1", "port": 0} | ({} if shadow else {"shadow": None})
    if config.target != "local":  # the certificate is the pods', which have it from a secret
        here |= {"tls_certificate": None, "tls_key": None}
    config = config.model_copy(update=here)
    with tempfile.TemporaryDirectory(prefix="cxrflow-") as temporary:
        file, log, key = Path(temporary, "serve.yaml"), Path(temporary, "serve.log"), None
        if config.keys is not None:  # a key of its own, as nobody has those in the file
            key, keys = new_key(), Path(temporary, "keys")
            add_key(keys, "check", key)
            config = config.model_copy(update={"keys": str(keys)})
        file.write_text(yaml.safe_dump({"serve": config.model_dump(mode="json")}), encoding="utf-8")
        path = os.pathsep.join(filter(None, [str(SOURCE), os.environ.get("PYTHONPATH")]))
        command = [sys.executable, "-m", "components.serve", "--config", str(file), "--bundle", bundle.uri]
        command += [] if evaluation is None else ["--evaluation", evaluation.uri]
        command += [] if seal is None else ["--seal", seal]
        command += ["--while-stdin-is-open"]
        with log.open("ab") as output:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONPATH": path},
                process_group=0 if niceness else None,
            )
        try:
            certificate = config.tls_certificate
            address = _wait_until_ready(process, log, timeout_s=config.startup_timeout_s, certificate=certificate)
            if niceness:  # of all its threads and decoders; not before, or a busy machine would never let it start
                os.setpriority(os.PRIO_PGRP, process.pid, niceness)
            yield RunningServer(address, process, log, key, certificate)
        finally:
            _stop(process)


class Checked(NamedTuple):
    """What was compared."""

    num_studies: int
    num_answers: int
    num_left_out: int
    """Studies whose text looks like a report's header (an indication that is just "Procedure"), so that a client cannot
    send it as evaluation read it."""


def check_answers(
    server: Server,
    report: Report,
    *,
    manifest: LoadedManifest,
    tolerance: float,
    timeout_s: float = 120.0,
) -> Checked:
    """Send the golden studies as a client would and compare the probabilities.

    Raises:
        UserError: another model, an answer that is off by more than `tolerance`, a refusal, a dead server, or fewer
            than half of the studies compared.
    """
    num_studies = num_answers = 0
    with open_client(server.address, timeout_s=timeout_s, key=server.key, certificate=server.certificate) as client:
        try:
            text, reader = _check_model(client, report)
            for position, study in enumerate(report.golden, start=1):
                where = f"golden study {position} of {len(report.golden)}"
                request = _request(study, manifest, text=text)
                if request_text(sent := request["data"]["text"], config=text, reader=reader) != sent:
                    continue
                response = client.post("/v1/predict", **request)
                if response.status_code != 200:
                    found = _refusal(response)
                    raise UserError("study-refused", "the server refuses a study", where=where, found=found)
                num_answers += _compare(study, response.json()["answers"], tolerance=tolerance, where=where)
                num_studies += 1
        except httpx.TransportError:
            raise server.died() from None
    if num_studies * 2 < len(report.golden):
        found = f"{num_studies} of {len(report.golden)}"
        raise UserError(
            "too-few-golden-studies",
            "too few golden studies can be sent as evaluation read them",
            found=found,
            expected="half",
        )
    return Checked(num_studies, num_answers, len(report.golden) - num_studies)


def _refusal(response: httpx.Response) -> str:
    """The server's own message, or the status of what stands before it."""
    try:
        return str(response.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"status {response.status_code}"


def _check_model(client: httpx.Client, report: Report) -> tuple[TextConfig, SectionReader]:
    """The text input of the served model and how it reads reports; it must be the evaluated one."""
    response = client.get("/v1/model")
    if response.status_code != 200:
        remedy = f"Set {API_KEY_VARIABLE} to one of its API keys." if response.status_code == 401 else None
        raise UserError("model-refused", "the server does not name its model", found=_refusal(response), remedy=remedy)
    model = response.json()
    if (found := model["bundle_hash"]) != report.bundle_hash:
        expected = report.bundle_hash[:16]
        raise UserError(
            "bundle-not-evaluated", "the bundle is not the evaluated one", found=found[:16], expected=expected
        )
    if (found := model["operating_points_hash"]) != report.operating_points_hash:
        raise UserError(
            "other-operating-points",
            "the operating points are not the evaluation's",
            found=found,
            expected=report.operating_points_hash,
        )
    text = TextConfig(sections=model["text_sections"], allow_leaky_sections=model["leaky"])
    return text, model["section_reader"]


def _compare(study: GoldenStudy, answers: dict[str, Any], *, tolerance: float, where: str) -> int:
    for pathology, expected in study.probabilities.items():
        found = answers[pathology]["probability"]
        if not abs(found - expected) <= tolerance:
            raise UserError(
                "answers-differ",
                "the server's answer is not evaluation's",
                where=f"{where}, {pathology}",
                found=f"{found:.6f}",
                expected=f"{expected:.6f} within {tolerance:g}",
                remedy="Nothing was deployed. Run evaluate again with the versions that serve.",
            )
    return len(study.probabilities)


def _request(golden: GoldenStudy, manifest: LoadedManifest, *, text: TextConfig) -> dict[str, Any]:
    """The study as httpx's arguments: its films as PNG, and what evaluation knew besides."""
    info = next((shard for shard in manifest.manifest.shards if shard.name == golden.shard), None)
    if info is None:
        raise UserError(
            "missing-shard",
            "golden study's shard is not in the data set",
            where=manifest.storage.uri,
            found=golden.shard,
        )
    columns = ["pixels", "view_position", "age_years", "sex", *(f"text_{name}" for name in SECTIONS)]
    rows = read_shard(manifest.storage, info, columns=columns).slice(golden.row, golden.num_images).to_pylist()
    size = manifest.manifest.pixel_preset.size
    films = [np.frombuffer(row["pixels"], np.uint8).reshape(size, size) for row in rows]
    first = rows[0]
    fields = {
        "text": select_text({name: first[f"text_{name}"] for name in SECTIONS}, config=text),
        "age_years": "" if first["age_years"] is None else repr(first["age_years"]),
        "sex": first["sex"] or "",
        # The model knows no other views, and the server refuses them.
        "view_positions": ",".join(v if (v := row["view_position"]) in VIEW_INDEX else "" for row in rows),
    }
    return {
        "data": fields,
        "files": [("files", (f"{i}.png", encode_png(film), "image/png")) for i, film in enumerate(films)],
    }


def _wait_until_ready(process: subprocess.Popen[bytes], log: Path, *, timeout_s: float, certificate: str | None) -> str:
    """The address that the process prints, once /readyz answers."""
    deadline = time.monotonic() + timeout_s
    address: str | None = None
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise _died(process, log)
        address = address or _address_in(log)
        if address is not None:
            with (
                contextlib.suppress(httpx.TransportError),
                open_client(address, timeout_s=5.0, certificate=certificate) as client,
            ):
                if client.get("/readyz").status_code == 200:
                    return address
        time.sleep(POLL_S)
    raise UserError(
        "server-not-ready",
        f"the server is not ready after {timeout_s:g} s; its last lines:\n{_tail(log)}\n",
        remedy="Raise serve.startup_timeout_s if it is only slow.",
    )


def _address_in(log: Path) -> str | None:
    for line in log.read_text(errors="replace").splitlines(keepends=True):
        if line.startswith(LISTENING) and line.endswith("\n"):
            return line.removeprefix(LISTENING).strip()
    return None


def _died(process: subprocess.Popen[bytes], log: Path) -> UserError:
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=STOP_TIMEOUT_S)
    code = process.returncode
    state = "stopped answering" if code is None else f"ended with code {code}"
    return UserError("server-died", f"the server {state}, nothing was deployed; its last lines:\n{_tail(log)}")


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").rstrip().splitlines()[-LAST_LINES:])


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(timeout=STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdin is not None:
        process.stdin.close()
