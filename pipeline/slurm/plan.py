"""The compiled pipeline as a list of jobs: a loop becomes an array, a condition is asked by the job that it guards."""

from __future__ import annotations

import graphlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.config import ImageName

__all__ = ["PIPELINE", "Job", "Plan", "load_plan"]

PIPELINE = "pipeline.yaml"
"""The compiled pipeline in a run's folder."""
STEPS: dict[str, ImageName] = {
    "preprocess": "preprocess",
    "collect": "preprocess",
    "train": "train",
    "evaluate": "evaluate",
    "deploy": "serve",
    "study": "preprocess",
    "workers": "train",
}
"""Whose part of `platform` a task takes, the two of a sweep included."""


class Job(NamedTuple):
    """One task of the pipeline, or of a sweep."""

    name: str
    path: tuple[str, ...]
    """The tasks of the pipeline that lead to it: loops and conditions, then itself; empty for a sweep's."""
    after: tuple[str, ...]
    """Jobs that must have succeeded before."""
    copies: int | None
    """Elements of its array; None for a single job."""

    @property
    def step(self) -> ImageName:
        """Whose image and part of `platform` it takes."""
        return STEPS[self.name]

    def folders(self, run: Path) -> list[Path]:
        """Where its elements keep what they are given and what they leave."""
        return [run / self.name] if self.copies is None else [run / f"{self.name}-{i}" for i in range(self.copies)]


class Plan(NamedTuple):
    """A compiled pipeline."""

    spec: Any
    """KFP's PipelineSpec."""
    jobs: tuple[Job, ...]
    """Each after those that it waits for."""

    def job(self, name: str) -> Job:
        """The job of that name."""
        return next(job for job in self.jobs if job.name == name)


def load_plan(run: Path) -> Plan:
    """The plan of a run's folder."""
    from kfp import components

    spec = components.load_component_from_file(str(run / PIPELINE)).pipeline_spec
    return Plan(spec, tuple(_jobs(spec, spec.root.dag)))


def _jobs(
    spec: Any, dag: Any, path: tuple[str, ...] = (), after: tuple[str, ...] = (), copies: int | None = None
) -> Iterator[Job]:
    made: dict[str, tuple[Job, ...]] = {}
    for name in graphlib.TopologicalSorter(
        {name: set(dag.tasks[name].dependent_tasks) for name in sorted(dag.tasks)}
    ).static_order():
        task = dag.tasks[name]
        component = spec.components[task.component_ref.name]
        before = after + tuple(job.name for other in sorted(task.dependent_tasks) for job in made[other])
        if component.WhichOneof("implementation") == "dag":
            items = json.loads(task.parameter_iterator.items.raw or "null")
            number = copies if items is None else len(items)
            made[name] = tuple(_jobs(spec, component.dag, (*path, name), before, number))
        else:
            made[name] = (Job(name, (*path, name), before, copies),)
        yield from made[name]
