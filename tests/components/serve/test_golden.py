import contextlib
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from components.cxr.bundle import load_bundle
from components.cxr.errors import UserError
from components.cxr.model.dataset import StudyDataset
from components.cxr.model.predictor import answer, condition_of, predict
from components.cxr.operating_points import load_operating_points
from components.serve.config import ServeConfig
from components.serve.golden import RunningServer, check_answers, running_server

FAULTS = {
    "dies": "#!/bin/sh\necho one >&2; echo the disk is full >&2; exit 3\n",
    "hangs": "#!/bin/sh\necho still loading; exec sleep 60\n",
}


def _tampered(report, **changes):
    study = report.golden[-1]
    changed = study.model_copy(update=changes)
    return report.model_copy(update={"golden": (*report.golden[:-1], changed)})


def _check(server, report, evaluated, *, tolerance=1e-4):
    return check_answers(server, report, manifest=evaluated.manifest, tolerance=tolerance)


def test_a_faithful_server_passes(server, evaluated):
    golden = evaluated.report.golden
    assert any(study.num_images > 1 for study in golden)
    assert _check(server, evaluated.report, evaluated) == (len(golden), 4 * len(golden), 0)


def test_one_tampered_probability_is_found(server, evaluated):
    expected = evaluated.report.golden[-1].probabilities
    report = _tampered(evaluated.report, probabilities=expected | {"Edema": expected["Edema"] + 2e-4})
    with pytest.raises(UserError, match=r"golden study (\d) of \1, Edema; found 0\.\d{6}, expected 0\.\d{6} within"):
        _check(server, report, evaluated)
    assert _check(server, report, evaluated, tolerance=1e-3)


class Tf32(TorchFunctionMode):
    """What a GPU makes of products in TF32: operands with 10 bits of mantissa, sums in float32."""

    PRODUCTS = (functional.linear, functional.conv2d, torch.matmul, torch.Tensor.matmul, torch.Tensor.__matmul__,
                functional.scaled_dot_product_attention)  # fmt: skip

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function in self.PRODUCTS:
            args = [self._rounded(value) for value in args]
        return function(*args, **(kwargs or {}))

    @staticmethod
    def _rounded(value):
        if not isinstance(value, torch.Tensor) or value.dtype != torch.float32:
            return value
        return ((value.view(torch.int32) + 0x1000) & ~0x1FFF).view(torch.float32)


@pytest.mark.parametrize("tf32", [False, True], ids=["float32", "TF32"])
def test_answers_that_were_made_in_tf32_are_refused(server, evaluated, tf32):
    bundle = load_bundle(evaluated.bundle)
    points = load_operating_points(evaluated.evaluation, bundle_hash=bundle.hash)
    studies = StudyDataset(evaluated.manifest, splits=["test"], text=bundle.info.text)
    at = {(place.shard, place.row): s for s, place in enumerate(studies.places)}
    golden = []
    with Tf32() if tf32 else contextlib.nullcontext():
        for study in evaluated.report.golden:
            asked = studies[at[study.shard, study.row]]
            found = answer(bundle, predict(bundle, [asked]), points, condition=condition_of(asked))
            golden.append(study.model_copy(update={"probabilities": {n: a.probability for n, a in found.items()}}))
    report = evaluated.report.model_copy(update={"golden": tuple(golden)})
    if tf32:
        with pytest.raises(UserError, match=r"is not evaluation's.*within 0\.0001"):
            _check(server, report, evaluated, tolerance=ServeConfig().golden_tolerance)
        assert _check(server, report, evaluated, tolerance=0.02)
    else:
        assert _check(server, report, evaluated, tolerance=ServeConfig().golden_tolerance)


def test_a_probability_that_is_no_number_is_found(server, evaluated):
    expected = evaluated.report.golden[-1].probabilities
    report = _tampered(evaluated.report, probabilities=expected | {"Edema": float("nan")})
    with pytest.raises(UserError, match="is not evaluation's"):
        _check(server, report, evaluated)


def test_another_study_than_evaluations_is_found(server, evaluated):
    report = _tampered(evaluated.report, row=evaluated.report.golden[0].row, shard=evaluated.report.golden[0].shard)
    with pytest.raises(UserError, match="is not evaluation's"):
        _check(server, report, evaluated)


def test_another_model_is_found(server, evaluated):
    with pytest.raises(UserError, match="the bundle is not the evaluated one"):
        _check(server, evaluated.report.model_copy(update={"bundle_hash": "0" * 64}), evaluated)


def test_a_shard_that_the_data_does_not_have_is_found(server, evaluated):
    with pytest.raises(UserError, match=r"found other\.parquet"):
        _check(server, _tampered(evaluated.report, shard="other.parquet"), evaluated)


