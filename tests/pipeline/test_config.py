from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, get_args

import pytest
import yaml
from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from components.cxr.config import Config
from components.cxr.errors import UserError
from components.evaluate.config import EvaluateConfig
from components.preprocess.config import DataConfig, PreprocessConfig
from components.serve.config import ServeConfig
from components.train.config import TrainConfig
from pipeline.config import CONFIGS, Platform, load_pipeline_config


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.name)
def test_every_shipped_configuration_is_valid(path: Path) -> None:
    config = load_pipeline_config(path)
    assert config.root
    assert set(config.arguments) == {"root", "data", "preprocess", "train", "evaluate", "serve"}


def test_arguments_hold_nothing_that_kfp_refuses() -> None:
    def values(node: object) -> list[object]:
        if isinstance(node, dict):
            return [leaf for child in node.values() for leaf in values(child)]
        if isinstance(node, list):
            return [leaf for child in node for leaf in values(child)]
        return [node]

    for path in CONFIGS.glob("*.yaml"):
        for value in values(load_pipeline_config(path).arguments):
            assert isinstance(value, str | int | float | bool), value


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.epoch=3", r"unknown configuration field: train\.epoch; .*Did you mean epochs\?"),
        ("train.epochs=many", r"bad configuration value: train\.epochs; found 'many', expected a valid integer"),
        ("train.augment.noise=-1", r"train\.augment\.noise; found -1"),
        ("trian.epochs=3", r"unknown section: --set trian\.epochs; .*Did you mean train\?"),
        ("train.timeout_s=.inf", r"train\.timeout_s; found inf, expected a finite number"),
        ("data.adapter=mimic", r"data.*mimic-cxr"),
        ("platform.partitions=0", r"platform\.partitions; found 0"),
        ("root=", r"no place to keep results: .*root"),
        ("train.epochs", r"bad override: --set train\.epochs; expected section\.field=value"),
    ],
)
def test_a_typo_is_one_error_with_its_dotted_path(override: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        load_pipeline_config(CONFIGS / "demo.yaml", [override])
    assert "\n" not in str(error.value)


def test_a_limit_of_time_is_what_is_written() -> None:
    for time in ("12:00:00", "30:00", "90", "1-00:00:00"):
        found = load_pipeline_config(CONFIGS / "demo.yaml", [f"platform.slurm.time={time}"])
        assert found.platform.slurm.time == time


SECTIONS = [TrainConfig, EvaluateConfig, ServeConfig, PreprocessConfig, *get_args(get_args(DataConfig)[0])]


def test_null_is_the_default_wherever_it_may_stand() -> None:
    """It is not sent through KFP, so that it would come back as the default."""
    assert len(SECTIONS) == 9
    for config in SECTIONS:
        for name, field in fields_of(config):
            if type(None) in get_args(field.annotation):
                assert field.is_required() or field.get_default(call_default_factory=True) is None, name


def test_every_number_is_finite() -> None:
    """JSON has no other, so that a step would get null, which is the default."""
    numbers = []
    for config in (*SECTIONS, Platform):
        for name, field in fields_of(config):
            if float in (field.annotation, *get_args(field.annotation)):
                numbers.append(name)
                number = TypeAdapter(Annotated[field.annotation, field], config=config.model_config)
                with pytest.raises(ValidationError):
                    number.validate_python(math.inf)
    assert {"timeout_s", "cluster.rollout_timeout_s", "learning_rate", "retries.factor"} <= set(numbers)


def fields_of(config: type[Config], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    for name, field in config.model_fields.items():
        yield prefix + name, field
        for each in (field.annotation, *get_args(field.annotation)):
            if isinstance(each, type) and issubclass(each, Config):
                yield from fields_of(each, f"{prefix}{name}.")


def test_platform_names_the_image_of_each_step() -> None:
    platform = Platform.parse({"images": {"serve": "hospital/serve@sha256:2"}}, where="platform")
    assert platform.image_of("serve") == "hospital/serve@sha256:2"
    assert platform.image_of("train") == "cxrflow-train:latest"


@pytest.mark.parametrize(
    ("text", "message"),
    [("a: [", "configuration is not valid YAML"), ("- 1", "configuration is not a mapping"), (None, "cannot read")],
)
def test_an_unreadable_file_is_one_line_and_a_code(text: str | None, message: str, tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    if text is not None:
        file.write_text(text)
    command = [sys.executable, "-m", "pipeline", "run", "--config", str(file)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {message}")
    assert str(file) in done.stderr
    assert done.stderr.count("\n") == 1


def test_yaml_and_overrides_give_the_same_configuration(tmp_path: Path) -> None:
    values = yaml.safe_load((CONFIGS / "demo.yaml").read_text())
    values["train"]["epochs"] = 3
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(values))
    assert load_pipeline_config(file) == load_pipeline_config(CONFIGS / "demo.yaml", ["train.epochs=3"])
