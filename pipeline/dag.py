"""The pipeline as one story: films and reports in, a deployed classifier out."""

from functools import partial
from typing import Any

from kfp import dsl
from kfp.dsl.graph_component import GraphComponent

from components.evaluate.component import evaluate as evaluate_step
from components.preprocess.component import collect as collect_step
from components.preprocess.component import preprocess as preprocess_step
from components.serve.component import deploy as deploy_step
from components.train.component import train as train_step
from pipeline.config import PipelineConfig, Target
from pipeline.placement import place

__all__ = ["build"]


def build(config: PipelineConfig, target: Target | None) -> GraphComponent:
    """The pipeline of a configuration, whose arguments are its parameters' defaults: KFP's form shows them filled in.

    Args:
        target: None for a run on this machine.

    Raises:
        UserError: section `platform` asks for what the target cannot do.
    """
    partitions, default = config.platform.partitions, config.arguments
    at = partial(place, platform=config.platform, target=target)

    @dsl.pipeline(name="cxrflow", display_name="cxrflow")
    def cxrflow(
        root: str = default["root"],
        data: dict[str, Any] = default["data"],
        preprocess: dict[str, Any] = default["preprocess"],
        train: dict[str, Any] = default["train"],
        evaluate: dict[str, Any] = default["evaluate"],
        serve: dict[str, Any] = default["serve"],
    ) -> None:
        """Chest X-rays and reports in, a deployed classifier out.

        Args:
            root: Local folder or gs:// prefix for everything that is made.
            data: Where films, reports and labels are.
            preprocess: Pixels and shards.
            train: Model and learning.
            evaluate: Scores and the promotion policy.
            serve: The server and its check.
        """
        this_run = dsl.PIPELINE_JOB_ID_PLACEHOLDER
        source = {"root": root, "data": data, "config": preprocess}
        with dsl.ParallelFor(list(range(partitions)), name="partitions") as partition:
            part = preprocess_step(**source, partition=partition, num_partitions=partitions)
            at(part, step="preprocess", title="Preprocess films and reports")

        collected = collect_step(**source, partitions=dsl.Collected(part.output))
        at(collected, step="preprocess", title="Collect the manifest")
        manifest = collected.outputs["manifest"]

        trained = train_step(root=root, config=train, manifest=manifest, pipeline_run=this_run)
        at(trained, step="train", title="Train")
        bundle = trained.outputs["bundle"]

        evaluated = evaluate_step(root=root, config=evaluate, manifest=manifest, bundle=bundle, pipeline_run=this_run)
        at(evaluated, step="evaluate", title="Evaluate and decide")

        with dsl.If(evaluated.outputs["Output"] == True, name="promoted"):  # noqa: E712 - becomes a KFP condition
            evaluation = evaluated.outputs["evaluation"]
            deployed = deploy_step(root=root, config=serve, manifest=manifest, bundle=bundle, evaluation=evaluation)
            at(deployed, step="serve", title="Check and deploy")

    return cxrflow