@pytest.mark.parametrize("num_headers", [1, 4, 5])
def test_texts_that_look_like_headers_are_left_out_but_not_too_many(server, evaluated, monkeypatch, num_headers):
    texts = iter(["Procedure"] * num_headers + ["cough"] * (8 - num_headers))
    monkeypatch.setattr("components.serve.golden.select_text", lambda *_, **__: next(texts))
    if num_headers == 5:
        with pytest.raises(UserError, match="found 3 of 8, expected half"):
            _check(server, evaluated.report, evaluated, tolerance=1.0)
    else:
        checked = _check(server, evaluated.report, evaluated, tolerance=1.0)
        assert (checked.num_studies, checked.num_left_out) == (8 - num_headers, num_headers)


def test_a_server_that_dies_meanwhile_is_told(evaluated, tmp_path):
    (tmp_path / "log").write_text("out of memory\n")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with subprocess.Popen(["sh", "-c", "exit 137"]) as process:
            dead = RunningServer(address, process, tmp_path / "log")
            with pytest.raises(UserError, match=r"ended with code 137, nothing was deployed.*\nout of memory"):
                _check(dead, evaluated.report, evaluated)


@pytest.mark.slow
def test_the_check_of_a_cluster_needs_no_files_that_its_pods_alone_have(evaluated):
    files = {name: f"/of-the-pods/{name}" for name in ("keys", "tls_certificate", "tls_key")}
    config = ServeConfig(target="kubernetes", cluster={"address": "https://cxr.example"}, **files)
    with running_server(config, evaluated.bundle, evaluated.evaluation) as server:
        assert server.address.startswith("http://127.0.0.1:")
        assert _check(server, evaluated.report, evaluated).num_studies == len(evaluated.report.golden)


@pytest.mark.parametrize("moment", ["loading", pytest.param("ready", marks=pytest.mark.slow)])
def test_a_server_ends_with_the_process_that_checks_it(evaluated, moment, tmp_path):
    script = (
        "import sys, time\n"
        "from components.cxr.storage.storage import open_storage\n"
        "from components.serve import golden\n"
        "from components.serve.config import ServeConfig\n"
        "def wait(process, log, *, ready=golden._wait_until_ready, **options):\n"
        "    if sys.argv[3] == 'ready': ready(process, log, **options)\n"
        "    print(process.pid, flush=True)\n"
        "    time.sleep(600)\n"
        "golden._wait_until_ready = wait\n"
        "with golden.running_server(ServeConfig(), *map(open_storage, sys.argv[1:3])): pass\n"
    )
    command = [sys.executable, "-c", script, evaluated.bundle.uri, evaluated.evaluation.uri, moment]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=os.environ | {"TMPDIR": str(tmp_path)}
    ) as parent:
        server = int(parent.stdout.readline())
        assert Path(f"/proc/{server}").exists()
        parent.kill()
    deadline = time.monotonic() + 60
    while _lives(server) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _lives(server)


def _lives(pid):
    """Whether the process runs; an orphan that nobody has waited for is dead too."""
    with contextlib.suppress(FileNotFoundError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


@pytest.fixture
def broken_python(monkeypatch, tmp_path, request):
    """The server's interpreter replaced by a process that misbehaves."""
    path = tmp_path / "python"
    path.write_text(FAULTS[request.param])
    path.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(path))


@pytest.mark.parametrize("broken_python", ["dies"], indirect=True)
@pytest.mark.usefixtures("broken_python")
def test_a_server_that_dies_is_told_with_its_last_lines(evaluated):
    expected = r"ended with code 3, nothing was deployed; its last lines:\none\nthe disk is full"
    with (
        pytest.raises(UserError, match=expected),
        running_server(ServeConfig(), evaluated.bundle, evaluated.evaluation),
    ):
        pass


@pytest.mark.parametrize("broken_python", ["hangs"], indirect=True)
@pytest.mark.usefixtures("broken_python")
def test_a_server_that_never_gets_ready_is_stopped(evaluated, monkeypatch):
    started = []
    popen = __import__("subprocess").Popen

    def remember(*args, **kwargs):
        started.append(popen(*args, **kwargs))
        return started[-1]

    monkeypatch.setattr("subprocess.Popen", remember)
    config = ServeConfig(startup_timeout_s=0.5)
    with pytest.raises(UserError, match=r"not ready after 0\.5 s; its last lines:\nstill loading"):  # noqa: SIM117
        with running_server(config, evaluated.bundle, evaluated.evaluation):
            pass
    assert started[0].returncode is not None
    with pytest.raises(ProcessLookupError):
        os.kill(started[0].pid, 0)
