"""What the training loop works on, built once from configuration and data."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from components.cxr.bundle import Bundle, load_bundle
from components.cxr.bundle_info import BundleInfo
from components.cxr.errors import UserError
from components.cxr.model.batch import Batch
from components.cxr.model.dataset import StudyDataset
from components.cxr.model.dropout import dropout_keys
from components.cxr.model.feature_maps import FeatureMaps
from components.cxr.model.network import CxrModel
from components.cxr.model.study_batches import StudyBatches
from components.cxr.revision import git_revision
from components.cxr.shards import LoadedManifest
from components.cxr.storage.storage import open_storage
from components.cxr.text.text import is_leaky
from components.cxr.trained_on import TrainedOn, trained_on
from components.train.build import build_model, continued_model
from components.train.config import TrainConfig
from components.train.distributed import is_main, world_size
from components.train.ema import Ema
from components.train.fine_tuning import origin
from components.train.labeled import labels_kept
from components.train.loading.order import Order
from components.train.loading.views import student_view
from components.train.lora import adapt
from components.train.objectives.network import Objective, TrainingNetwork
from components.train.objectives.report_alignment import ReportAlignment
from components.train.objectives.self_training import SelfTraining
from components.train.objectives.shown import Shown, ShownReports
from components.train.objectives.supervised import Supervised
from components.train.optimizer import build_optimizer
from components.train.patch_words import Balance, fit_patch_expert
from components.train.report_features import ReportFeatures
from components.train.report_labels import training_reports
from components.train.supervision import Supervision, supervision_of
from components.train.tuning import checkpoint_gradients
from components.train.validation import LEAST_POSITIVES, num_positives

__all__ = ["Setup", "taught_studies"]


def taught_studies(config: TrainConfig, loaded: LoadedManifest) -> tuple[StudyDataset, Supervision]:
    """The training split, and what each of its entries is taught."""
    studies = _studies(config, loaded, "train", max_views=config.max_views)
    reports = training_reports(loaded) if config.report_labels else None
    return studies, supervision_of(studies.states_SP, studies.labeled_S, policy=config.labels, reports=reports)


class Setup:
    """Data, network, its average and optimizer of one training.

    Raises:
        UserError: text from the reader `mimic` that is not allowed, no labeled training study, or fewer studies in a
            batch than processes.
    """

    def __init__(self, config: TrainConfig, loaded: LoadedManifest, *, device: torch.device) -> None:
        manifest = loaded.manifest
        if is_leaky(config.text, reader=manifest.section_reader) and not config.text.allow_leaky_sections:
            raise UserError(
                "leaky-text",
                "text input may hold findings",
                where=loaded.storage.uri,
                found=f"section_reader {manifest.section_reader}",
                expected="strict",
                remedy="Use preprocess.section_reader: strict, or set train.text.allow_leaky_sections.",
            )
        self.config, self.device = config, device
        self.training, self.supervision = taught_studies(config, loaded)
        self.validation = _studies(config, loaded, "validate")
        self.validation_picks = num_positives(self.validation) >= LEAST_POSITIVES
        """Whether validation says which epoch is exported; the last is where it has too few labels."""
        if not self.supervision.taught().any():
            raise UserError(
                "nothing-to-learn",
                "nothing to learn from",
                where=f"{loaded.storage.uri}, split train",
                found=f"{self.training.labeled_S.sum()} labeled studies, none with a target under train.labels",
                expected="at least 1",
            )
        self.pseudo_SP: Tensor | None = None
        """float32 (S, P) in [0, 1], NaN where there is none; for a student of self-training."""
        taught_S, ratio = self.supervision.taught(), config.semi_supervised.unlabeled_per_labeled
        self.method = config.semi_supervised.method
        if not self.supervision.needs_teachers(config.semi_supervised):
            self.method = "none"
        if self.method == "none" and config.report_alignment is None:
            ratio = 0.0
        self.batch_size = min(config.batch_size, int(taught_S.sum()) if ratio == 0.0 else len(taught_S))
        if self.batch_size < world_size():
            expected = f"at least {world_size()}, one per process"
            raise UserError(
                "batch-too-small",
                "batch is too small",
                where="train.batch_size",
                found=self.batch_size,
                expected=expected,
            )
        self.order = Order(
            taught_S,
            batch_size=self.batch_size,
            unlabeled_per_labeled=ratio,
            seed=config.seed,
        )
        self.steps_per_epoch = self.order.steps_per_epoch
        self.num_steps = config.epochs * self.steps_per_epoch

        torch.manual_seed(config.seed)
        log_share_P3, self.origin = self.supervision.log_share_P3, None
        if config.fine_tune_from is None:
            architecture, model, self.tokenizer = build_model(
                config,
                texts=self.training.texts(),
                patients=self.training.patient_ids,
                film_size=manifest.pixel_preset.size,
                num_pathologies=len(manifest.pathologies),
            )
            model.start_at(log_share_P3)
        else:
            folder, self.origin = origin(config.fine_tune_from)
            known = load_bundle(open_storage(folder))
            architecture, self.tokenizer = known.info.architecture, known.tokenizer
            model = continued_model(known, pathologies=manifest.pathologies, log_share_P3=log_share_P3)
        num_parameters = sum(p.numel() for p in model.parameters())
        adapt(model, config)
        model.to(device)
        maps = None
        if config.maps_are_fixed and config.keep_maps:
            vision = architecture.vision.model_copy(update={"pretrained": None})  # its weights count, not their place
            with self._autocast():
                maps = FeatureMaps.kept(model.vision, self.training, key=vision.canonical_json(), tell=is_main())
        self.batches = StudyBatches(
            self.training, tokenizer=self.tokenizer, max_tokens=architecture.max_tokens, maps=maps
        )
        self.ema = Ema(model, decay=config.ema_decay)
        self.patches: Balance | None = None
        if model.patch_expert is not None and self.ema.model.patch_expert is not None:
            self.patches = Balance((model.patch_expert, self.ema.model.patch_expert), self.validation)
        checkpoint_gradients(model, config)
        self.reports = None
        if config.report_alignment is not None:
            told, patients = training_reports(loaded), self.training.patient_ids
            self.reports = ReportFeatures(told, patients=patients, seed=config.seed)
        self.network = self._training_network(model)
        if config.compile:
            self.network.compile()
        self.optimizer = build_optimizer(model, config, own=self.network.objectives.parameters())
        self.info = BundleInfo(
            pathologies=manifest.pathologies,
            pixel_preset=manifest.pixel_preset,
            pixel_preset_hash=manifest.pixel_preset_hash,
            text=config.text,
            section_reader=manifest.section_reader,
            label_policy=config.labels,
            architecture=architecture,
            num_models=config.num_models,
            num_parameters=config.num_models * num_parameters,
            manifest_hash=loaded.hash,
            id_key_fingerprint=manifest.id_key_fingerprint,
            fine_tuned_from=() if self.origin is None else self.origin.as_origin(),
            train_config_hash=config.hash,
            mlflow_run_id=None,
            git_revision=git_revision(),
        )

    def fit_patches(self) -> None:
        """Give the expert of patches its words and weights, unless a bundle brought them; before the first step."""
        expert, average = self.network.classifier.patch_expert, self.ema.model.patch_expert
        if expert is not None and average is not None and self.origin is None:
            seed, pseudo_SP = self.config.seed, self.pseudo_SP
            fit_patch_expert(expert, self.training, self.supervision, pseudo_SP=pseudo_SP, seed=seed)
            average.load_state_dict(expert.state_dict())

    def show(self, batch: Batch, *, studies: Sequence[int], step: int) -> Shown:
        """What the objectives get of a batch or a part of one, on the training device.

        Args:
            batch: on the host.
            studies: index of each study of the batch in the training split, length B.
            step: keys its random numbers; a study can come more than once in an epoch, and never twice in a step.
        """
        on_device, taught = batch.to(self.device), self.supervision
        student = student_view(batch, on_device=on_device, studies=studies, step=step, config=self.config)
        target_BP3, weight_BP = (
            values[studies].to(self.device, non_blocking=True) for values in (taught.target_SP3, taught.weight_SP)
        )
        pseudo_BP = None if self.pseudo_SP is None else self.pseudo_SP[studies].to(self.device, non_blocking=True)
        return Shown(
            student=student,
            dropout_B=dropout_keys(studies, seed=self.config.seed, step=step, device=self.device),
            known_EB=self.network.classifier.known(student),
            target_BP3=target_BP3,
            weight_BP=weight_BP,
            pseudo_BP=pseudo_BP,
            reports=self._shown_reports(studies, step=step),
        )

    def _training_network(self, model: CxrModel) -> TrainingNetwork:
        autocast = self._autocast()
        objectives: list[Objective] = [Supervised()]
        if self.method == "self-training":
            objectives.append(SelfTraining(self.config.semi_supervised.weight))
        if self.config.report_alignment is not None and self.reports is not None:
            width, told_TF = self.config.architecture.fusion.width, self.reports.feature_TF
            own = ReportAlignment(self.config.report_alignment, channels=width, feature_TF=told_TF)
            objectives.append(own.to(self.device))
        return TrainingNetwork(model, objectives, autocast=autocast)

    def _shown_reports(self, studies: Sequence[int], *, step: int) -> ShownReports | None:
        alignment = self.config.report_alignment
        if alignment is None or self.reports is None:
            return None
        return self.reports.show(studies, step=step, num_candidates=alignment.candidates).to(self.device)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.precision == "bfloat16")

    def trained_on(self) -> tuple[TrainedOn, ...]:
        """Hashes of everyone whom the weights were fitted to or chosen on, for the bundle: here, and before."""
        splits = (self.training, self.validation)
        films = (film for studies in splits for study in studies for film in study.films)
        patients = [patient for studies in splits for patient in studies.patient_ids]
        here = trained_on(patients, films, manifest_hash=self.info.manifest_hash)
        return here, *(() if self.origin is None else self.origin.trained_on)

    def average(self) -> Bundle:
        """The EMA weights as evaluation would see them."""
        return Bundle(self.info, (self.ema.model,), self.tokenizer, hash="")


def _studies(config: TrainConfig, loaded: LoadedManifest, split: str, *, max_views: int | None = None) -> StudyDataset:
    """A split with the labels that are used."""
    studies = StudyDataset(loaded, splits=[split], text=config.text, max_views=max_views)
    studies.labeled_S &= labels_kept(studies.patient_ids, fraction=config.labeled_fraction, seed=config.labeled_seed)
    return studies
