"""The command line: what it prints, its exit codes, and one clean line for every mistake."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any, Protocol

import pytest
import typer
import yaml

from components.cxr.cli import Terminated, clean_errors
from components.cxr.storage.atomic import renamed_to
from tests.components.preprocess.steps import command


class Mimic(Protocol):
    dir: Path

    def values(self, **preprocess: Any) -> dict[str, dict[str, Any]]: ...


@pytest.fixture
def config(mimic: Mimic, tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(mimic.values() | {"root": str(tmp_path / "root")}))
    return path


def test_whole_step_prints_a_summary(config: Path, tmp_path: Path) -> None:
    code, out, _ = command("--config", config)
    assert code == 0
    table = [line.split() for line in out.splitlines()]
    assert table[0] == ["split", "patients", "studies", "images", "labeled"]
    assert [row[0] for row in table[1:4]] == ["train", "validate", "test"]
    assert sum(int(row[3]) for row in table[1:4]) == 18
    assert "rejected films: none" in out
    assert f"manifest: {tmp_path}/root/data/" in out
    assert "CXRFLOW_ID_KEY" in out


def test_partitions_then_collect(config: Path, tmp_path: Path) -> None:
    for i in (1, 0):
        assert command("--config", config, "--partition", i, "--num-partitions", 2)[0] == 0
    assert not list((tmp_path / "root" / "data").rglob("manifest.json"))
    code, out, _ = command("--config", config, "--collect-only")
    assert code == 0
    assert "manifest: " in out


def test_root_and_set_override(config: Path, tmp_path: Path) -> None:
    code, out, _ = command("--config", config, "--root", tmp_path / "other", "--set", "preprocess.pixels.size=16")
    assert code == 0
    assert f"{tmp_path}/other/data/" in out
    assert not (tmp_path / "root").exists()


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (
            ["--set", "preprocess.pixel.size=3"],
            ["unknown configuration field", "preprocess.pixel", "Did you mean pixels?"],
        ),
        (["--set", "preprocess.pixels.size=3"], ["bad configuration value", "preprocess.pixels.size", "found 3", "16"]),
        (["--set", "data.labels=chexbert"], ["data.labels", "'chexbert'", "'chexpert' or 'negbio'"]),
        (["--set", "data.adapter=dimse"], ["data.adapter", "found dimse", "dicom-folder or dicomweb"]),
        (["--set", "data.dirr=x"], ["data.dirr", "Did you mean dir?"]),
        (["--set", "prepocess.x=1"], ["unknown section", "Did you mean preprocess?"]),
        (["--set", "data.dir=/nowhere"], ["folder is missing or empty: /nowhere"]),
        (["--root", "s3://x"], ["unsupported storage: s3://x"]),
        (["--set", "root=null"], ["no place to keep results", "--root"]),
        (["--partition", "1"], ["no such partition", "found 1", "0 to 0"]),
        (["--partition", "0", "--collect-only"], ["options exclude each other"]),
        (["--collect-only"], ["shards are missing", "found 0 of"]),
    ],
)
def test_each_mistake_is_one_line(config: Path, tmp_path: Path, arguments: list[str], parts: list[str]) -> None:
    code, out, err = command("--config", config, *arguments)
    assert code == 2
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    for part in parts:
        assert part in err
    assert not out
    assert not list(tmp_path.rglob("manifest.json"))


def test_no_traceback_from_the_real_command(tmp_path: Path) -> None:
    call = [sys.executable, "-m", "components.preprocess", "--config", str(tmp_path / "none.yaml")]
    result = subprocess.run(call, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    found = "found No such file or directory. Check --config."
    assert (
        result.stderr == f"error: cannot read the configuration: {tmp_path}/none.yaml; {found}  [unreadable-config]\n"
    )


def test_missing_bucket_is_one_line(config: Path, gcs_server: str) -> None:
    assert gcs_server
    code, _, err = command("--config", config, "--set", "data.dir=gs://no-such-bucket/mimic")
    assert code == 2
    assert err.startswith("error: Google Cloud Storage answered 404 NotFound")


def test_interrupt_is_130(capsys: pytest.CaptureFixture[str]) -> None:
    @clean_errors
    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(typer.Exit) as caught:
        interrupted()
    assert caught.value.exit_code == 130
    assert capsys.readouterr().err == "error: interrupted; run the same command again to continue\n"


@pytest.mark.parametrize("stop", [KeyboardInterrupt, Terminated])
def test_what_an_interrupted_removal_left_is_removed(
    stop: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @clean_errors
    def interrupted() -> None:
        with monkeypatch.context() as patch, renamed_to(tmp_path / "one"):
            patch.setattr(Path, "unlink", lambda *_, **__: (_ for _ in ()).throw(stop))

    with pytest.raises(typer.Exit):
        interrupted()
    assert not list(tmp_path.iterdir())
