"""The training step: build everything, then one flat loop.

Shape letters: S studies of the training split, B studies of this process, P pathologies.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Sequence
from typing import NoReturn

import torch
from torch.nn.parallel import DistributedDataParallel

from components.cxr.bundle import save_bundle
from components.cxr.bundle_info import BUNDLE
from components.cxr.model.device import exact_float32, pick_device
from components.cxr.shards import LoadedManifest
from components.cxr.storage.storage import Root, Storage
from components.cxr.tracking.tracked_run import TrackedRun
from components.train.accumulation import add_gradients, parts_of
from components.train.checkpoint import Progress, load_checkpoint, save_checkpoint
from components.train.config import TrainConfig
from components.train.distributed import barrier, broadcast, distributed, is_main, parallel
from components.train.ensemble import other_configs, with_others
from components.train.evidence import save_batch
from components.train.export import keep_unless_worse, weights_to_export
from components.train.fine_tuning import complete_architecture, with_origin
from components.train.finite import FiniteGuard
from components.train.gradients import Clip
from components.train.key import training_key
from components.train.lease import leased
from components.train.loading.batches import batches
from components.train.loading.order import position
from components.train.lora import merge
from components.train.meter import Meter
from components.train.objectives.network import TrainingNetwork
from components.train.optimizer import set_learning_rates
from components.train.pretrained import check_film_size, check_positions
from components.train.setup import Setup
from components.train.stopping import AGAIN, StopRequest, stop_request
from components.train.teachers import taught_by, teachers_for
from components.train.tracked import tracked_training
from components.train.tuning import Freezer
from components.train.validation import (
    LEAST_POSITIVES,
    StoppedError,
    Validated,
    num_positives,
    validated,
    validation_truth,
)

__all__ = ["train"]


def train(config: TrainConfig, *, loaded: LoadedManifest, root: Root, stop_after: int | None = None) -> Storage:
    """Train one model, or `config.num_models`, and write the bundle; a bundle that is already there is reused.

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
    config = with_origin(config, root=root)
    architecture = complete_architecture(config)
    check_positions(architecture)
    check_film_size(architecture, loaded.manifest.pixel_preset.size)
    torch.set_num_threads(config.num_threads)
    torch.use_deterministic_algorithms(device.type == "cpu")
    exact_float32()
    with stop_request() as stop, distributed(device, timeout_s=config.timeout_s):
        run = functools.partial(_with_teachers, loaded=loaded, root=root, device=device, stop=stop)
        others = []
        for number, other in enumerate([] if _is_there(config, loaded, root) else other_configs(config), start=2):
            say(f"train: model {number} of {config.num_models}")
            others.append(run(other, tracked=False))
        return run(config, others=others, stop_after=stop_after)


def _is_there(config: TrainConfig, loaded: LoadedManifest, root: Root) -> bool:
    return bool(broadcast(root.bundle(training_key(config, loaded.hash)).exists(BUNDLE)))


def _with_teachers(
    config: TrainConfig,
    *,
    loaded: LoadedManifest,
    root: Root,
    device: torch.device,
    stop: StopRequest,
    others: Sequence[Storage] = (),
    tracked: bool = True,
    stop_after: int | None = None,
) -> Storage:
    """Train one model, and before it the teachers that its data need."""
    run = functools.partial(_train, loaded=loaded, root=root, device=device, stop=stop)
    configs = [] if _is_there(config, loaded, root) else teachers_for(config, loaded)
    teachers = []
    for number, teacher in enumerate(configs, start=1):
        say(f"train: teacher {number} of {len(configs)}, from the labels alone")
        teachers.append(run(teacher, tracked=False))
    return run(config, teachers=teachers, others=others, tracked=tracked, stop_after=stop_after)


