"""Where a task of the pipeline runs: its image and its name on the graph."""

from __future__ import annotations

from kfp.dsl import PipelineTask

from pipeline.config import ImageName, Platform

__all__ = ["place"]


def place(task: PipelineTask, platform: Platform, *, image: ImageName, title: str) -> None:
    """Set a task's image and title; KFP's cache stays off, content-keyed folders under `root` do its work."""
    task.set_display_name(title)
    task.set_container_image(platform.image_of(image))
    task.set_caching_options(False)
