"""The benchmark of bodies sends them to real servers, all of whose bytes are taken, and prints what its line says."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from benchmarks import serve_bodies


@pytest.mark.slow
def test_it_prints_a_row_for_each_and_one_line_of_json(capsys: pytest.CaptureFixture[str]) -> None:
    serve_bodies.main(megabytes=4, requests=3, clients=2, each=2, turns=1)
    *table, line = capsys.readouterr().out.splitlines()
    found = json.loads(line)
    assert found["bytes"] == 4_000_000
    assert {serve_bodies.SOCKET, serve_bodies.AS_IT_COMES, serve_bodies.OURS} <= found["takers"].keys()
    for row, (name, numbers) in zip(table[1:], found["takers"].items(), strict=True):
        assert row.startswith(name)
        assert [float(cell) for cell in row.removeprefix(name).split()] == list(numbers.values())
        assert min(numbers.values()) > 0


def test_a_servers_processor_time_is_that_of_all_its_threads() -> None:
    program = """
import sys, threading, time
def work():
    end = time.thread_time() + 0.3
    while time.thread_time() < end:
        pass
for _ in range(2):
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
print("done", flush=True)
sys.stdin.read()
"""
    command = [sys.executable, "-S", "-c", program]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert 0.6 <= serve_bodies._processor_seconds(process.pid) < 1.5
        assert process.stdin is not None
        process.stdin.close()
