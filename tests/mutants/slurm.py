"""Runs on a Slurm cluster."""

from tests.mutants.mutant import Mutant

JOBS = "tests/pipeline/slurm/test_jobs.py"
SWEEP = "tests/pipeline/slurm/test_sweep_jobs.py"
QUEUED_AGAIN = f"{JOBS}::test_a_script_queues_again_what_another_try_helps"

MUTANTS = [
    Mutant(
        "a-job-deploys-what-lost",
        file="pipeline/slurm/prepare.py",
        old="        if not ConditionEvaluator.evaluate_condition(task.trigger_policy.condition, store):\n",
        new="        if job is None:\n",
        test=f"{JOBS}::test_a_model_that_is_not_promoted_is_not_deployed",
    ),
    Mutant(
        "every-element-of-the-array-takes-the-first-partition",
        file="pipeline/slurm/prepare.py",
        old="json.loads(task.parameter_iterator.items.raw)[element]",
        new="json.loads(task.parameter_iterator.items.raw)[0]",
        test=f"{JOBS}::test_each_job_gets_its_own_section_and_the_results_before_it",
    ),
    Mutant(
        "a-job-does-not-wait-for-the-array-before-it",
        file="pipeline/slurm/plan.py",
        old="        yield from made[name]\n",
        new="        yield from made[name]\n        made[name] = () if made[name][0].copies else made[name]\n",
        test=f"{JOBS}::test_a_loop_is_an_array_and_what_follows_waits_for_all_of_it",
    ),
    Mutant(
        "a-canceled-job-is-brought-back",
        file="pipeline/slurm/script.py",
        old="""  [ "$(squeue -h -j "$job" -o %T)" = RUNNING ] || exit "$code"\n""",
        new="",
        test=QUEUED_AGAIN,
    ),
    Mutant(
        "a-slurm-job-tries-a-users-mistake-again",
        file="pipeline/slurm/script.py",
        old="""elif [ "$code" != 2 ]; then""",
        new="""elif [ "$code" != 3 ]; then""",
        test=QUEUED_AGAIN,
    ),
    Mutant(
        "the-signal-before-the-limit-is-lost",
        file="pipeline/slurm/script.py",
        old='"trap stop USR1"',
        new='"trap : USR1"',
        test=QUEUED_AGAIN,
    ),
    Mutant(
        "an-element-that-is-tried-again-takes-its-array-along",
        file="pipeline/slurm/script.py",
        old='job="${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID"',
        new="job=$SLURM_ARRAY_JOB_ID",
        test=QUEUED_AGAIN,
    ),
    Mutant(
        "giving-way-uses-up-a-try",
        file="pipeline/slurm/script.py",
        old="""if [ "$code" = 143 ]; then""",
        new="""if [ -n "$asked" ] && [ "$code" = 143 ]; then""",
        test=QUEUED_AGAIN,
    ),
    Mutant(
        "a-batch-script-ends-before-its-step",
        file="pipeline/slurm/script.py",
        old='    lines += ["trap : TERM"]\n',
        new="",
        test=QUEUED_AGAIN,
    ),
    Mutant(
        "a-step-takes-the-partition-of-all",
        file="pipeline/config.py",
        old="        return wanted.model_copy(update=own.model_dump(exclude_none=True))\n",
        new="        return wanted if own else wanted\n",
        test=f"{JOBS}::test_a_script_asks_for_what_the_platform_says",
    ),
    Mutant(
        "an-array-of-workers-that-train-nothing",
        file="pipeline/slurm/sweep.py",
        old='str(int(job.name == "workers"))',
        new='str(int(job.name == "study"))',
        test=f"{SWEEP}::test_the_workers_are_an_array_behind_the_study",
    ),
    Mutant(
        "workers-do-not-wait-for-the-data",
        file="pipeline/slurm/sweep.py",
        old='Job("workers", (), ("study",), ',
        new='Job("workers", (), (), ',
        test=f"{SWEEP}::test_the_workers_are_an_array_behind_the_study",
    ),
    Mutant(
        "a-queued-sweep-forgets-what-set-said",
        file="pipeline/slurm/sweep.py",
        old="load_config(wanted.config_file, wanted.overrides)",
        new="load_config(wanted.config_file, [])",
        test=f"{SWEEP}::test_the_workers_are_an_array_behind_the_study",
    ),
    Mutant(
        "a-worker-is-killed-at-its-limit",
        file="pipeline/slurm/script.py",
        old='RESUMED = ("preprocess", "train", "study", "workers")',
        new='RESUMED = ("preprocess", "train", "study")',
        test=f"{SWEEP}::test_the_workers_are_an_array_behind_the_study",
    ),
    Mutant(
        "the-database-is-not-handed-on",
        file="pipeline/slurm/sweep.py",
        old="    if wanted.storage is not None:\n",
        new="    if wanted.storage is None:\n",
        test=f"{SWEEP}::test_a_database_is_handed_on_and_written_nowhere",
    ),
    Mutant(
        "a-sweep-of-an-empty-space-is-queued",
        file="pipeline/slurm/sweep.py",
        old="    load_space(wanted.space_file, train | {ENSEMBLE: 1})\n",
        new="",
        test=f"{SWEEP}::test_what_cannot_work_is_one_error_before_anything_is_queued",
    ),
]
