"""CLAIM 2024 (Tejani et al.) and TRIPOD+AI (Collins et al. 2024): what the run knows, and what only authors can say.

Items are paraphrased; the checklists themselves have the wording that journals ask for.
"""

from __future__ import annotations

from collections.abc import Mapping

from components.cxr.bundle_info import Description
from components.cxr.operating_points import OperatingPoints
from components.cxr.report import Report
from components.cxr.shards import SPLITS, LoadedManifest
from components.evaluate.paper.table import PaperTable
from components.evaluate.table import policy_line

__all__ = ["claim_table", "tripod_table"]

AUTHORS = "TO DO: authors"
"""Of an item that no run can know."""

_CLAIM: dict[int, str] = {
    1: "Title or abstract names the kind of AI",
    2: "Structured abstract",
    3: "Background, intended use and role",
    4: "Aims and hypotheses",
    5: "Prospective or retrospective",
    6: "Goal of the study",
    7: "Data sources",
    8: "Inclusion and exclusion criteria",
    9: "Preprocessing of the data",
    10: "Selection of parts of the data",
    11: "De-identification",
    12: "Missing data",
    13: "Image acquisition",
    14: "Definition of the reference standard",
    15: "Why this reference standard",
    16: "Who annotated",
    17: "Annotation of the test set",
    18: "Agreement of and within raters",
    19: "How data were split, with shares",
    20: "Level at which splits are disjoint",
    21: "Intended sample size",
    22: "Model in detail",
    23: "Software and versions",
    24: "Initialization of the parameters",
    25: "Training in detail",
    26: "How the final model was selected",
    27: "Ensembling",
    28: "Measures of performance",
    29: "Significance and uncertainty",
    30: "Robustness or sensitivity analysis",
    31: "Explainability",
    32: "Evaluation on internal data",
    33: "Testing on external data",
    34: "Registration of a trial",
    35: "Numbers included and excluded",
    36: "Characteristics by split",
    37: "Performance and its uncertainty",
    38: "Diagnostic performance and its precision",
    39: "Analysis of failures",
    40: "Limitations",
    41: "Implications for practice",
    42: "Protocol or further technical details",
    43: "Availability of software, model and data",
    44: "Funding and the role of funders",
}
_TRIPOD: dict[str, str] = {
    "1": "Title",
    "2": "Abstract",
    "3a": "Context of care and rationale",
    "3b": "Target population and intended use",
    "3c": "Known inequalities in health",
    "4": "Objectives",
    "5a": "Sources of data",
    "5b": "Dates of the data",
    "6a": "Setting and centers",
    "6b": "Eligibility",
    "6c": "Treatments",
    "7": "Preparation of the data",
    "8a": "Outcome and how it was assessed",
    "8b": "Who assessed it",
    "8c": "Blinding of the assessment",
    "9a": "Choice of predictors",
    "9b": "Definition of predictors",
    "9c": "Who assessed predictors",
    "10": "Sample size",
    "11": "Missing data",
    "12a": "Use of the data, splits included",
    "12b": "Handling of predictors",
    "12c": "Type of model, building, internal validation",
    "12d": "Differences between clusters",
    "12e": "Measures of performance",
    "12f": "Updating of the model",
    "12g": "How predictions were computed",
    "13": "Class imbalance",
    "14": "Fairness",
    "15": "Output of the model and thresholds",
    "16": "Differences of training and evaluation data",
    "17": "Ethics approval",
    "18a": "Funding",
    "18b": "Conflicts of interest",
    "18c": "Protocol",
    "18d": "Registration",
    "18e": "Sharing of data",
    "18f": "Sharing of code",
    "19": "Involvement of patients and public",
    "20a": "Flow of participants",
    "20b": "Characteristics",
    "20c": "Evaluation data compared with training data",
    "21": "Participants and events in each analysis",
    "22": "Specification of the model",
    "23a": "Performance with intervals, subgroups included",
    "23b": "Differences of performance between clusters",
    "24": "Results of updating",
    "25": "Interpretation, fairness included",
    "26": "Limitations",
    "27a": "Poor or missing input at use",
    "27b": "What users must do and know",
    "27c": "Next steps",
}


