"""With a public key only what its owner has signed is deployed and served; everything else is one line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from pydantic import ValidationError

from components.cxr.bundle_info import describe
from components.cxr.errors import UserError
from components.cxr.report import REPORT
from components.cxr.seal import write_seal
from components.cxr.storage.pointers import write_pointer
from components.cxr.storage.storage import Storage, open_storage
from components.serve.config import ServeConfig
from components.serve.copies import SIGNATURE, make_copy
from components.serve.deploy import deploy
from components.serve.deployment import read_deployment
from components.serve.predictor import StudyPredictor
from components.serve.signature import sign
from tests.components.serve.cluster import REPOSITORY

if TYPE_CHECKING:
    from tests.components.serve.conftest import World


def _key(file: Path, password: bytes | None = None) -> Path:
    encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    form = serialization.PrivateFormat.PKCS8
    file.write_bytes(Ed25519PrivateKey.generate().private_bytes(serialization.Encoding.PEM, form, encryption))
    return file


def test_what_is_signed_is_served_before_and_after_its_deployment(world: World, tmp_path: Path) -> None:
    public = sign(world.bundle, world.evaluation, key=_key(tmp_path / "key.pem"))
    assert ServeConfig(public_key=public).public_key == public
    assert StudyPredictor(world.bundle, world.evaluation, public_key=public).points.hash
    copy = open_storage(tmp_path / "copy")
    seal = make_copy(world.bundle, world.evaluation, copy)
    assert StudyPredictor(copy, seal=seal.hash, public_key=public).bundle.hash == world.report.bundle_hash


def _unsigned(copy: Storage) -> None:
    copy.delete(SIGNATURE)


def _sealed_again(copy: Storage) -> None:
    """Another card, and a seal that fits it."""
    text = copy.read("MODEL_CARD.md").data
    copy.write("MODEL_CARD.md", text + b" of another model")
    write_seal(copy, describe(copy).files, more=(REPORT,))


def _damaged(copy: Storage) -> None:
    values = json.loads(copy.read(SIGNATURE).data)
    copy.write(SIGNATURE, json.dumps(values | {"signature": values["signature"][:-8]}).encode())


def _other_key(copy: Storage) -> None:
    sign(copy, copy, key=_key(Path(copy.uri).parent / "other.pem"))


@pytest.mark.parametrize(
    ("edit", "code"),
    [
        (_unsigned, "not-signed"),
        (_sealed_again, "bad-signature"),
        (_damaged, "bad-signature"),
        (_other_key, "other-key"),
    ],
)
def test_anything_else_is_one_clear_error(world: World, tmp_path: Path, edit: object, code: str) -> None:
    public = sign(world.bundle, world.evaluation, key=_key(tmp_path / "key.pem"))
    copy = open_storage(tmp_path / "copy")
    make_copy(world.bundle, world.evaluation, copy)
    assert callable(edit)
    edit(copy)
    assert StudyPredictor(copy).bundle.hash == world.report.bundle_hash, "as sealed, for those who ask for no signature"
    with pytest.raises(UserError) as caught:
        StudyPredictor(copy, public_key=public)
    assert (caught.value.code, caught.value.where) == (code, f"{copy.uri}/{SIGNATURE}")
    assert caught.value.remedy
    assert "\n" not in caught.value.line


def test_an_unsigned_model_is_not_deployed(world: World, tmp_path: Path) -> None:
    public = sign(world.bundle, world.evaluation, key=_key(tmp_path / "key.pem"))
    world.evaluation.delete(SIGNATURE)
    with pytest.raises(UserError) as caught:
        deploy(
            ServeConfig(public_key=public),
            root=world.root,
            bundle=world.bundle,
            evaluation=world.evaluation,
            manifest=world.manifest,
        )
    assert caught.value.code == "not-signed", "before a server was started for the check"
    assert read_deployment(world.root).deployment is None
    assert list(world.root.deployed().sizes()) == []


def test_a_damaged_bundle_is_not_signed(world: World, tmp_path: Path) -> None:
    world.bundle.write("weights.safetensors", b"others")
    with pytest.raises(UserError, match="a file is not the one that was sealed"):
        sign(world.bundle, world.evaluation, key=_key(tmp_path / "key.pem"))
    assert not world.evaluation.exists(SIGNATURE)


@pytest.mark.parametrize("what", ["rsa", "password", "no PEM", "none"])
def test_a_key_of_another_kind_is_one_line(world: World, tmp_path: Path, what: str) -> None:
    file = tmp_path / "key.pem"
    if what == "rsa":
        pem, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
        file.write_bytes(generate_private_key(65537, 2048).private_bytes(pem, form, serialization.NoEncryption()))
    elif what == "password":
        _key(file, b"secret")
    elif what == "no PEM":
        file.write_bytes(b"MCow")
    with pytest.raises(UserError, match=r"this is no key to sign with|the key cannot be read") as caught:
        sign(world.bundle, world.evaluation, key=file)
    assert str(caught.value.where) == str(file)


@pytest.mark.parametrize("value", ["MCowBQYDK2VwAyEA", "-----BEGIN PUBLIC KEY-----", ""])
def test_a_public_key_that_is_none_is_refused(value: str) -> None:
    with pytest.raises(ValidationError, match="public_key"):
        ServeConfig(public_key=value)


def test_on_the_command_line_the_newest_evaluation_is_signed(world: World, tmp_path: Path) -> None:
    write_pointer(world.root, "bundle", world.bundle.uri)
    write_pointer(world.root, "evaluation", world.evaluation.uri)
    config = tmp_path / "config.yaml"
    config.write_text(f"root: {world.root.uri}\n")
    command = [sys.executable, "-m", "components.serve", "sign", "--config", str(config), "--key"]
    done = subprocess.run(
        [*command, str(_key(tmp_path / "key.pem"))], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    public = json.loads(world.evaluation.read(SIGNATURE).data)["public_key"]
    assert done.stdout == f"serve: signed {world.evaluation.uri} by serve.public_key={public}\n"
