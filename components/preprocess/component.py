"""The Kubeflow components around the preprocessing step: one partition of the shards, and the manifest over all."""

from typing import Any

from kfp import dsl


@dsl.component(base_image="cxrflow-preprocess:latest", install_kfp_package=False)
def preprocess(root: str, data: dict[str, Any], config: dict[str, Any], partition: int, num_partitions: int) -> int:
    """Turn one partition of the films and reports into shards.

    Args:
        root: Local folder or gs:// prefix for everything that is made.
        data: Section `data` of the configuration.
        config: Section `preprocess` of the configuration.
        partition: This partition, from 0.
        num_partitions: Number of partitions.
    """
    from components.cxr.storage.storage import Root
    from components.cxr.tracking.artifacts import clean_exit
    from components.preprocess.config import PreprocessConfig, parse_data
    from components.preprocess.preprocess import run_partition

    with clean_exit():
        run_partition(
            parse_data(data),
            PreprocessConfig.parse(config, where="preprocess"),
            root=Root(root),
            partition=int(partition),
            num_partitions=int(num_partitions),
        )
    return partition


@dsl.component(base_image="cxrflow-preprocess:latest", install_kfp_package=False)
def collect(
    root: str, data: dict[str, Any], config: dict[str, Any], partitions: list[int], manifest: dsl.Output[dsl.Dataset]
) -> None:
    """Check that every shard is there and write the manifest.

    Args:
        root: Local folder or gs:// prefix for everything that is made.
        data: Section `data` of the configuration.
        config: Section `preprocess` of the configuration.
        partitions: Those that are done; waiting for them is the point.
        manifest: Points at the data set.
    """
    from components.cxr.storage.storage import Root
    from components.cxr.tracking.artifacts import clean_exit, point
    from components.preprocess.collect import collect
    from components.preprocess.config import PreprocessConfig, parse_data

    with clean_exit():
        step = PreprocessConfig.parse(config, where="preprocess")
        loaded = collect(parse_data(data), step, root=Root(root))
        images = sum(split.images for split in loaded.manifest.counts.values())
        point(manifest, loaded.storage, sha256=loaded.hash, images=images, rejects=loaded.manifest.num_rejects)
