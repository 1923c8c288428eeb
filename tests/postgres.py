"""A real PostgreSQL in a folder of its own, for one test."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import psycopg2
import pytest

__all__ = ["PASSWORD", "Postgres", "free_port", "postgres", "until"]

PASSWORD = "p@ss/word: 100%"  # what would have to be escaped in an address


class Postgres(NamedTuple):
    """A database server as the manifests' image makes it: user, database and password of the environment."""

    port: int

    def count(self, table: str) -> int:
        with contextlib.closing(
            psycopg2.connect(host="127.0.0.1", port=self.port, user="mlflow", dbname="mlflow", password=PASSWORD)
        ) as connection:
            cursor = connection.cursor()
            cursor.execute(f"SELECT count(*) FROM {table}")
            (found,) = cursor.fetchone()
        return int(found)


@pytest.fixture
def postgres() -> Iterator[Postgres]:
    """PostgreSQL in a folder of its own; it refuses to run as root, so root lends it another user."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    initdb = shutil.which("initdb") or (str(found[-1]) if found else None)
    if initdb is None:
        pytest.skip("no PostgreSQL server: initdb is neither on the PATH nor under /usr/lib/postgresql")
    initdb = Path(initdb).resolve()
    folder, port = Path(tempfile.mkdtemp(prefix="cxrflow-postgres-")), free_port()
    other: dict[str, Any] = {}
    if os.geteuid() == 0:
        user = next(user for user in pwd.getpwall() if user.pw_name in ("postgres", "nobody"))
        other = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        os.chown(folder, user.pw_uid, user.pw_gid)
    (folder / "password").write_text(PASSWORD)
    (folder / "password").chmod(0o644)
    options = ["--username=mlflow", "--auth=scram-sha-256", f"--pwfile={folder / 'password'}", "--encoding=UTF8"]
    data = folder / "data"
    subprocess.run([initdb, "-D", data, *options], cwd=folder, check=True, capture_output=True, **other)
    server = subprocess.Popen(
        [initdb.with_name("postgres"), "-D", data, "-h", "127.0.0.1", "-p", str(port), "-k", folder],
        cwd=folder, stderr=subprocess.DEVNULL, **other,
    )  # fmt: skip
    try:
        create = [initdb.with_name("createdb"), "-h", "127.0.0.1", "-p", str(port), "-U", "mlflow", "mlflow"]
        until(lambda: subprocess.run(create, env={"PGPASSWORD": PASSWORD}, capture_output=True).returncode == 0, server)
        yield Postgres(port)
    finally:
        server.send_signal(signal.SIGINT)  # SIGTERM would wait for clients
        server.wait(30)
        shutil.rmtree(folder)


def until(ready: Callable[[], bool], server: subprocess.Popen[Any], log: Path | None = None) -> None:
    deadline = time.monotonic() + 240
    while not ready():
        text = log.read_text()[-2000:] if log else ""
        assert server.poll() is None, text
        assert time.monotonic() < deadline, text
        time.sleep(0.3)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
