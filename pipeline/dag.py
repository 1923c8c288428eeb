"""The pipeline as one story: films and reports in, a deployed classifier out."""

from typing import Any

from kfp import dsl
from kfp.dsl.graph_component import GraphComponent

from components.evaluate.component import evaluate as evaluate_step
from components.preprocess.component import collect as collect_step
from components.preprocess.component import preprocess as preprocess_step
from components.serve.component import deploy as deploy_step
from components.train.component import train as train_step
from pipeline.config import Platform
from pipeline.placement import place

__all__ = ["build"]


def build(platform: Platform) -> GraphComponent:
    """The pipeline for one platform: what is compiled is what runs locally."""

    @dsl.pipeline(name="cxrflow", display_name="cxrflow")
    def cxrflow(
        root: str,
        data: dict[str, Any],
        preprocess: dict[str, Any],
        train: dict[str, Any],
        evaluate: dict[str, Any],
        serve: dict[str, Any],
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
        source = {"root": root, "data": data, "config": preprocess}
        with dsl.ParallelFor(list(range(platform.partitions)), name="partitions") as partition:
            part = preprocess_step(**source, partition=partition, num_partitions=platform.partitions)
            place(part, platform, image="preprocess", title="Preprocess films and reports")

        collected = collect_step(**source, partitions=dsl.Collected(part.output))
        place(collected, platform, image="preprocess", title="Collect the manifest")
        manifest = collected.outputs["manifest"]

        trained = train_step(root=root, config=train, manifest=manifest)
        place(trained, platform, image="train", title="Train")
        bundle = trained.outputs["bundle"]

        evaluated = evaluate_step(root=root, config=evaluate, manifest=manifest, bundle=bundle)
        place(evaluated, platform, image="evaluate", title="Evaluate and decide")

        with dsl.If(evaluated.outputs["Output"] == True, name="promoted"):  # noqa: E712 - becomes a KFP condition
            evaluation = evaluated.outputs["evaluation"]
            deployed = deploy_step(root=root, config=serve, manifest=manifest, bundle=bundle, evaluation=evaluation)
            place(deployed, platform, image="serve", title="Check and deploy")

    return cxrflow
