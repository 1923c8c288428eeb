"""The Kubeflow component around the evaluation step."""

from typing import Any

from kfp import dsl


@dsl.component(base_image="cxrflow-evaluate:latest", install_kfp_package=False)
def evaluate(
    root: str,
    config: dict[str, Any],
    manifest: dsl.Input[dsl.Dataset],
    bundle: dsl.Input[dsl.Model],
    evaluation: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
    curve: dsl.Output[dsl.ClassificationMetrics],
    page: dsl.Output[dsl.HTML],
    pipeline_run: str = "",
) -> bool:
    """Score the model, compare it with the deployed one, and say whether it should replace it.

    Args:
        root: Local folder or gs:// prefix for everything that is made.
        config: Section `evaluate` of the configuration.
        manifest: Points at the data set.
        bundle: Points at the trained model.
        evaluation: Points at report, predictions and decision.
        metrics: Mean and per-pathology AUROC for KFP's UI.
        curve: ROC curve and confusion matrix over all pathologies for KFP's UI.
        page: Decision, table and figures for KFP's UI.
        pipeline_run: Id of the pipeline's run, for MLflow.
    """
    from pathlib import Path

    from components.cxr.report import load_predictions
    from components.cxr.shards import load_manifest
    from components.cxr.storage.storage import Root
    from components.cxr.tracking.artifacts import clean_exit, point, pointed
    from components.evaluate.config import EvaluateConfig
    from components.evaluate.evaluate import run
    from components.evaluate.page import page as drawn
    from components.evaluate.pooled import CATEGORIES, pooled

    with clean_exit(pipeline_run):
        step = EvaluateConfig.parse(config, where="evaluate")
        where, loaded = Root(root), load_manifest(pointed(manifest))
        report, decision, storage = run(step, root=where, manifest=loaded, bundle=pointed(bundle))
        point(evaluation, storage, bundle_hash=report.bundle_hash, reason=decision.reason)
        scores = {name: score.auroc for name, score in report.headline.pathologies.items()}
        for name, auroc in {"mean AUROC": report.headline.mean.auroc, **scores}.items():
            if auroc is not None:
                metrics.log_metric(name, auroc)
        predictions = load_predictions(storage)
        found = pooled(report, predictions)
        curve.log_roc_curve(found.false_rates, found.true_rates, found.thresholds)
        curve.log_confusion_matrix(list(CATEGORIES), found.confusion)
        Path(page.path).parent.mkdir(parents=True, exist_ok=True)
        Path(page.path).write_text(drawn(report, decision, predictions), encoding="utf-8")
    return decision.promoted
