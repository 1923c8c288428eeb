"""The model card of one evaluation: what the model is, how it was made, what it scores, and its limits."""

from __future__ import annotations

from components.cxr.bundle_info import BundleInfo, Description
from components.cxr.film_check import FilmCheck
from components.cxr.model.architecture import Architecture
from components.cxr.operating_points import OperatingPoints
from components.cxr.report import CONDITIONS, LOW_SUPPORT, Difference, Metric, Report, Score
from components.cxr.shards import SPLITS, Manifest
from components.evaluate.history_section import history_section
from components.evaluate.subgroup_section import subgroup_section
from components.evaluate.table import (
    CONDITION_NAMES,
    PROTOCOLS,
    estimate,
    leaky_warning,
    markdown_table,
    marked,
    number,
    policy_line,
    span,
    support_note,
    with_interval,
)

__all__ = ["model_card", "model_facts"]

_AT_THRESHOLD: tuple[tuple[str, Metric], ...] = (
    ("Sensitivity", "recall"),
    ("Specificity", "specificity"),
    ("PPV", "ppv"),
    ("NPV", "npv"),
    ("Brier", "brier"),
    ("Sens. at 90 %", "sensitivity_at_90_specificity"),
    ("Spec. at 90 %", "specificity_at_90_sensitivity"),
)


