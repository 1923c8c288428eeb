"""Keyed hashes in place of a source's ids."""

from __future__ import annotations

import hashlib
import hmac
import os
from dataclasses import dataclass, field
from typing import Literal

from components.cxr.errors import UserError

__all__ = ["ID_KEY_VARIABLE", "IdKey", "hash_fraction", "hash_id", "load_id_key"]

ID_KEY_VARIABLE = "CXRFLOW_ID_KEY"
"""Environment variable with the secret; without it ids are hashed with a public salt and can be guessed."""

_PUBLIC_SALT = b"cxrflow public salt, version 1"
_SHORTEST_KEY = 16

IdKind = Literal["patient", "study", "image", "path", "split", "order"]


@dataclass(frozen=True)
class IdKey:
    """The secret that makes ids; None for the public salt."""

    secret: bytes | None = field(repr=False)

    @property
    def deidentified(self) -> bool:
        """Whether nobody without the key can find an id by trying."""
        return self.secret is not None

    @property
    def fingerprint(self) -> str:
        """16 hex digits that tell two keys apart without giving one away."""
        return self.digest(b"fingerprint").hex()[:16]

    def digest(self, message: bytes) -> bytes:
        """HMAC-SHA256 with the secret (RFC 2104), else SHA-256 of salt and message."""
        if self.secret is None:
            return hashlib.sha256(_PUBLIC_SALT + message).digest()
        return hmac.digest(self.secret, message, "sha256")


def load_id_key() -> IdKey:
    """The key from the environment.

    Raises:
        UserError: the key is so short that it could be guessed.
    """
    secret = os.environ.get(ID_KEY_VARIABLE, "").encode()
    if secret and len(secret) < _SHORTEST_KEY:
        raise UserError(
            "short-id-key",
            "key for ids is too short",
            where=ID_KEY_VARIABLE,
            found=f"{len(secret)} bytes",
            expected=f"at least {_SHORTEST_KEY}",
            remedy="Make one with `openssl rand -hex 32` and keep it: other keys make other ids.",
        )
    return IdKey(secret or None)


def hash_id(kind: IdKind, raw: str, key: IdKey | None = None) -> str:
    """20 hex digits for an id of the source; with `key` from the environment when none is given.

    >>> hash_id("study", "50414267", IdKey(None))  # the study_id of that study's rows
    'b0085f2d85ad797d24be'
    """
    return _message_digest(kind, raw, key or load_id_key()).hex()[:20]


def hash_fraction(kind: IdKind, raw: str, key: IdKey) -> float:
    """A number in [0, 1) that depends on the id and the key alone.

    >>> 0.0 <= hash_fraction("split", "10000032", IdKey(None)) < 1.0
    True
    """
    return int.from_bytes(_message_digest(kind, raw, key)[:8], "big") / 2**64


def _message_digest(kind: IdKind, raw: str, key: IdKey) -> bytes:
    return key.digest(kind.encode() + b"\0" + raw.encode("utf-8", "surrogateescape"))
