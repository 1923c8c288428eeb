"""The Kubeflow component around the training step."""

from typing import Any

from kfp import dsl


@dsl.component(base_image="cxrflow-train:latest", install_kfp_package=False)
def train(
    root: str,
    config: dict[str, Any],
    manifest: dsl.Input[dsl.Dataset],
    bundle: dsl.Output[dsl.Model],
    pipeline_run: str = "",
) -> None:
    """Train a model on the data set that `manifest` points at.

    Args:
        root: Local folder or gs:// prefix for everything that is made.
        config: Section `train` of the configuration.
        manifest: Points at the data set.
        bundle: Points at the trained model.
        pipeline_run: Id of the pipeline's run, for MLflow.
    """
    from components.cxr.storage.storage import Root
    from components.cxr.tracking.artifacts import clean_exit, point, pointed
    from components.train.config import TrainConfig
    from components.train.launch import launch

    with clean_exit(pipeline_run):
        step = TrainConfig.parse(config, where="train")
        point(bundle, launch(step, root=Root(root), manifest=pointed(manifest)))
