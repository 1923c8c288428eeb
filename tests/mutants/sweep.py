"""Sweeps."""

from tests.mutants.mutant import Mutant

SWEEP = "tests/pipeline/test_sweep.py"
QUEUED = f"{SWEEP}::test_a_trial_that_was_killed_is_queued_again_and_a_finished_one_is_not"
SHARED = "tests/pipeline/test_sweep_database.py::test_machines_share_trials_and_take_none_from_each_other"

MUTANTS = [
    Mutant(
        "trials-of-other-code-steer-a-sweep",
        file="pipeline/sweep/study.py",
        old="sort_keys=True), manifest_hash, trained)",
        new="sort_keys=True), manifest_hash)",
        test=f"{SWEEP}::test_trials_of_other_code_or_of_another_bundle_to_start_from_are_of_another_study",
    ),
    Mutant(
        "a-sweep-chooses-the-worst",
        file="pipeline/sweep/study.py",
        old='direction="maximize"',
        new='direction="minimize"',
        test=f"{SWEEP}::test_the_best_by_validation_is_written_as_a_configuration_that_runs",
    ),
    Mutant(
        "a-trial-trains-more-models-than-it-is-scored-by",
        file="pipeline/sweep/sweep.py",
        old='    train = pipeline.arguments["train"] | {ENSEMBLE: 1}\n',
        new='    train = pipeline.arguments["train"]\n',
        test=f"{SWEEP}::test_the_best_by_validation_is_written_as_a_configuration_that_runs",
    ),
    Mutant(
        "a-killed-trial-is-forgotten",
        file="pipeline/sweep/study.py",
        old="    study.enqueue_trial(trial.params)\n",
        new="    pass\n",
        test=QUEUED,
    ),
    Mutant(
        "a-trial-of-a-machine-that-died-runs-for-ever",
        file="pipeline/sweep/study.py",
        old="        return bool(time.time() - seen > GONE_S)\n",
        new="        return False\n",
        test=SHARED,
    ),
    Mutant(
        "two-machines-queue-a-lost-trial-twice",
        file="pipeline/sweep/study.py",
        old="        return\n    study.enqueue_trial",
        new="        pass\n    study.enqueue_trial",
        test=SHARED,
    ),
    Mutant(
        "a-trial-that-is-just-drawn-is-taken-from-whoever-drew-it",
        file="pipeline/sweep/study.py",
        old="in nobodys & self._nobodys or",
        new="in nobodys or",
        test=f"{SWEEP}::test_a_trial_of_which_nobody_said_a_word_is_lost_in_every_time_zone",
    ),
    Mutant(
        "a-running-sweep-gives-no-sign-of-life",
        file="pipeline/sweep/sweep.py",
        old="                        sign(running.trial)\n",
        new="                        pass\n",
        test=f"{SWEEP}::test_a_running_trial_gives_signs_of_life",
        limit=120,
    ),
    Mutant(
        "a-trial-of-another-machine-is-taken-at-once",
        file="pipeline/sweep/study.py",
        old="        return bool(time.time() - seen > GONE_S)\n",
        new="        return True\n",
        test=SHARED,
    ),
    Mutant(
        "a-sweep-that-goes-on-draws-the-first-trials-again",
        file="pipeline/sweep/study.py",
        old="seed=(seed + 7919 * len(study.trials)) % 2**32",
        new="seed=seed",
        test=QUEUED,
    ),
    Mutant(
        "a-pruned-training-goes-on",
        file="pipeline/sweep/trial.py",
        old="                if pruned or stop.is_set():\n",
        new="                if stop.is_set():\n",
        test="tests/pipeline/test_sweep_stops.py::test_a_training_below_the_median_ends_early",
    ),
    Mutant(
        "a-trial-is-scored-by-an-epoch-that-nobody-picked",
        file="pipeline/sweep/trial.py",
        old="    return [found[step] for step in sorted(found)], best[-1] if best else None\n",
        new="    return [found[step] for step in sorted(found)], max(found.values(), default=None)\n",
        test=f"{SWEEP}::test_a_trial_whose_epoch_validation_cannot_pick_is_an_error",
    ),
    Mutant(
        "a-sweep-may-choose-a-lucky-seed",
        file="pipeline/sweep/space.py",
        old='LUCK = {"seed", "labeled_seed"}',
        new="LUCK = set()",
        test=f"{SWEEP}::test_what_cannot_be_swept_is_said_before_anything_runs",
    ),
]