def model_card(
    model: Description, report: Report, points: OperatingPoints, *, manifest: Manifest, check: FilmCheck | None
) -> str:
    """The card as Markdown (after Mitchell et al. 2019); it names no patient, study or film."""
    parts = [
        f"# Chest X-ray classifier {model.hash[:12]}",
        f"> **{warning}** Its scores say nothing about reading films." if (warning := leaky_warning(report)) else "",
        "**Not a medical device.** For research; no diagnosis may rest on it.",
        model_facts(model),
        _data(model.info, manifest, report.manifest_hash),
        _scores(report),
        _gains(report),
        _second_truth(report),
        history_section(report),
        subgroup_section(report),
        _calibration(report, points),
        _uncertain(report),
        _films(check),
        _use(model.info),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def model_facts(model: Description) -> str:
    """The card's section on the network: what it reads, answers and comes from."""
    info = model.info
    architecture = info.architecture
    text = ", ".join(info.text.sections) or "none"
    before = "; ".join(f"bundle `{each.bundle_hash}`" for each in info.fine_tuned_from)
    rows = {
        "Answer": f"probability of {len(info.pathologies)} findings for a study of one or more films",
        "Network": f"{architecture.vision.model_type} on films, {architecture.text.model_type} on text, fused by "
        f"`{architecture.fusion.kind}`{_patches(architecture)}; {info.size}",
        "Pretrained from": f"films: {architecture.vision.pretrained or 'nothing'}; "
        f"text: {architecture.text.pretrained or 'nothing'}",
        **({"Fine-tuned from": before} if before else {}),
        "Films": f"{info.pixel_preset.size} x {info.pixel_preset.size} gray, preset `{info.pixel_preset.name}` "
        f"(`{info.pixel_preset_hash}`)",
        "Text sections read": text,
        "Metadata read": "age, sex, view position",
        "Computed in": f"{info.precision}, on any device",
        "Missing input": "any of films, text and metadata may be absent, not all",
        "Bundle": f"`{model.hash}`",
        "Training configuration": f"`{info.train_config_hash}`",
        "MLflow run": f"`{info.mlflow_run_id}`" if info.mlflow_run_id else "none",
        "Source revision": f"`{info.git_revision}`" if info.git_revision else "unknown",
    }
    return "## Model\n\n" + markdown_table(("", ""), list(rows.items()))


def _patches(architecture: Architecture) -> str:
    if architecture.patches == "none":
        return ""
    return f", beside an expert of {architecture.patches.words} patches (Coates, Lee and Ng 2011)"


def _data(info: BundleInfo, manifest: Manifest, manifest_hash: str) -> str:
    rows = []
    for split in SPLITS:
        if (count := manifest.counts.get(split)) is not None:
            numbers = (count.patients, count.studies, count.images, count.labeled_studies)
            rows.append((split, *(f"{value:,}" for value in numbers)))
    same = "the same data set" if info.manifest_hash == manifest_hash else f"`{info.manifest_hash}`"
    return "\n\n".join(
        [
            "## Data",
            markdown_table(("Split", "Patients", "Studies", "Films", "Labeled studies"), rows),
            f"Evaluated on `{manifest_hash}`, trained on {same}. No patient is in two splits. "
            "The labels were mined from the radiology reports by a program and inherit its errors. "
            + policy_line(info.label_policy),
        ]
    )


def _scores(report: Report) -> str:
    score = report.headline
    head = (
        "Finding",
        "AUROC",
        "95 % interval",
        "AP",
        "Accuracy",
        "Precision",
        "Recall",
        "F1",
        "ECE",
        "Pos.",
        "Neg.",
    )
    rows = []
    for name, found in score.pathologies.items():
        values = (found.accuracy, found.precision, found.recall, found.f1, found.ece)
        counts = (f"{found.positives:,}", f"{found.negatives:,}")
        cells = (
            number(found.auroc),
            span(found),
            number(found.average_precision),
            *map(number, values),
            *counts,
        )
        rows.append((marked(name, found), *cells))
    mean = score.mean
    values = (mean.accuracy, mean.precision, mean.recall, mean.f1, mean.ece)
    cells = (number(mean.auroc), span(mean), number(mean.average_precision), *map(number, values), "", "")
    rows.append((f"**Mean of {len(mean.pathologies)}**", *cells))
    stamp = " (LEAKY)" if report.leaky else ""
    return "\n\n".join(
        [
            f"## Scores{stamp}",
            f"{score.num_studies:,} test studies of {score.num_patients:,} patients, by study, "
            f"{PROTOCOLS[score.protocol]}, with {CONDITION_NAMES[score.condition]}. Intervals: 95 % percentile "
            f"bootstrap over patients, {report.num_bootstrap} resamples.",
            markdown_table(head, rows),
            *filter(None, [support_note(score)]),
            "At these thresholds, with the prevalence that the predictive values are for, and on the ROC curve itself "
            "the sensitivity at 90 % specificity and the reverse:",
            markdown_table(("Finding", *(title for title, _ in _AT_THRESHOLD), "Prevalence"), _rates(score)),
            "Mean AUROC by what the model sees:",
            markdown_table(("Input", "Labels", "Rows", "Studies", "AUROC", "95 % interval"), _condition_rows(report)),
            "The common subset has a film, text and metadata in every study: only there do differences between inputs "
            "compare like with like.",
        ]
    )


def _rates(score: Score) -> list[tuple[str, ...]]:
    rows = []
    for name, found in score.pathologies.items():
        cells = (with_interval(found, metric) for _, metric in _AT_THRESHOLD)
        rows.append((marked(name, found), *cells, number(found.prevalence)))
    means = (with_interval(score.mean, metric) for _, metric in _AT_THRESHOLD)
    return [*rows, (f"**Mean of {len(score.mean.pathologies)}**", *means, "")]


def _gains(report: Report) -> str:
    if not report.gains:
        return ""
    first = report.gains[0]
    names = [f"{CONDITION_NAMES[gain.condition]} over {CONDITION_NAMES[gain.over]}" for gain in report.gains]
    rows = []
    for name in first.pathologies:
        rows.append((name, *(_told(gain.pathologies[name]) for gain in report.gains)))
    rows.append(("**Mean**", *(_told(gain.mean) for gain in report.gains)))
    return "\n\n".join(
        [
            "## What each input adds",
            f"Differences of AUROC, paired, on the {first.num_studies:,} studies of {first.num_patients:,} patients "
            "that have films, text and metadata; 95 % interval; p of no difference, adjusted for the findings.",
            markdown_table(("Finding", *names), rows),
        ]
    )


def _told(found: Difference) -> str:
    if found.difference is None:
        return "–"
    span = "" if found.ci is None else f" ({found.ci.low:+.3f} to {found.ci.high:+.3f})"
    p = "" if found.p_value is None else f", p {'< .001' if found.p_value < 0.001 else f'{found.p_value:.3f}'}"
    return f"{found.difference:+.3f}{span}{p}"


def _second_truth(report: Report) -> str:
    if (truth := report.second_truth) is None:
        return ""
    score = report.score("all", protocol="truth")
    rows = []
    for name, found in score.pathologies.items():
        agreed = truth.agreement.get(name)
        kappa = number(agreed.kappa) if agreed else "–"
        counts = (f"{found.positives:,}", f"{found.negatives:,}")
        rows.append((marked(name, found), number(found.auroc), span(found), *counts, kappa))
    mean = score.mean
    rows.append((f"**Mean of {len(mean.pathologies)}**", number(mean.auroc), span(mean), "", "", ""))
    return "\n\n".join(
        [
            f"## Against {truth.name}",
            f"{truth.studies:,} test studies have labels of a second source ({truth.name}, `{truth.table_hash}`), "
            "which no training saw. Kappa is Cohen's, of the data set's labels with these.",
            markdown_table(("Finding", "AUROC", "95 % interval", "Pos.", "Neg.", "Labels' kappa"), rows),
        ]
    )


def _condition_rows(report: Report) -> list[tuple[str, ...]]:
    ordered = sorted(
        report.scores, key=lambda s: (s.unit != "study", s.protocol, s.subset, CONDITIONS.index(s.condition))
    )
    return [_condition_row(score) for score in ordered]


def _condition_row(score: Score) -> tuple[str, ...]:
    rows = "each film alone" if score.unit == "image" else "all studies" if score.subset == "all" else "common subset"
    labels = f"protocol {score.protocol}"
    mean = f"{number(score.mean.auroc)} (mean of {len(score.mean.pathologies)})"
    return CONDITION_NAMES[score.condition], labels, rows, f"{score.num_studies:,}", mean, span(score.mean)


def _calibration(report: Report, points: OperatingPoints) -> str:
    rows = []
    for name, point in points.conditions["all"].items():
        calibration = point.calibration
        numbers = (f"{calibration.slope:.3f}", f"{calibration.intercept:+.3f}", f"{point.threshold:.3f}")
        before, after = report.uncalibrated[name], report.headline.pathologies[name]
        reliability = (number(value) for value in (before.brier, after.brier, before.ece, after.ece))
        rows.append((name, f"{point.positives:,}", f"{point.negatives:,}", *numbers, *reliability))
    head = ("Finding", "Pos.", "Neg.", "Slope", "Intercept", "Threshold")
    return "\n\n".join(
        [
            "## Calibration and thresholds",
            f"Platt scaling and thresholds (for {points.threshold_rule.told}) are from "
            f"{points.validation_studies:,} validation studies of {points.validation_patients:,} patients under "
            f"protocol {points.protocol}, never from test; one set for each kind of input, here for all of it. Brier "
            "score and calibration error are of the test studies, before and after Platt scaling.",
            markdown_table((*head, "Brier before", "after", "ECE before", "after"), rows),
        ]
    )


def _uncertain(report: Report) -> str:
    if not report.uncertain:
        return ""
    rows = []
    for name, found in report.uncertain.items():
        of_uncertain, of_negative, of_positive = (row[0] for row in found.confusion)
        counts = (f"{of_uncertain:,} of {found.uncertain:,}", f"{of_negative:,}", f"{of_positive:,}")
        auroc, share = estimate(found.auroc, found.auroc_ci), estimate(found.abstention, found.abstention_ci)
        rows.append((f"{name} *" if found.low_support else name, auroc, share, *counts))
    head = ("Finding", "AUROC", "Left open", "Of uncertain", "Of negative", "Of positive")
    few = any(found.low_support for found in report.uncertain.values())
    return "\n\n".join(
        [
            "## Uncertain",
            "The AUROC is of the probability of uncertain, for labels of -1 against all others. A study is left open "
            "where the answer is -1; blank labels are negative.",
            markdown_table(head, rows),
            *([f"* fewer than {LOW_SUPPORT} patients with an uncertain label: hardly known."] if few else []),
        ]
    )


def _films(check: FilmCheck | None) -> str:
    """What keeps other pictures out."""
    head = "## Pictures that are no chest films\n\n"
    if check is None:
        return f"{head}Nothing tells them apart: there were too few films to learn it from. Any picture gets an answer."
    (chosen, refused), (seen, lost) = check.validation, check.test
    share = f" ({lost / seen:.1%})" if seen else ""
    return (
        f"{head}A server marks its answer where a picture is unlike the training films (turned, inverted, or of "
        f"something else). The limit refuses {refused:,} of {chosen:,} validation films; of {seen:,} test films it "
        f"refuses {lost:,}{share}. A mirrored film is not noticed."
    )


def _use(info: BundleInfo) -> str:
    reads = "It reads only text written before the film was read. " if not info.leaky else ""
    return (
        "## Intended use and limits\n\n"
        "Research on chest radiographs of adults made and labeled like the training data: comparing methods, triage "
        "studies, teaching. Not for diagnosis, not for children, not for other body parts or modalities, and not on "
        "films of another hospital without measuring there first.\n\n"
        f"{reads}Text and metadata carry habits of a hospital (who is sent for a film, and why); the conditions above "
        "show how much of the score they make. The labels say what a report mentions, not what the patient has. "
        "Scores of publications on other splits, units or labels are not comparable."
    )
