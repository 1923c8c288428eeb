"""API keys and TLS: who gets in, and what a key, a changed file and a wrong certificate do."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import socket
import ssl
import stat
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from cryptography.hazmat.primitives import serialization
from starlette.testclient import TestClient

from components.cxr.errors import UserError
from components.serve.app import create_app
from components.serve.config import LISTENING, ServeConfig
from components.serve.deploy import deploy
from components.serve.deployment import CURRENT
from components.serve.golden import check_answers, running_server
from components.serve.keys import KeyRing, add_key, new_key
from components.serve.server import check_tls
from tests.components.processes import wait_for
from tests.components.serve.certificates import certificate_of

REPOSITORY = Path(__file__).parents[3]
HEADER_S = 1.5
"""How long a client may take for the header of a request or a TLS handshake."""
CLOSED = (
    "/v1/model",
    "/v1/model/card",
    "/metrics",
    "/openapi.json",
    "/v2",
    "/v2/models/cxrflow",
    "/examples/x",
    "/other",
)


def _made(folder, names=("alice", "bob")):
    path = folder / "keys"
    keys = {name: new_key() for name in names}
    for name, key in keys.items():
        add_key(path, name, key)
    return path, keys


@pytest.fixture
def guarded(predictor, tmp_path):
    path, keys = _made(tmp_path)
    with TestClient(create_app(predictor, ServeConfig(), keys=KeyRing(path))) as client:
        yield client, path, keys


def test_without_a_key_probes_and_the_page_alone_answer(guarded):
    client, _, _ = guarded
    for path in ("/", "/healthz", "/readyz", "/v2/health/live", "/v2/health/ready"):
        assert client.get(path).status_code == 200
    for path in CLOSED:
        response = client.get(path)
        assert (response.status_code, response.headers["www-authenticate"]) == (401, 'Bearer realm="cxrflow"')
    assert client.get("/v1/model").json()["error"]["code"] == "no-key"
    assert client.post("/v1/predict", json={"text": "cough"}).json()["error"]["code"] == "no-key"
    assert client.get("/v2").json()["error"].endswith("[no-key]")


def test_each_key_opens_in_either_header(guarded):
    client, _, keys = guarded
    for key in keys.values():
        for headers in ({"authorization": f"Bearer {key}"}, {"authorization": f"bearer {key}"}, {"x-api-key": key}):
            assert client.post("/v1/predict", json={"text": "cough"}, headers=headers).status_code == 200
            assert client.get("/v2/models/cxrflow", headers=headers).status_code == 200


def test_what_is_no_key_of_the_server_is_refused(guarded):
    client, path, keys = guarded
    known = next(iter(keys.values()))
    stored = path.read_text().split()[0]
    for wrong in (
        known[:-1],
        f"{known}x",
        known.lower(),
        stored,
        "alice",
        "ä",
        "Jane Doe",
        "x" * 10_000,
        known.encode()[4:],
    ):
        value = wrong if isinstance(wrong, bytes) else wrong.encode("latin-1")
        for headers in ({"x-api-key": value}, {"authorization": b"Bearer " + value}):
            response = client.get("/v1/model", headers=headers)
            assert response.status_code == 401
            assert response.json()["error"]["code"] in ("unknown-key", "no-key")
            assert "Jane" not in response.text
    assert client.get("/v1/model", headers={"authorization": f"Basic {known}"}).status_code == 401
    assert client.get(f"/v1/model?key={known}").status_code == 401


def test_the_file_is_read_again_when_it_changes(guarded, caplog):
    client, path, keys = guarded

    def opens(name):
        return client.get("/v1/model", headers={"x-api-key": keys[name]}).status_code == 200

    whole = path.read_text()
    assert opens("alice")
    path.write_text("".join(line for line in whole.splitlines(keepends=True) if "alice" not in line))
    assert not opens("alice")
    assert opens("bob")
    keys["carol"] = new_key()
    add_key(path, "carol", keys["carol"])
    assert opens("carol")
    assert opens("bob")
    for damaged in (keys["bob"], "", "# nobody\n"):  # a key in place of its hash opens nothing and is not printed
        path.write_text(damaged)
        assert not opens("bob")
    path.unlink()
    assert not opens("bob")
    path.write_text(whole)
    assert opens("alice")
    assert not any(key in caplog.text for key in keys.values())


def test_who_came_in_is_in_the_log_and_no_key_is(guarded, caplog):
    client, _, keys = guarded
    with caplog.at_level("INFO"):
        client.get("/v1/model", headers={"x-api-key": keys["bob"]})
        client.get("/v1/model", headers={"x-api-key": "Jane"})
    first, second = (record.facts for record in caplog.records if record.getMessage() == "request")
    assert (first["key"], first["status"]) == ("bob", 200)
    assert (second["code"], second["status"], "key" in second) == ("unknown-key", 401, False)
    told = json.dumps([first, second]) + caplog.text
    assert keys["bob"] not in told
    assert "Jane" not in told


def test_the_file_holds_hashes_for_its_owner_alone(tmp_path):
    path, keys = _made(tmp_path)
    hashed = [f"{hashlib.sha256(key.encode()).hexdigest()} {name}" for name, key in keys.items()]
    assert path.read_text().splitlines() == hashed
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert all(len(key) > 40 for key in keys.values())
    with pytest.raises(UserError, match=r"there is a key of that name.*found alice"):
        add_key(path, "alice", new_key())
    for name in ("", "Jane Doe", "a\nb", "x" * 41):
        with pytest.raises(UserError, match="the key's name is none"):
            add_key(path, name, new_key())
    path.write_text("\n\n# people\n" + path.read_text().rstrip("\n"))
    add_key(path, "carol", new_key())
    assert KeyRing(path).name_of(keys["bob"]) == "bob"


def test_a_file_behind_a_link_gets_the_key_and_the_link_stays(tmp_path):
    path, keys = _made(tmp_path)
    path.chmod(0o640)
    link = tmp_path / "link"
    link.symlink_to(path)
    before = path.stat()
    added = new_key()
    add_key(link, "carol", added)
    assert link.is_symlink()
    assert KeyRing(path).name_of(added) == "carol"
    assert KeyRing(path).name_of(keys["alice"]) == "alice"
    after = path.stat()
    assert (after.st_ino, after.st_mode, after.st_uid) == (before.st_ino, before.st_mode, before.st_uid)


def test_keys_that_are_added_at_once_are_all_there(tmp_path):
    path, names = tmp_path / "keys", [f"n{i}" for i in range(24)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: add_key(path, name, new_key()), names))
    assert sorted(line.split()[1] for line in path.read_text().splitlines()) == sorted(names)


def test_a_full_disk_leaves_the_keys_as_they_were(tmp_path, monkeypatch):
    path, _ = _made(tmp_path)
    before = path.read_bytes()

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"cannot write the keys: .*found No space left on device"):
        add_key(path, "carol", new_key())
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("text", "message"),
    [(None, "cannot read the keys"), ("", "the file has no key"), ("secret", "a line is no hash of a key: .*keys:1")],
)
def test_a_server_does_not_start_with_a_file_that_opens_to_nobody(tmp_path, text, message):
    if text is not None:
        (tmp_path / "keys").write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        KeyRing(tmp_path / "keys")
    assert "secret" not in str(caught.value)


def test_a_certificate_and_its_key_must_fit(tmp_path):
    certificate, key = certificate_of(tmp_path)
    _, other = certificate_of(tmp_path, "127.0.0.2")
    check_tls(ServeConfig(tls_certificate=certificate, tls_key=key))
    for wrong in ((certificate, other), (key, key), (certificate, str(tmp_path / "none")), (str(tmp_path), key)):
        with pytest.raises(UserError, match=r"the certificate or its key cannot be used: serve\.tls_certificate"):
            check_tls(ServeConfig(tls_certificate=wrong[0], tls_key=wrong[1]))
    encrypted = serialization.load_pem_private_key(Path(key).read_bytes(), None).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"x"),
    )
    Path(other).write_bytes(encrypted)
    with pytest.raises(UserError, match="without a passphrase"):
        check_tls(ServeConfig(tls_certificate=certificate, tls_key=other))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"tls_key": "a"}, "tls_certificate and tls_key need each other"),
        ({"tls_key": "a", "tls_certificate": "b", "target": "kserve"}, "cluster.address must be its https:// address"),
    ],
)
def test_half_a_tls_is_no_configuration(values, message):
    with pytest.raises(UserError, match=message):
        ServeConfig.parse(values, where="serve")


@pytest.fixture(scope="module")
def tls_server(evaluated, tmp_path_factory):
    """A server with TLS and keys, and what must not be in its log; its certificate is that of a public address."""
    folder = tmp_path_factory.mktemp("tls")
    path, keys = _made(folder)
    certificate, key = certificate_of(folder, "127.0.0.9")
    config = ServeConfig(keys=str(path), tls_certificate=certificate, tls_key=key, header_timeout_s=HEADER_S)
    with running_server(config, evaluated.bundle, evaluated.evaluation) as server:
        yield server
        log = server.log.read_text()
    assert not any(found in log for found in (*keys.values(), server.key))


@pytest.mark.slow
def test_the_check_before_a_deployment_has_a_key_of_its_own_and_trusts_the_serverscertificate_of(evaluated, tls_server):
    assert tls_server.address.startswith("https://")
    assert check_answers(tls_server, evaluated.report, manifest=evaluated.manifest, tolerance=1e-4).num_studies > 3
    without = tls_server._replace(key=None)
    with pytest.raises(UserError, match="does not name its model; found This server wants an API key"):
        check_answers(without, evaluated.report, manifest=evaluated.manifest, tolerance=1e-4)
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{tls_server.address}/healthz", trust_env=False)
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{tls_server.address.replace('https', 'http')}/healthz", trust_env=False)


@pytest.mark.slow
@pytest.mark.parametrize("sent", [b"", b"\x16\x03\x01\x02\x00\x01"], ids=["nothing", "half a greeting"])
def test_a_tls_handshake_that_never_ends_is_cut_off(tls_server, sent):
    host, port = tls_server.address.removeprefix("https://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as raw:
        start = time.monotonic()
        raw.sendall(sent)
        with contextlib.suppress(ConnectionResetError):
            assert raw.recv(1 << 16) == b""
        assert HEADER_S - 0.1 < time.monotonic() - start < HEADER_S + 8


@pytest.mark.slow
def test_a_tls_client_that_falls_silent_and_never_says_goodbye_is_cut_off(tls_server):
    host, port = tls_server.address.removeprefix("https://").split(":")
    context = ssl.create_default_context(cafile=tls_server.certificate)
    context.check_hostname = False
    with socket.create_connection((host, int(port)), timeout=30) as raw:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = context.wrap_bio(incoming, outgoing)
        shaken = False
        while not shaken:
            try:
                client.do_handshake()
                shaken = True
            except ssl.SSLWantReadError:
                raw.sendall(outgoing.read())
                incoming.write(raw.recv(1 << 16))
        raw.sendall(outgoing.read())
        start = time.monotonic()
        with contextlib.suppress(ConnectionResetError):
            while raw.recv(1 << 16):  # the server's goodbye, which is not answered
                pass
        assert time.monotonic() - start < 2 * HEADER_S + 8


@pytest.mark.slow
def test_the_deployed_model_is_served_with_keys_and_tls_and_names_its_version(world, tmp_path):
    """By the commands that docs/serving.md names."""
    certificate, key = certificate_of(tmp_path)
    world.decide()
    settings = {"tls_certificate": certificate, "tls_key": key, "keys": str(tmp_path / "keys"), "port": 0}
    command = [sys.executable, "-m", "components.serve"]
    made = subprocess.run([*command, "key", str(tmp_path / "keys"), "alice"], cwd=REPOSITORY, stdout=subprocess.PIPE)
    api_key = made.stdout.decode().strip()
    config = ServeConfig(**settings)
    deploy(config, root=world.root, bundle=world.bundle, evaluation=world.evaluation, manifest=world.manifest)
    current = Path(world.root.deployed().uri, CURRENT)
    current.write_text(json.dumps(json.loads(current.read_text()) | {"model_name": "cxr", "model_version": "7"}))
    sets = [part for name, value in settings.items() for part in ("--set", f"serve.{name}={value}")]
    log = tmp_path / "log"
    with (
        log.open("wb") as output,
        subprocess.Popen(
            [*command, "--config", os.devnull, "--root", world.root.uri, *sets],
            cwd=REPOSITORY,
            stdout=output,
            stderr=subprocess.STDOUT,
        ) as process,
    ):
        try:
            wait_for(lambda: LISTENING in log.read_text() or process.poll() is not None, 300)
            address = log.read_text().partition(LISTENING)[2].split()[0]
            trusted = ssl.create_default_context(cafile=certificate)
            retrying = httpx.HTTPTransport(verify=trusted, retries=8)  # the port is taken a moment before it answers
            with httpx.Client(base_url=address, transport=retrying, timeout=60) as client:
                assert client.get("/healthz").json() == {"status": "ok"}
                assert client.get("/v1/model").status_code == 401
                client.headers["authorization"] = f"Bearer {api_key}"
                assert client.get("/v1/model").json()["model_version"] == "7"
                assert client.get("/v2/models/cxrflow").json()["versions"] == ["7"]
                assert client.post("/v1/predict", json={"text": "cough"}).json()["model_version"] == "7"
        finally:
            process.terminate()
    assert process.returncode == 0, log.read_text()
    assert api_key not in log.read_text()