def _train(
    config: TrainConfig,
    *,
    loaded: LoadedManifest,
    root: Root,
    device: torch.device,
    stop: StopRequest,
    teachers: Sequence[Storage] = (),
    others: Sequence[Storage] = (),
    tracked: bool = True,
    stop_after: int | None = None,
) -> Storage:
    key = training_key(config, loaded.hash)
    bundle, checkpoints = root.bundle(key), root.checkpoints(key)
    with contextlib.ExitStack() as stack:
        lease = stack.enter_context(leased(checkpoints, wait=not tracked)) if is_main() else None
        barrier()  # nobody reads checkpoints that another trainer may still replace
        if bundle.exists(BUNDLE):
            say(f"train: reused bundles/{key}")
            return bundle
        setup = Setup(config, loaded, device=device)
        if teachers:
            try:
                setup.pseudo_SP = taught_by(teachers, setup, stop=stop)
            except StoppedError:  # asked while the last teacher was written
                _end(Progress())
        progress = load_checkpoint(checkpoints, setup, device=device)
        if not setup.validation_picks:
            found = f"{num_positives(setup.validation)} positive labels, fewer than {LEAST_POSITIVES}"
            say(f"train: validation has {found}: the weights of the last epoch go out")
        if progress.step:
            say(f"train: resumed checkpoints/{key} at step {progress.step} of {setup.num_steps}")
        else:
            setup.fit_patches()
        if setup.origin is not None and not progress.step:
            _validate_origin(setup, progress, stop=stop)
        run = tracked_training(root, setup, loaded, progress, checkpoints) if tracked else contextlib.nullcontext()
        with run as mlflow, stop.wait_for_step():
            save = functools.partial(save_checkpoint, checkpoints, setup, progress, lease=lease, tracked=mlflow)
            keep_batch = functools.partial(save_batch, checkpoints, setup)
            _loop(setup, progress, save=save, keep_batch=keep_batch, tracked=mlflow, stop=stop, stop_after=stop_after)
            if mlflow is not None and stop_after is None and progress.kept_auroc is not None:
                mlflow.metrics({"validate/kept_auroc": progress.kept_auroc}, step=progress.step)
        if stop_after is None and is_main():
            model = setup.ema.model.cpu()
            model.load_state_dict(weights_to_export(progress, model))
            merge(model)
            info = setup.info.model_copy(update={"mlflow_run_id": progress.run_id})
            trained_on = setup.trained_on()
            models = with_others(model, others)
            save_bundle(bundle, info=info, models=models, tokenizer=setup.tokenizer, trained_on=trained_on)
            epoch = config.epochs if progress.kept_epoch is None else progress.kept_epoch
            alone = "" if model.patch_expert is None or model.patch_expert.counts else ", without the expert of patches"
            say(f"train: wrote bundles/{key}, the weights after epoch {epoch}{alone}")
        barrier()
    return bundle


def _loop(
    setup: Setup,
    progress: Progress,
    *,
    save: Callable[[], None],
    keep_batch: Callable[[int], str],
    tracked: TrackedRun | None,
    stop: StopRequest,
    stop_after: int | None,
) -> None:
    config, device = setup.config, setup.device
    freezer = Freezer(setup.network.classifier, config)
    names, clip = list(setup.network.objectives), Clip(setup.network, max_norm=config.clip_norm)
    meter = Meter(num_steps=setup.num_steps, first_step=progress.step, names=names, device=device)
    finite = FiniteGuard(device, parts=clip.names, losses=names, save=keep_batch)
    first_epoch, skip = position(progress.step, steps_per_epoch=setup.steps_per_epoch)
    if progress.validated < first_epoch:  # stopped before the last epoch was validated
        first_epoch, skip = first_epoch - 1, setup.steps_per_epoch
    for epoch in range(first_epoch, config.epochs):
        if freezer.enter(epoch) or epoch == first_epoch:
            network: TrainingNetwork | DistributedDataParallel = setup.network  # lets go of the former wrapper
            network = parallel(setup.network)
        for studies, batch in batches(setup, epoch=epoch, skip=skip if epoch == first_epoch else 0):
            # 1. schedules
            factor = set_learning_rates(
                setup.optimizer,
                step=progress.step,
                num_steps=setup.num_steps,
                steps_per_epoch=setup.steps_per_epoch,
                warm_up=config.warm_up,
            )
            weights = setup.network.weights(progress.step)

            # 2. losses and gradients
            network.train()
            setup.optimizer.zero_grad(set_to_none=True)
            parts = [
                setup.show(batch.rows(part), studies=studies[part], step=progress.step)
                for part in parts_of(len(studies), accumulate=config.accumulate)
            ]
            losses = add_gradients(network, parts, weights=weights)

            # 3. clip, step
            gradient_norm, norms_G = clip()
            finite.add(gradient_norm, norms_G, losses, step=progress.step)
            setup.optimizer.step()
            progress.step += 1

            # 4. EMA
            ema_decay = setup.ema.current_decay
            setup.ema.update(setup.network.classifier)

            # 5. log
            meter.add(len(studies), losses)
            if progress.step % config.log_every == 0:
                finite.check()
                metrics = meter.take() | {
                    **{f"train/{name}_weight": weight for name, weight in weights.items() if name != "supervised"},
                    **setup.network.measured(),
                    "train/ema_decay": ema_decay,
                    "train/gradient_norm": float(gradient_norm),
                    "train/learning_rate": factor * config.learning_rate,
                }
                meter.show(metrics, step=progress.step)
                if tracked is not None:
                    tracked.metrics(metrics, step=progress.step)

            # 6. checkpoint; the one at the end of an epoch waits for validation
            within_epoch, last = progress.step % setup.steps_per_epoch != 0, progress.step == stop_after
            stopped = stop.agreed()
            if stopped or (within_epoch and (last or progress.step % config.checkpoint_every == 0)):
                finite.check()
                save()
            if stopped:
                _end(progress)
            if within_epoch and last:
                return

        finite.check()
        try:
            _validate(setup, progress, epoch=epoch, tracked=tracked, stop=stop)
        except StoppedError:
            save()
            _end(progress)
        save()
        if progress.step == stop_after:
            return


