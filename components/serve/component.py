"""The Kubeflow component around the deployment step."""

from typing import Any

from kfp import dsl


@dsl.component(base_image="cxrflow-serve:latest", install_kfp_package=False)
def deploy(
    root: str,
    config: dict[str, Any],
    manifest: dsl.Input[dsl.Dataset],
    bundle: dsl.Input[dsl.Model],
    evaluation: dsl.Input[dsl.Artifact],
) -> str:
    """Start a server with the model, check its answers against evaluation's, and put the model into service.

    Args:
        root: Local folder or gs:// prefix for everything that is made.
        config: Section `serve` of the configuration.
        manifest: Points at the data set.
        bundle: Points at the trained model.
        evaluation: Points at report and decision.
    """
    from components.cxr.shards import load_manifest
    from components.cxr.storage.storage import Root
    from components.cxr.tracking.artifacts import clean_exit, pointed
    from components.serve.config import ServeConfig
    from components.serve.deploy import deploy

    with clean_exit():
        step = ServeConfig.parse(config, where="serve")
        deployed = deploy(
            step,
            root=Root(root),
            bundle=pointed(bundle),
            evaluation=pointed(evaluation),
            manifest=load_manifest(pointed(manifest)),
        )
    return deployed.bundle_hash
