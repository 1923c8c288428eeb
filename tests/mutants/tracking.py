"""MLflow runs, the journal beside them, and the registry."""

from tests.mutants.mutant import Mutant

TRACKING = "tests/components/cxr/tracking/test_tracking.py"
JOURNAL = "tests/components/cxr/tracking/test_journal.py"
EVALUATE = "tests/components/evaluate/test_tracked_evaluation.py"
REGISTRY = "tests/components/cxr/tracking/test_registry.py"

MUTANTS = [
    Mutant(
        "what-the-run-of-the-environment-missed-goes-into-the-trainings",
        file="components/evaluate/evaluate.py",
        old="run_id = given or (known",
        new="run_id = (known",
        test=f"{EVALUATE}::test_what_mlflow_missed_of_an_evaluation_is_told_by_the_next_step",
    ),
    Mutant(
        "the-run-of-the-sender-takes-what-another-step-missed",
        file="components/cxr/tracking/tracking.py",
        old='os.environ.get("MLFLOW_RUN_ID") if is_given is None else run_id if is_given else None',
        new='os.environ.get("MLFLOW_RUN_ID")',
        test=f"{EVALUATE}::test_what_mlflow_missed_of_an_evaluation_is_told_by_the_next_step",
    ),
    Mutant(
        "what-another-step-has-sent-ends-this-one",
        file="components/cxr/tracking/outbox.py",
        old="meanwhile\n            continue\n        if kind",
        new="meanwhile\n            raise\n        if kind",
        test=f"{TRACKING}::test_two_steps_may_send_one_outbox_at_once",
    ),
    Mutant(
        "a-model-that-was-deleted-ends-the-step-that-registers-it",
        file="components/cxr/tracking/outbox.py",
        old="if not bundle.exists(BUNDLE) or not all(evaluation.exists(name) for name in files):",
        new="if False:",
        test=f"{TRACKING}::test_a_model_that_is_no_longer_there_stays_out_of_the_registry_and_stops_no_step",
    ),
    Mutant(
        "a-training-that-mlflow-never-saw-stays-without-parameters",
        file="components/evaluate/evaluate.py",
        old='tracked.params(described["params"])',
        new="pass",
        test=f"{EVALUATE}::test_a_training_that_mlflow_never_heard_of_is_described_in_its_evaluations_run",
    ),
    Mutant(
        "replay-logs-what-the-run-has",
        file="components/cxr/tracking/tracked_run.py",
        old="missing = [metric for metric in metrics if (metric.name, metric.step) not in known]",
        new="missing = list(metrics)",
        test=f"{TRACKING}::test_replay_logs_exactly_what_is_missing",
    ),
    Mutant(
        "replay-knows-a-step-by-any-of-its-metrics",
        file="components/cxr/tracking/tracked_run.py",
        old="if (metric.name, metric.step) not in known]",
        new="if metric.step not in {step for _, step in known}]",
        test=f"{TRACKING}::test_replay_takes_each_metric_for_itself",
    ),
    Mutant(
        "a-line-behind-a-cut-one-is-lost",
        file="components/cxr/tracking/journal.py",
        old='            line = line if file.read(1) == b"\\n" else f"\\n{line}"\n',
        new="            file.read(1)\n",
        test=f"{JOURNAL}::test_a_line_cut_off_anywhere_costs_only_itself",
    ),
    Mutant(
        "a-resumed-training-logs-steps-twice",
        file="components/cxr/tracking/tracked_run.py",
        old="for name, value in values.items() if (name, step) not in self._journaled}",
        new="for name, value in values.items()}",
        test=f"{TRACKING}::test_a_resumed_training_logs_no_step_twice",
    ),
    Mutant(
        "a-failed-training-is-a-finished-run",
        file="components/cxr/tracking/tracking.py",
        old='    status = "FAILED"\n',
        new='    status = "FINISHED"\n',
        test=f"{TRACKING}::test_a_failure_is_a_failed_run_and_ctrl_c_a_killed_one",
    ),
    Mutant(
        "a-server-that-hangs-is-asked-again-at-once",
        file="components/cxr/tracking/tracked_run.py",
        old="now + max(PAUSE_S, 20 * (now - asked))",
        new="now + PAUSE_S",
        test=f"{TRACKING}::test_a_server_that_hangs_takes_a_twentieth_of_the_time_at_most",
    ),
    Mutant(
        "what-mlflow-missed-of-an-evaluation-is-lost",
        file="components/cxr/tracking/tracked_run.py",
        old="        if missed and self.outbox is not None:\n",
        new="        if missed and self.outbox is not None and kind == 'tags':\n",
        test=f"{EVALUATE}::test_what_mlflow_missed_of_an_evaluation_is_told_by_the_next_step",
    ),
    Mutant(
        "films-go-to-mlflow-unasked",
        file="components/evaluate/log.py",
        old='    if films and logged != f"{key} with films":\n',
        new='    if logged != f"{key} with films":\n',
        test=f"{EVALUATE}::test_films_go_to_mlflow_only_where_the_configuration_says_so",
    ),
    Mutant(
        "scores-belong-to-no-model",
        file="components/cxr/tracking/tracked_run.py",
        old="Metric(metric, value, time_ms, 0, model_id, name, digest)",
        new="Metric(metric, value, time_ms, 0, None, name, digest)",
        test=f"{EVALUATE}::test_scores_are_the_models_on_its_test_data",
    ),
    Mutant(
        "predictions-in-mlflow-have-ids",
        file="components/evaluate/log.py",
        old="pq.write_table(without_ids(predictions), buffer",
        new="pq.write_table(predictions, buffer",
        test=f"{EVALUATE}::test_predictions_in_mlflow_hold_no_ids_and_give_the_same_scores",
    ),
    Mutant(
        "a-scoring-server-reads-its-own-disk",
        file="components/cxr/tracking/mlflow_model.py",
        old="        if not served and len(text) <= MAX_PATH",
        new="        if len(text) <= MAX_PATH",
        test="tests/components/cxr/tracking/test_mlflow_model.py::test_a_server_takes_no_paths",
    ),
    Mutant(
        "what-the-closed-training-missed-is-logged-whole",
        file="components/cxr/tracking/tracked_run.py",
        old="own = run if of in (None, run.id) else TrackedRun(run.client, of, journal=None)",
        new="own = run",
        test=f"{EVALUATE}::test_under_kubeflow_a_task_logs_into_its_own_run_and_the_headline_into_the_pipelines",
    ),
    Mutant(
        "evaluation-logs-into-the-closed-run-of-the-training",
        file="components/cxr/tracking/tracking.py",
        old="    wanted = given or run_id\n",
        new="    wanted = run_id or given\n",
        test=f"{TRACKING}::test_the_environments_run_goes_before_the_one_that_a_bundle_names",
    ),
    Mutant(
        "a-run-that-kubeflow-has-closed-is-opened-again",
        file="components/cxr/tracking/tracking.py",
        old="        if parent and run.info.status in CLOSED:\n",
        new="        if parent and run.info.status not in CLOSED:\n",
        test=f"{TRACKING}::test_a_task_of_kubeflow_leaves_its_run_open_and_a_closed_one_alone",
    ),
    Mutant(
        "a-server-that-is-away-is-asked-at-every-step",
        file="components/cxr/tracking/tracked_run.py",
        old="self.missed, self._silent_until = True, now + max(PAUSE_S, 20 * (now - asked))",
        new="self.missed = True",
        test=f"{TRACKING}::test_a_server_that_goes_away_is_asked_again_later",
    ),
    Mutant(
        "the-password-of-the-server-is-printed",
        file="components/cxr/tracking/tracking.py",
        old="        place = without_secret(uri)\n",
        new="        place = uri\n",
        test=f"{TRACKING}::test_without_an_answer_the_journal_is_kept",
    ),
    Mutant(
        "the-journal-waits-for-mlflow",
        file="components/cxr/tracking/tracked_run.py",
        old="        if self.journal is not None:\n            append_metrics",
        new="        if self.journal is not None and self.id is not None:\n            append_metrics",
        test=f"{TRACKING}::test_without_an_answer_the_journal_is_kept",
    ),
    Mutant(
        "a-champion-made-meanwhile-is-replaced",
        file="components/cxr/tracking/registry.py",
        old="    if found != expected:\n",
        new="    if found is None and expected is not None:\n",
        test=f"{REGISTRY}::test_a_champion_made_meanwhile_is_not_replaced",
    ),
    Mutant(
        "the-same-bundle-is-registered-again",
        file="components/cxr/tracking/registry.py",
        old="        if found:\n            version, model_id",
        new="        if None:\n            version, model_id",
        test="tests/components/evaluate/test_evaluate.py::test_a_second_evaluation_reuses_the_first",
    ),
]
