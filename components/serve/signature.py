"""`seal.sig`: a seal signed by whoever releases models, so that no one else's bundle goes into service.

A seal says that files fit each other; whoever may write the folder can seal other ones. An Ed25519 key that lies
elsewhere cannot be written around. It needs no service: clusters without a way out cannot ask Sigstore's log.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from components.cxr.bundle_info import file_hashes, local_folder
from components.cxr.config import Config
from components.cxr.errors import UserError
from components.cxr.seal import Seal, check_files, load_seal
from components.cxr.shards import read_versioned
from components.cxr.storage.storage import Storage
from components.serve.copies import SIGNATURE, seal_of_copy

__all__ = ["check_signature", "sign"]

SCHEMA_VERSION = 1
PURPOSE = b"cxrflow seal 1\n"
"""Before what is signed, so that the key's signatures of other things are none of seals."""
REMEDY = "Sign it with `python -m components.serve sign`, after you have looked at its report."


class Signature(Config):
    """`seal.sig`."""

    schema_version: int = SCHEMA_VERSION
    public_key: str
    """Of the key that signed, as `serve.public_key` has it."""
    signature: str
    """Ed25519 (RFC 8032) of the copy's seal, in base64."""


def sign(bundle: Storage, evaluation: Storage, *, key: Path) -> str:
    """Sign what a deployed copy of a bundle and an evaluation will be; returns the public key for `serve.public_key`.

    Args:
        key: Ed25519 private key in PEM, as `openssl genpkey -algorithm ed25519` makes it.

    Raises:
        UserError: no such key, or files that are not as evaluate sealed them.
    """
    private = _private_key(key)
    with local_folder(bundle) as folder:
        files = file_hashes(folder)
    check_files(load_seal(evaluation), files, bundle=bundle.uri, evaluation=evaluation)
    signed = private.sign(_message(seal_of_copy(files, evaluation)))
    public = _text(private.public_key())
    values = Signature(public_key=public, signature=base64.b64encode(signed).decode())
    evaluation.write(SIGNATURE, (json.dumps(values.model_dump(mode="json"), indent=1) + "\n").encode())
    return public


def check_signature(seal: Seal, storage: Storage, *, public_key: str) -> None:
    """Refuse a copy, or an evaluation, that the key's owner has not released.

    Args:
        seal: of the copy.
        storage: folder of the signature.
        public_key: `serve.public_key`.

    Raises:
        UserError: no signature, one by another key, or one of other files.
    """
    where = f"{storage.uri}/{SIGNATURE}"
    try:
        data = storage.read(SIGNATURE).data
    except FileNotFoundError:
        raise UserError(
            "not-signed", "the model is not signed", where=where, expected="serve.public_key's signature", remedy=REMEDY
        ) from None
    found = Signature.parse(read_versioned(data, where=where, version=SCHEMA_VERSION, made_by="sign"), where=where)
    if found.public_key != public_key:
        raise UserError(
            "other-key",
            "the model is signed by another key",
            where=where,
            found=found.public_key,
            expected=public_key,
            remedy=REMEDY,
        )
    key = Ed25519PublicKey.from_public_bytes(base64.b64decode(public_key)[-32:])
    try:
        key.verify(base64.b64decode(found.signature), _message(seal))
    except (InvalidSignature, ValueError):
        raise UserError(
            "bad-signature", "the signature is of other files than these", where=where, remedy=REMEDY
        ) from None


def _message(seal: Seal) -> bytes:
    return PURPOSE + seal.canonical_json().encode()


def _text(key: Ed25519PublicKey) -> str:
    kind, form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    return base64.b64encode(key.public_bytes(kind, form)).decode()


def _private_key(file: Path) -> Ed25519PrivateKey:
    try:
        key = serialization.load_pem_private_key(file.read_bytes(), password=None)
    except OSError as error:
        raise UserError("no-key", "the key cannot be read", where=file, found=error.strerror) from None
    except (ValueError, TypeError, UnsupportedAlgorithm):  # TypeError: it has a password
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise UserError(
            "bad-key",
            "this is no key to sign with",
            where=file,
            expected="an Ed25519 private key in PEM, without a password",
            remedy=f"Make one: openssl genpkey -algorithm ed25519 -out {file.name}",
        )
    return key
