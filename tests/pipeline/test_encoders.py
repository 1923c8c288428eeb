"""A whole run says before preprocess what its encoders cannot take."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from transformers import AutoConfig
from typer import Typer
from typer.testing import CliRunner

from components.cxr.errors import UserError
from pipeline import compile
from pipeline.__main__ import app
from pipeline.config import CONFIGS, load_pipeline_config
from pipeline.encoders import check_encoders

TINY = "{hidden_size: 32, num_hidden_layers: 1, num_attention_heads: 2, intermediate_size: 32, patch_size: 14}"
VIT = f"train.architecture.vision={{model_type: vit, config: {TINY}}}"
BAD_SIZE = r"preprocess\.pixels\.size; found 64, expected a multiple of 14, such as 56 or 70"


@pytest.mark.parametrize("here", [True, False])
def test_a_size_that_patches_do_not_divide_is_refused(here: bool) -> None:
    config = load_pipeline_config(CONFIGS / "demo.yaml", [VIT])
    with pytest.raises(UserError, match=BAD_SIZE) as error:
        check_encoders(config, here=here)
    assert error.value.code == "bad-film-size"
    check_encoders(load_pipeline_config(CONFIGS / "demo.yaml", [VIT, "preprocess.pixels.size=70"]), here=here)


def test_texts_longer_than_the_positions_are_refused() -> None:
    config = load_pipeline_config(CONFIGS / "demo.yaml", ["train.architecture.max_tokens=129"])
    with pytest.raises(UserError, match=r"max_tokens; found 129, expected at most 128"):
        check_encoders(config, here=False)


def test_positions_count_whatever_their_type_calls_them() -> None:
    text = "train.architecture.text={model_type: gpt2, config: {n_positions: 20}}"
    with pytest.raises(UserError, match=r"max_tokens; found 24, expected at most 20"):
        check_encoders(
            load_pipeline_config(CONFIGS / "demo.yaml", [text, "train.architecture.max_tokens=24"]), here=False
        )


def test_weights_of_a_folder_are_looked_at_and_those_elsewhere_by_who_sees_them(tmp_path: Path) -> None:
    AutoConfig.for_model("dinov2", patch_size=14, hidden_size=32).save_pretrained(tmp_path)

    def config(source: str) -> object:
        vision = f"train.architecture.vision={{model_type: resnet, pretrained: '{source}'}}"
        return load_pipeline_config(CONFIGS / "demo.yaml", [vision])

    for here in (True, False):
        with pytest.raises(UserError, match=BAD_SIZE):
            check_encoders(config(str(tmp_path)), here=here)
    inside = str(tmp_path / "of the containers")
    check_encoders(config(inside), here=False)
    with pytest.raises(UserError, match="no pretrained weights there"):
        check_encoders(config(inside), here=True)


def test_the_default_encoders_need_no_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "components.train.pretrained", None)  # any import of it is an ImportError
    check_encoders(load_pipeline_config(CONFIGS / "demo.yaml"), here=True)
    check_encoders(load_pipeline_config(CONFIGS / "demo.yaml", [VIT]), here=False)


@pytest.mark.parametrize("command", ["run", "submit"])
def test_the_commands_say_it_before_they_read_anything(
    command: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    options = ["--endpoint", "http://127.0.0.1:1"] if command == "submit" else ["--log", str(tmp_path / "log")]
    places = [f"root={tmp_path}/root", f"data.dir={tmp_path}/no films"]
    line = [command, "--config", str(CONFIGS / "demo.yaml"), *options]
    done = CliRunner().invoke(app, [*line, *(word for value in (VIT, *places) for word in ("--set", value))])
    assert done.exit_code == 2
    said = done.output + "".join(capfd.readouterr())
    assert "expected a multiple of 14, such as 56 or 70" in said
    assert said.count("error") == 1
    assert list(tmp_path.iterdir()) == []


def test_compiling_says_it_too_and_writes_nothing(tmp_path: Path) -> None:
    compiler = Typer()
    compiler.command()(compile.main)
    options = ["--config", str(CONFIGS / "demo.yaml"), "--output", str(tmp_path / "pipeline.yaml")]
    done = CliRunner().invoke(compiler, [*options, "--set", VIT])
    assert isinstance(done.exception, UserError)
    assert done.exception.code == "bad-film-size"
    assert list(tmp_path.iterdir()) == []
