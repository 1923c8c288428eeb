"""Runs pytest again and again in forks of one process that has the large libraries loaded, which saves 15 s each time.

A script, not a module: it must know nothing of `tests`, `components` and `pipeline`, so that every fork imports them
from its own copy of the source. It has one thread when it forks; libraries start others only when they are used.

Reads a line of JSON per run on stdin (top, arguments, environment, log, limit) and answers with one (code; null if over
the limit).
"""

import contextlib
import importlib
import json
import os
import signal
import sys
import time
import traceback
from pathlib import Path

LIBRARIES = (
    "cv2", "kfp.compiler", "mlflow.pyfunc", "mlflow.store.tracking.sqlalchemy_store", "pydicom", "pytest",
    "scipy.optimize", "sklearn.metrics", "torch", "transformers.models.bert.modeling_bert",
    "transformers.models.resnet.modeling_resnet",
)  # fmt: skip
FORK_SAFE = ("jemalloc_bg_thd", "polars-ooc-clea")
"""Arrow's allocator has a thread from its import on, which it ends and starts around a fork. MLflow loads Polars
where it is installed, whose thread sleeps until there are files of its own to delete."""
OURS = ("components", "pipeline", "tests")


def main() -> None:
    """Load what the command line names, then fork for every line."""
    del sys.path[0]  # this folder
    sys.modules["polars"] = None  # type: ignore[assignment]  # it starts threads at its import; mlflow goes without
    for name in sys.argv[1:]:
        importlib.import_module(name)
    del sys.modules["polars"]
    threads = [(task / "comm").read_text().strip() for task in Path("/proc/self/task").iterdir()]
    if len([name for name in threads if name not in FORK_SAFE]) != 1:
        sys.exit(f"threads before the first fork: {', '.join(threads)}")
    if known := [name for name in sys.modules if name.partition(".")[0] in OURS]:
        sys.exit(f"loaded before the first fork: {', '.join(known)}")
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps({"code": _fork(**json.loads(line))}), flush=True)


def _fork(*, top: str, arguments: list[str], environment: dict[str, str], log: str, limit: float) -> int | None:
    pid = os.fork()
    if pid == 0:
        os.setsid()
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for number in (1, 2):
            os.dup2(output, number)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.chdir(top)
        os.environ.update(environment)
        sys.path.insert(0, top)
        sys.argv = ["pytest", *arguments]
        code = 3
        try:
            import pytest

            code = int(pytest.main(arguments))
        except BaseException:
            traceback.print_exc()
            raise
        finally:
            sys.stdout.flush()
            os._exit(code)
    deadline, parent = time.monotonic() + limit, os.getppid()
    code = None
    while time.monotonic() < deadline and os.getppid() == parent:  # a killed parent leaves no test behind
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            code = os.waitstatus_to_exitcode(status)
            break
        time.sleep(0.02)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)  # with what the tests left running
    if code is None:
        os.waitpid(pid, 0)
    return code


if __name__ == "__main__":
    main()
