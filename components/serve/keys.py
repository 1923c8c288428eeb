"""API keys: a file of their hashes that is read again when it changes, and the middleware that asks for one.

The hash is a plain SHA-256. Keys are 256 random bits, which nobody finds by trying, so that a slow hash with a salt,
as passwords need, would only cost time with every request.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import hmac
import io
import logging
import os
import re
import secrets
from pathlib import Path
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from components.cxr.errors import UserError
from components.serve.json_log import note
from components.serve.replies import error_reply

__all__ = ["OPEN_PATHS", "KeyCheck", "KeyRing", "add_key", "api_key", "new_key", "told_of_keys"]

API_KEY_VARIABLE = "CXRFLOW_API_KEY"
"""Environment variable with the key that deploy asks a server in a cluster with."""

OPEN_PATHS = frozenset(("/", "/healthz", "/readyz", "/v2/health/live", "/v2/health/ready"))
"""What probes ask, and the page, which asks for the key itself."""

_LINE = re.compile(r"([0-9a-f]{64})[ \t]+([A-Za-z0-9._-]{1,40})")
_MOST_CHARS = 200
_log = logging.getLogger("cxrflow.keys")


class KeyRing:
    """The keys of one file: lines of `<SHA-256 of the key> <name>`; empty ones and those with # in front are skipped.

    A file that is gone or damaged later opens to nobody until it is in order again.

    Args:
        path: of the file.

    Raises:
        UserError: no such file, a line that is none, or no key.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen = self._state()
        self._keys = _read(path)

    def name_of(self, key: str) -> str | None:
        """The name of a known key; None for any other. Takes the same time for all."""
        self._renew()
        digest, found = hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest(), None
        for known, name in self._keys:
            if hmac.compare_digest(known, digest):
                found = name
        return found

    def _renew(self) -> None:
        if (state := self._state()) == self._seen:
            return
        self._seen = state
        try:
            self._keys = _read(self._path)
            _log.info("keys read again", extra={"facts": {"keys": len(self._keys)}})
        except UserError as error:
            self._keys = []
            _log.error("no keys, nobody may enter", extra={"facts": {"code": error.code}})

    def _state(self) -> tuple[int, int, int] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino


class KeyCheck:
    """ASGI middleware that lets requests with a known key pass, as `Authorization: Bearer` or `X-API-Key`.

    Args:
        keys: those that may enter.
    """

    def __init__(self, app: ASGIApp, keys: KeyRing) -> None:
        self.app, self.keys = app, keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on or refuse it."""
        if scope["type"] != "http" or scope["path"] in OPEN_PATHS:
            await self.app(scope, receive, send)
            return
        key = _presented(scope)
        name = None if key is None else self.keys.name_of(key)
        if name is not None:
            note(key=name)
            await self.app(scope, receive, send)
            return
        code, message = ("no-key", "This server wants an API key.")
        if key is not None:
            code, message = ("unknown-key", "The API key is not one of this server's.")
        note(code=code)
        remedy = "Send it as `Authorization: Bearer KEY` or `X-API-Key: KEY`."
        headers = {"www-authenticate": 'Bearer realm="cxrflow"'}
        await error_reply(scope["path"], 401, code, message, remedy=remedy, headers=headers)(scope, receive, send)


def told_of_keys(schema: dict[str, Any]) -> dict[str, Any]:
    """The OpenAPI description of a server that wants keys."""
    schemes = {
        "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        "bearer": {"type": "http", "scheme": "bearer"},
    }
    schema.setdefault("components", {})["securitySchemes"] = schemes
    for path, operations in schema["paths"].items():
        for operation in operations.values():
            if path not in OPEN_PATHS:
                operation["security"] = [{name: []} for name in schemes]
                error = {"$ref": f"#/components/schemas/{'ProtocolError' if path.startswith('/v2') else 'ErrorReply'}"}
                refusal = {"description": "No known API key.", "content": {"application/json": {"schema": error}}}
                operation["responses"].setdefault("401", refusal)
    return schema


def new_key() -> str:
    """A key of 256 random bits."""
    return f"cxr_{secrets.token_urlsafe(32)}"


def add_key(path: Path, name: str, key: str) -> None:
    """Add a key's hash to the file, which is made if it is not there, for its owner alone to read.

    Several processes may add keys at once.

    Raises:
        UserError: a name that is none or is taken, or a file that is no list of keys or cannot be written.
    """
    line = f"{hashlib.sha256(key.encode()).hexdigest()} {name}"
    if not _LINE.fullmatch(line):
        expected = "1 to 40 letters, digits, dots, dashes and underscores"
        raise UserError("bad-key-name", "the key's name is none", where="NAME", expected=expected)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "ab+", buffering=0, opener=_open_for_its_owner) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if name in (taken for _, taken in _read(path, least=0)):
                remedy = "Choose another name, or delete its line first."
                raise UserError("key-name-taken", "there is a key of that name", where=path, found=name, remedy=remedy)
            _append(file, f"{line}\n".encode())
    except OSError as error:
        raise UserError("cannot-write", "cannot write the keys", where=path, found=error.strerror) from None


def _open_for_its_owner(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _append(file: io.FileIO, line: bytes) -> None:
    """Add a line whole or not at all: half of one would open to nobody. A new file in place of this one would have
    another owner, and would take the place of a link."""
    end = file.seek(0, os.SEEK_END)
    file.seek(max(0, end - 1))
    data = line if file.read() in (b"", b"\n") else b"\n" + line
    try:
        if file.write(data) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(file)
    except OSError:
        file.truncate(end)
        raise


def api_key() -> str | None:
    """The key of the environment, for a client."""
    return os.environ.get(API_KEY_VARIABLE) or None


def _read(path: Path, *, least: int = 1) -> list[tuple[bytes, str]]:
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        found = error.strerror if isinstance(error, OSError) else "no plain text"
        remedy = "`python -m components.serve key FILE NAME` makes one."
        raise UserError("keys-unreadable", "cannot read the keys", where=path, found=found, remedy=remedy) from None
    keys = []
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _LINE.fullmatch(line.strip())
        if match is None:  # perhaps a key itself: it is not printed
            expected = "64 hex digits and a name"
            raise UserError("bad-keys", "a line is no hash of a key", where=f"{path}:{number}", expected=expected)
        keys.append((bytes.fromhex(match[1]), match[2]))
    if len(keys) < least:
        raise UserError("no-keys", "the file has no key", where=path, expected="a line of 64 hex digits and a name")
    return keys


def _presented(scope: Scope) -> str | None:
    """The key that a request brings, if it brings one."""
    headers: dict[bytes, bytes] = dict(scope["headers"])
    kind, _, rest = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
    key = rest.strip() if kind.lower() == "bearer" else headers.get(b"x-api-key", b"").decode("latin-1").strip()
    return key if key and len(key) <= _MOST_CHARS else None
