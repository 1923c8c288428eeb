"""`python -m pipeline.slurm.prepare RUN JOB`: what a job is to run, from what the jobs before it left.

A job begins with it. Values are read and conditions asked by the code with which KFP's local runner does so; the result
is `command.sh` in the job's folder, or `skipped` where a condition does not hold.
"""

from __future__ import annotations

import json
import os
import shlex
import socket
import sys
from pathlib import Path
from typing import Any

from google.protobuf import json_format

from components.train.config import TrainConfig
from pipeline.config import Platform
from pipeline.slurm.plan import Job, Plan, load_plan

__all__ = ["COMMAND", "PLATFORM", "SKIPPED", "prepare"]

COMMAND, SKIPPED, PLATFORM = "command.sh", "skipped", "platform.json"
INPUT, COMPONENT = "executor_input.json", "component.py"


def prepare(run: Path, name: str, *, element: int | None = None) -> None:
    """Write `command.sh` or `skipped` into a job's folder.

    Args:
        run: the run's folder.
        element: of the job's array.
    """
    from kfp.local import executor_input_utils, placeholder_utils

    plan = load_plan(run)
    job = plan.job(name)
    folder = job.folders(run)[element or 0]
    folder.mkdir(exist_ok=True)
    found = _arguments(plan, job, run, element)
    if found is None:
        (folder / SKIPPED).touch()
        print(f"slurm: nothing to do for {name}, its condition does not hold", flush=True)
        return
    component, arguments = found
    given = executor_input_utils.construct_executor_input(component, arguments, str(folder), block_input_artifact=False)
    (folder / INPUT).write_text(json_format.MessageToJson(given))
    container = plan.spec.deployment_spec["executors"][component.executor_label]["container"]
    command = placeholder_utils.replace_placeholders(
        full_command=list(container["args"]),
        executor_input_dict=executor_input_utils.executor_input_to_dict(given, component),
        pipeline_resource_name=run.name,
        task_resource_name=name,
        pipeline_root=str(run),
        unique_pipeline_id=run.name,
    )
    (folder / COMPONENT).write_text(container["command"][-1])
    words = ["-m", "kfp.dsl.executor_main", "--component_module_path", str(folder / COMPONENT), *command]
    platform = Platform.parse(json.loads((run / PLATFORM).read_text()), where="platform")
    nodes = TrainConfig.parse(arguments["config"], where="train") if name == "train" else TrainConfig()
    (folder / COMMAND).write_text(_script(platform, job, words, nodes))


def _script(platform: Platform, job: Job, words: list[str], train: TrainConfig) -> str:
    """One node's part of a job, to be run by bash; the nodes of a training meet at the first one."""
    python = shlex.quote(sys.executable)
    if platform.slurm.container is not None:
        python = f"{platform.slurm.container_of(job.step)} python"
    torchrun = ""
    if train.num_nodes > 1:
        with socket.create_server(("", 0)) as free:
            port = free.getsockname()[1]
        torchrun = (
            f" -m components.train.torchrun --nnodes={train.num_nodes} --nproc-per-node={train.num_processes}"
            f' --node-rank="$SLURM_NODEID" --master-addr="$SLURM_LAUNCH_NODE_IPADDR" --master-port={port}'
        )
    return f"export _KFP_RUNTIME=true\nexec {python}{torchrun} {shlex.join(words)}\n"


def _arguments(plan: Plan, job: Job, run: Path, element: int | None) -> tuple[Any, dict[str, Any]] | None:
    """A job's component and its arguments; None where a condition on the way to it does not hold."""
    from kfp.local.io import IOStore
    from kfp.local.orchestrator.enhanced_dag_orchestrator import ConditionEvaluator
    from kfp.local.orchestrator.orchestrator_utils import OrchestratorUtils

    dag, store = plan.spec.root.dag, IOStore()
    known = OrchestratorUtils.join_user_inputs_and_defaults({}, plan.spec.root.input_definitions)
    component = None
    for name in job.path:
        for key, value in known.items():
            store.put_parent_input(key, value)
        task = dag.tasks[name]
        for other in task.dependent_tasks:
            for key, value in _outputs(
                plan, plan.spec.components[dag.tasks[other].component_ref.name], other, run
            ).items():
                store.put_task_output(other, key, value)
        if not ConditionEvaluator.evaluate_condition(task.trigger_policy.condition, store):
            return None
        known = OrchestratorUtils.make_task_arguments(task.inputs, store)
        if task.parameter_iterator.item_input:
            assert element is not None, "a loop is an array"
            known[task.parameter_iterator.item_input] = json.loads(task.parameter_iterator.items.raw)[element]
        component = plan.spec.components[task.component_ref.name]
        dag, store = component.dag, IOStore(store)
    return component, known


def _outputs(plan: Plan, component: Any, name: str, run: Path) -> dict[str, Any]:
    """What a task left; of a loop a list of what its elements left."""
    from kfp.local import executor_output_utils
    from kfp.pipeline_spec import pipeline_spec_pb2

    if component.WhichOneof("implementation") != "dag":
        left = []
        for folder in plan.job(name).folders(run):
            given = pipeline_spec_pb2.ExecutorInput()
            json_format.Parse((folder / INPUT).read_text(), given)
            left.append(executor_output_utils.get_outputs_for_task(given, component))
        return left[0] if plan.job(name).copies is None else {key: [each[key] for each in left] for key in left[0]}
    outputs = {}
    for key, selected in component.dag.outputs.parameters.items():
        inner = selected.value_from_parameter
        producer = plan.spec.components[component.dag.tasks[inner.producer_subtask].component_ref.name]
        outputs[key] = _outputs(plan, producer, inner.producer_subtask, run)[inner.output_parameter_key]
    return outputs


if __name__ == "__main__":
    index = os.environ.get("SLURM_ARRAY_TASK_ID")
    prepare(Path(sys.argv[1]), sys.argv[2], element=None if index is None else int(index))
