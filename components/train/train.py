"""The training step: build everything, then one flat loop.

Shape letters: S studies of the training split, B studies of this process, P pathologies.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from components.cxr.bundle import save_bundle
from components.cxr.bundle_info import BUNDLE, SCHEMA_VERSION
from components.cxr.config import content_hash
from components.cxr.errors import UserError
from components.cxr.model.device import pick_device
from components.cxr.shards import LoadedManifest
from components.cxr.storage.storage import Root, Storage
from components.cxr.tracking.tracked_run import TrackedRun
from components.train.build import learning_rate_factor
from components.train.checkpoint import Progress, load_checkpoint, save_checkpoint
from components.train.config import TrainConfig
from components.train.distributed import barrier, distributed, is_main, rank, world_size
from components.train.lease import leased
from components.train.loading.augment import augment, drop_modalities
from components.train.loading.batches import batches
from components.train.meter import Meter
from components.train.objectives.losses import consistency_loss, supervised_loss
from components.train.pretrained import by_content, check_positions
from components.train.setup import Setup
from components.train.tracked import tracked_training
from components.train.validation import validation_auroc

__all__ = ["VERSION", "train", "training_key"]

VERSION = 1
"""Raised whenever the same data and configuration would give other weights, or a checkpoint cannot be continued."""


def training_key(config: TrainConfig, manifest_hash: str) -> str:
    """Name of the checkpoint and bundle folders: 16 hex digits over what decides the weights.

    Raises:
        UserError: pretrained weights are not there.
    """
    config = config.model_copy(update={"architecture": by_content(config.architecture)})
    return content_hash(f"train {VERSION}", f"bundle {SCHEMA_VERSION}", config.hash, manifest_hash)


def train(config: TrainConfig, *, loaded: LoadedManifest, root: Root, stop_after: int | None = None) -> Storage:
    """Train one model and write its bundle; a bundle that is already there is reused.

    A killed run continues from its last checkpoint to the same weights, and several processes give the weights of one.

    Args:
        stop_after: end after this many optimizer steps with a checkpoint and without a bundle.

    Returns:
        The bundle's folder.

    Raises:
        UserError: nothing to learn from, a batch too small, no such device, another process that trains this,
            or a loss that is not finite.
    """
    device = pick_device(config.device, where="train.device")
    check_positions(config.architecture)
    key = training_key(config, loaded.hash)
    bundle, checkpoints = root.bundle(key), root.checkpoints(key)
    torch.set_num_threads(config.num_threads)
    torch.use_deterministic_algorithms(device.type == "cpu")
    with distributed(device), contextlib.ExitStack() as stack:
        lease = stack.enter_context(leased(checkpoints)) if is_main() else None
        barrier()  # nobody reads checkpoints that another trainer may still replace
        if bundle.exists(BUNDLE):
            say(f"train: reused bundles/{key}")
            return bundle
        setup = Setup(config, loaded, device=device)
        progress = load_checkpoint(checkpoints, setup, device=device)
        if progress.step:
            say(f"train: resumed checkpoints/{key} at step {progress.step} of {setup.num_steps}")
        with tracked_training(root, setup, loaded, progress, checkpoints) as tracked:
            save = functools.partial(save_checkpoint, checkpoints, setup, progress, lease=lease, tracked=tracked)
            _loop(setup, progress, save=save, tracked=tracked, stop_after=stop_after)
        if stop_after is None and is_main():
            model = setup.ema.model.cpu()
            if progress.best_weights is not None:
                model.load_state_dict(progress.best_weights)
            info = setup.info.model_copy(update={"mlflow_run_id": progress.run_id})
            trained_on = setup.trained_on()
            save_bundle(bundle, info=info, model=model, tokenizer=setup.tokenizer, trained_on=trained_on)
            say(f"train: wrote bundles/{key}, the weights after epoch {progress.best_epoch or config.epochs}")
        barrier()
    return bundle


def _loop(
    setup: Setup,
    progress: Progress,
    *,
    save: Callable[[], None],
    tracked: TrackedRun | None,
    stop_after: int | None,
) -> None:
    config, semi, device = setup.config, setup.config.semi_supervised, setup.device
    network: nn.Module = DistributedDataParallel(setup.model) if world_size() > 1 else setup.model
    meter = Meter(num_steps=setup.num_steps, first_step=progress.step)
    for epoch in range(progress.step // setup.steps_per_epoch, config.epochs):
        for studies, batch in batches(setup, epoch=epoch, skip=progress.step % setup.steps_per_epoch):
            # 1. schedules
            factor = learning_rate_factor(progress.step, num_steps=setup.num_steps, warm_up=config.warm_up)
            for group in setup.optimizer.param_groups:
                group["lr"] = factor * group["peak"]
            semi_weight = semi.weight * min(1.0, progress.step / (semi.ramp_up * setup.num_steps))
            seed = config.seed
            torch.manual_seed((config.seed * 1_000_003 + progress.step) * world_size() + rank())  # dropout

            # 2. losses: the student sees a strong view without some modalities, the teacher a weak one with all
            network.train()
            batch = batch.to(device)
            strong = augment(batch, studies=studies, epoch=epoch, seed=seed, config=config.augment, strength="strong")
            strong = drop_modalities(strong, studies=studies, epoch=epoch, seed=seed, config=config.modality_dropout)
            with _precision(config, device):
                logits_BP3 = network(strong).float()
            target_BP, weight_BP = setup.target_SP[studies].to(device), setup.weight_SP[studies].to(device)
            supervised = supervised_loss(logits_BP3, target_BP, weight_BP)
            consistency = torch.zeros((), device=device)
            if semi.method == "mean-teacher":
                weak = augment(batch, studies=studies, epoch=epoch, seed=seed, config=config.augment, strength="weak")
                with torch.no_grad(), _precision(config, device):
                    teacher_BP3 = setup.ema.model(weak).float()
                consistency = consistency_loss(logits_BP3, teacher_BP3, setup.consistent_SP[studies].to(device))
            loss = supervised + semi_weight * consistency

            # 3. backward, clip, step
            setup.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            gradient_norm = nn.utils.clip_grad_norm_(setup.model.parameters(), config.clip_norm)
            _require_finite(gradient_norm, step=progress.step)
            setup.optimizer.step()
            progress.step += 1

            # 4. EMA
            ema_decay = setup.ema.current_decay
            setup.ema.update(setup.model)

            # 5. log
            meter.add(len(studies), supervised, consistency)
            if progress.step % config.log_every == 0:
                metrics = meter.take() | {
                    "train/consistency_weight": semi_weight,
                    "train/ema_decay": ema_decay,
                    "train/gradient_norm": float(gradient_norm),
                    "train/learning_rate": factor * config.learning_rate,
                }
                meter.show(metrics, step=progress.step)
                if tracked is not None:
                    tracked.metrics(metrics, step=progress.step)

            # 6. checkpoint; the one at the end of an epoch waits for validation
            if progress.step == stop_after:
                save()
                return
            if progress.step % config.checkpoint_every == 0 and progress.step % setup.steps_per_epoch:
                save()

        _validate(setup, progress, epoch=epoch, tracked=tracked)
        save()


def _validate(setup: Setup, progress: Progress, *, epoch: int, tracked: TrackedRun | None) -> None:
    """Score the EMA weights and keep the best; without labels to validate on, the last weights are exported."""
    if tracked is None:
        return
    auroc = validation_auroc(setup.teacher(), setup.validation, device=setup.device)
    if auroc is None:
        return
    tracked.metrics({"validate/auroc": auroc}, step=progress.step)
    best = progress.best_auroc is None or auroc > progress.best_auroc
    say(f"train: epoch {epoch + 1}/{setup.config.epochs}  validation mean AUROC {auroc:.4f}{'  best' if best else ''}")
    if best:
        progress.best_auroc, progress.best_epoch = auroc, epoch + 1
        progress.best_weights = {
            name: value.detach().cpu().clone() for name, value in setup.ema.model.state_dict().items()
        }


def _require_finite(gradient_norm: Tensor, *, step: int) -> None:
    """A loss or gradient that is not finite ends the run on every process at the same step: the norm is global."""
    if not torch.isfinite(gradient_norm):
        raise UserError(
            "training-diverged",
            "training diverged",
            where=f"step {step}",
            found=f"gradient norm {gradient_norm.item()}",
            remedy="Lower train.learning_rate; the last checkpoint is kept.",
        )


def _precision(config: TrainConfig, device: torch.device) -> torch.autocast:
    return torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bfloat16")


def say(line: str) -> None:
    """Print one line on the main process."""
    if is_main():
        print(line, flush=True)