def _validate(setup: Setup, progress: Progress, *, epoch: int, tracked: TrackedRun | None, stop: StopRequest) -> None:
    """Score the EMA weights, and keep them unless earlier ones are shown to be better."""
    found = _validated(setup, stop=stop)
    progress.validated = epoch + 1
    if found is None or not is_main():
        return
    expert, alone = setup.ema.model.patch_expert, ""
    metrics = {"validate/auroc": found.auroc}
    if expert is not None:
        metrics |= {"validate/network_auroc": found.network, "validate/patches": float(expert.counts)}
        alone = f", {found.network:.4f} without patches"
    if tracked is not None:
        tracked.metrics(metrics, step=progress.step)
    kept = _keep(setup, progress, found, epoch=epoch)
    told = f"validation mean AUROC {found.auroc:.4f}{alone}{'  kept' if kept else ''}"
    say(f"train: epoch {epoch + 1}/{setup.config.epochs}  {told}")


def _validate_origin(setup: Setup, progress: Progress, *, stop: StopRequest) -> None:
    """Score the bundle that training starts from: fine-tuning that makes it worse exports it as it came."""
    assert setup.origin is not None
    try:
        found = _validated(setup, stop=stop)
    except StoppedError:
        _end(progress)
    known, asked = set(setup.origin.info.pathologies), setup.info.pathologies
    told = "" if found is None else f"  validation mean AUROC {found.auroc:.4f}"
    shared = f"{len(known.intersection(asked))} of {len(asked)} pathologies"
    say(f"train: starts from bundle {setup.origin.hash[:12]}, which knows {shared}{told}")
    before, here = setup.origin.info, setup.info
    if before.id_key_fingerprint != here.id_key_fingerprint and before.pixel_preset_hash != here.pixel_preset_hash:
        say("train: ids of another key and films of another preset than that bundle's: its patients are not recognized")
    if found is not None and is_main():
        _keep(setup, progress, found, epoch=-1)


def _keep(setup: Setup, progress: Progress, found: Validated, *, epoch: int) -> bool:
    """Whether these weights are the ones to export so far; with too few labels to tell, the last ones are."""
    if not setup.validation_picks:
        return False
    truth_SP, patients, average = validation_truth(setup.validation), setup.validation.patient_ids, setup.ema.model
    return keep_unless_worse(progress, found, truth_SP=truth_SP, patients=patients, epoch=epoch, average=average)


def _validated(setup: Setup, *, stop: StopRequest) -> Validated | None:
    """The average, as evaluation would see it."""
    average, device = setup.average(), setup.device
    return validated(average, setup.validation, device=device, stop=stop, patches=setup.patches)


def _end(progress: Progress) -> NoReturn:
    say(f"train: stopped at step {progress.step}; the same command goes on from there")
    raise SystemExit(AGAIN)


def say(line: str) -> None:
    """Print one line on the main process."""
    if is_main():
        print(line, flush=True)
