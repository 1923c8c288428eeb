"""What the compiled pipeline means, read from its YAML."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from kfp import dsl

from pipeline.compile import compile_pipeline
from pipeline.config import CONFIGS, load_pipeline_config

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    file = tmp_path_factory.mktemp("compiled") / "cxr_pipeline.yaml"
    overrides = ["platform.partitions=3", "platform.images.train=registry/cxrflow-train@sha256:1"]
    compile_pipeline(load_pipeline_config(CONFIGS / "demo.yaml", overrides), file)
    return yaml.safe_load(file.read_text())


def test_parameters_are_root_and_a_dict_a_section(compiled: dict[str, Any]) -> None:
    parameters = compiled["root"]["inputDefinitions"]["parameters"]
    assert {name: value["parameterType"] for name, value in parameters.items()} == {
        "root": "STRING",
        **dict.fromkeys(("data", "preprocess", "train", "evaluate", "serve"), "STRUCT"),
    }
    assert all(value["description"] for value in parameters.values()), "KFP's form shows their docs"


def test_the_parameters_defaults_are_the_configuration(compiled: dict[str, Any]) -> None:
    parameters = compiled["root"]["inputDefinitions"]["parameters"]
    config = load_pipeline_config(CONFIGS / "demo.yaml")
    assert {name: value["defaultValue"] for name, value in parameters.items()} == config.arguments


def test_steps_follow_each_other(compiled: dict[str, Any]) -> None:
    tasks = compiled["root"]["dag"]["tasks"]
    loop = next(task for task in tasks.values() if "parameterIterator" in task)
    assert loop["parameterIterator"]["items"]["raw"].replace(" ", "") == "[0,1,2]"
    order = {name: set(task.get("dependentTasks", [])) for name, task in tasks.items()}
    loop_name = next(name for name, task in tasks.items() if task is loop)
    condition_name = next(name for name, task in tasks.items() if "triggerPolicy" in task)
    assert loop_name in order["collect"]
    assert "collect" in order["train"]
    assert "train" in order["evaluate"]
    assert "evaluate" in order[condition_name]


def test_each_step_gets_its_own_section_and_the_results_before_it(compiled: dict[str, Any]) -> None:
    found: dict[str, dict[str, str]] = {}
    for dag in [compiled["root"]["dag"], *(part["dag"] for part in compiled["components"].values() if "dag" in part)]:
        for name, task in dag["tasks"].items():
            inputs = task.get("inputs", {})
            given = {
                key: str(
                    value.get("componentInputParameter")
                    or value.get("runtimeValue", {}).get("constant")
                    or value.get("taskOutputParameter", {}).get("producerTask")
                )
                for key, value in inputs.get("parameters", {}).items()
            }
            given |= {
                key: str(value.get("componentInputArtifact") or value["taskOutputArtifact"]["producerTask"])
                for key, value in inputs.get("artifacts", {}).items()
            }
            found[name] = {key: value.removeprefix("pipelinechannel--") for key, value in given.items()}
    loop = next(name for name in found if name.startswith("for-loop"))
    source = {"root": "root", "data": "data", "config": "preprocess"}
    results = {"manifest": "collect", "bundle": "train"}
    assert found["preprocess"] == source | {"partition": "loop-item-param-1", "num_partitions": "3.0"}
    assert found["collect"] == source | {"partitions": loop}
    this_run = {"pipeline_run": dsl.PIPELINE_JOB_ID_PLACEHOLDER}
    assert found["train"] == {"root": "root", "config": "train", "manifest": "collect", **this_run}
    assert found["evaluate"] == {"root": "root", "config": "evaluate", **results, **this_run}
    assert found["deploy"] == {
        "root": "root", "config": "serve", "manifest": "collect-manifest", "bundle": "train-bundle",
        "evaluation": "evaluate-evaluation",
    }  # fmt: skip


def test_deploy_happens_only_if_promoted(compiled: dict[str, Any]) -> None:
    tasks = compiled["root"]["dag"]["tasks"]
    condition = next(task for task in tasks.values() if "triggerPolicy" in task)
    assert (
        condition["triggerPolicy"]["condition"] == "inputs.parameter_values['pipelinechannel--evaluate-Output'] == true"
    )
    inner = compiled["components"][condition["componentRef"]["name"]]["dag"]["tasks"]
    assert list(inner) == ["deploy"]
    assert "deploy" not in tasks


def test_images_are_the_steps_own_and_nothing_is_installed_at_run_time(compiled: dict[str, Any]) -> None:
    containers = {
        name.removeprefix("exec-"): executor["container"]
        for name, executor in compiled["deploymentSpec"]["executors"].items()
    }
    assert {name: container["image"] for name, container in containers.items()} == {
        "preprocess": "cxrflow-preprocess:latest",
        "collect": "cxrflow-preprocess:latest",
        "train": "registry/cxrflow-train@sha256:1",
        "evaluate": "cxrflow-evaluate:latest",
        "deploy": "cxrflow-serve:latest",
    }
    assert not any("pip install" in " ".join(container["command"]) for container in containers.values())


def test_kfps_cache_is_off_everywhere(compiled: dict[str, Any]) -> None:
    dags = [compiled["root"]["dag"], *(c["dag"] for c in compiled["components"].values() if "dag" in c)]
    steps = [task for dag in dags for task in dag["tasks"].values() if "iterat" not in str(task.keys()).lower()]
    leaves = [task for task in steps if "dag" not in compiled["components"][task["componentRef"]["name"]]]
    assert len(leaves) == 5
    assert not any(task.get("cachingOptions", {}).get("enableCache") for task in leaves)


def test_the_file_compiles_as_a_script_from_anywhere(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(REPOSITORY / "pipeline" / "compile.py"), "--set", "platform.partitions=2", "-o", "x.yaml"],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "kfp run create" in done.stdout
    pipeline, platform = yaml.safe_load_all((tmp_path / "x.yaml").read_text())
    assert pipeline["pipelineInfo"]["name"] == "cxrflow"
    assert list(platform["platforms"]) == ["kubernetes"]