class _Facts:
    """Sentences about one run."""

    def __init__(self, model: Description, report: Report, points: OperatingPoints, loaded: LoadedManifest) -> None:
        info, manifest = model.info, loaded.manifest
        architecture, preset = info.architecture, info.pixel_preset
        score = report.headline
        vision, text = architecture.vision, architecture.text
        self.preprocessing = (
            f"Films to {preset.size} x {preset.size} pixels, preset {preset.name} ({info.pixel_preset_hash}); reports "
            f"to sections by the reader {manifest.section_reader}."
        )
        secret = "keyed hashes" if manifest.deidentified else "hashes WITHOUT a secret key, which can be guessed"
        self.identifiers = f"Ids are {secret}; bundle and report hold none."
        self.missing = "Absent films, text or metadata are masked, in training as in evaluation."
        self.labels = (
            "Labels come with the data set, mined from reports where its documentation says so. "
            + policy_line(info.label_policy)
        )
        self.agreement = AUTHORS
        if report.second_truth is not None:
            self.agreement = f"Of labels and {report.second_truth.name} (Cohen's kappa): model card."
        counts = [f"{split} {manifest.counts[split].studies:,} studies" for split in SPLITS if split in manifest.counts]
        self.splits = ", ".join(counts) + "; see the table of characteristics."
        self.disjoint = "By patient: no patient is in two splits."
        self.model = (
            f"{vision.model_type} on films, {text.model_type} on text, fusion {architecture.fusion.kind}; "
            f"{info.size}; answers per finding: negative, uncertain, positive. Full "
            f"specification in bundle.json ({model.hash[:12]})."
        )
        revision = f", revision {info.git_revision}" if info.git_revision else ""
        self.software = f"cxrflow{revision}; versions of all packages in requirements.lock."
        starts = (("films", vision.pretrained), ("text", text.pretrained))
        self.initialization = "; ".join(f"{what}: {start or 'Xavier, from scratch'}" for what, start in starts) + "."
        if info.fine_tuned_from:
            before = ", which was fine-tuned from ".join(each.bundle_hash[:12] for each in info.fine_tuned_from)
            self.initialization = f"The weights of bundle {before}. Its own: {self.initialization}"
        run = info.mlflow_run_id or "(none)"
        self.training = f"Configuration {info.train_config_hash}; parameters and curves in MLflow run {run}."
        self.selection = (
            "The averaged (EMA) weights of the latest epoch whose validation mean AUROC is within one standard error "
            "of the best (paired, DeLong); with fewer than ten positive labels to validate on, of the last."
        )
        self.ensembling = (
            "None."
            if info.num_models == 1
            else f"{info.num_models} models from different seeds, the mean of their logits."
        )
        self.is_internal = info.manifest_hash == report.manifest_hash
        self.metrics = (
            "AUROC, average precision, sensitivity, specificity, PPV, NPV, F1, accuracy, Brier score, calibration "
            "error; decision curves."
        )
        self.uncertainty = (
            f"95 % intervals from {report.num_bootstrap:,} resamples of the patients; differences paired, p-values "
            "adjusted (Holm)."
        )
        self.robustness = (
            "Five kinds of input, subgroups, two label protocols, scores among equal histories: tables inputs and "
            "subgroups, model card."
        )
        self.flow = "Figure flow."
        self.characteristics = "Table characteristics."
        self.performance = (
            f"{score.num_studies:,} test studies of {score.num_patients:,} patients: tables discrimination, thresholds "
            "and calibration; figures forest, roc, precision_recall, reliability."
        )
        self.output = (
            f"Calibrated probability per finding and input; thresholds ({points.threshold_rule.told}) from "
            f"{points.validation_studies:,} validation studies; answers -1, 0 or 1."
        )
        self.subgroups = AUTHORS
        if report.subgroups:
            self.subgroups = (
                "Gaps of AUROC, sensitivity, specificity and under-diagnosis, with intervals: table subgroups."
            )
        self.predictors = f"Films; text sections: {', '.join(info.text.sections) or 'none'}; age, sex, view."
        self.poor_input = (
            "Damaged films, burned-in text and unusual presets are refused with a reason; films, text or metadata may "
            "be absent."
        )


def claim_table(model: Description, report: Report, points: OperatingPoints, loaded: LoadedManifest) -> PaperTable:
    """44 items, filled in where the run knows."""
    facts = _Facts(model, report, points, loaded)
    known = {
        1: "Deep learning, supervised classification of chest radiographs.",
        9: facts.preprocessing,
        11: facts.identifiers,
        12: facts.missing,
        14: facts.labels,
        18: facts.agreement,
        19: facts.splits,
        20: facts.disjoint,
        22: facts.model,
        23: facts.software,
        24: facts.initialization,
        25: facts.training,
        26: facts.selection,
        27: facts.ensembling,
        28: facts.metrics,
        29: facts.uncertainty,
        30: facts.robustness,
        32 if facts.is_internal else 33: facts.performance,
        35: facts.flow,
        36: facts.characteristics,
        37: facts.performance,
        38: facts.performance,
    }
    items = {str(item): what for item, what in _CLAIM.items()}
    return _table("claim", "CLAIM 2024", items, {str(item): answer for item, answer in known.items()})


def tripod_table(model: Description, report: Report, points: OperatingPoints, loaded: LoadedManifest) -> PaperTable:
    """52 items and parts of items, filled in where the run knows."""
    facts = _Facts(model, report, points, loaded)
    known = {
        "7": facts.preprocessing,
        "8a": facts.labels,
        "9b": facts.predictors,
        "11": facts.missing,
        "12a": facts.splits,
        "12b": facts.preprocessing,
        "12c": f"{facts.model} {facts.selection}",
        "12e": f"{facts.metrics} {facts.uncertainty}",
        "12f": "None.",
        "12g": "By the pipeline's own code, in float32.",
        "14": facts.subgroups,
        "15": facts.output,
        "18f": facts.software,
        "20a": facts.flow,
        "20b": facts.characteristics,
        "20c": facts.characteristics,
        "21": facts.performance,
        "22": facts.model,
        "23a": f"{facts.performance} {facts.subgroups}" if report.subgroups else facts.performance,
        "24": "None.",
        "27a": facts.poor_input,
    }
    return _table("tripod_ai", "TRIPOD+AI", _TRIPOD, known)


def _table(name: str, title: str, items: Mapping[str, str], known: Mapping[str, str]) -> PaperTable:
    rows = [(item, what, known.get(item, AUTHORS)) for item, what in items.items()]
    done = sum(answer != AUTHORS for _, _, answer in rows)
    note = f"{done} of {len(rows)} are filled in from the run; check them, and say the rest."
    return PaperTable(name, f"{title}, filled in where the run knows", ("Item", "What", "Here"), rows, note)
