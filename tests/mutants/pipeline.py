"""The DAG, what is compiled from it, the local run, and the synthetic data."""

from tests.mutants.mutant import Mutant

DAG = "tests/pipeline/test_dag.py"
COMPILE = "tests/pipeline/test_compile.py"
CONFIG = "tests/pipeline/test_config.py"
RUN = "tests/pipeline/test_run.py"
LABELS = "tests/pipeline/synthetic/tables/test_labels.py"
SPLITS = "tests/pipeline/synthetic/tables/test_splits.py"
SUBMIT = "tests/pipeline/test_submit.py"

MUTANTS = [
    Mutant(
        "an-endless-timeout-comes-to-the-step-as-the-default",
        file="components/cxr/config.py",
        old="validate_default=True, allow_inf_nan=False",
        new="validate_default=True",
        test="tests/pipeline/test_config.py::test_every_number_is_finite",
    ),
    Mutant(
        "a-second-run-empties-the-first-ones-log",
        file="pipeline/run.py",
        old="fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)",
        new="return",
        test="tests/pipeline/test_run.py::test_two_runs_do_not_write_one_log",
    ),
    Mutant(
        "a-version-is-found-among-the-newest-only",
        file="pipeline/submit.py",
        old="list_pipeline_versions(pipeline_id, filter=_named(version))",
        new='list_pipeline_versions(pipeline_id, page_size=100, sort_by="created_at desc")',
        test="tests/pipeline/test_submit.py::test_a_version_is_found_among_any_number",
    ),
    Mutant(
        "doctor-ends-with-a-traceback-at-another-protocol",
        file="pipeline/doctor.py",
        old="except (http.client.HTTPException, OSError) as error:",
        new="except OSError as error:",
        test="tests/pipeline/test_doctor.py::test_a_port_where_nobody_speaks_http_is_told",
    ),
    Mutant(
        "another-servers-pages-are-taken-for-these",
        file="pipeline/mlflow_ui.py",
        old='socket.create_server(("127.0.0.1", port)).close()',
        new="pass",
        test="tests/pipeline/test_mlflow_ui.py::test_a_port_that_is_taken_is_one_line",
    ),
    Mutant(
        "a-section-that-is-there-twice-counts-in-part",
        file="components/cxr/config.py",
        old="if name.value in names:",
        new="if False:",
        test="tests/components/cxr/test_config.py::test_bad_yaml",
    ),
    Mutant(
        "sigterm-leaves-the-step-to-itself",
        file="pipeline/run.py",
        old="before = {each: signal.signal(each, end) for each in on}",
        new="before = {each: signal.getsignal(each) for each in on}",
        test="tests/pipeline/test_run.py::test_sigterm_ends_the_step_too_which_leaves_a_checkpoint",
    ),
    Mutant(
        "doctor-and-docker-miss-an-archive-that-is-there",
        file="pipeline/places.py",
        old="(Path(archive.folder, archive.name) if archive else Path(place))",
        new="Path(place)",
        test="tests/pipeline/test_docker.py::test_archives_and_lists_of_splits_are_mounted",
    ),
    Mutant(
        "what-a-pacs-search-finds-is-lost-with-its-container",
        file="pipeline/docker.py",
        old='    if found is not None and "://" not in found:\n',
        new="    if False:\n",
        test="tests/pipeline/test_docker.py::test_what_a_pacs_search_finds_outlives_its_container",
    ),
    Mutant(
        "deploy-runs-if-the-model-lost",
        file="pipeline/dag.py",
        old='evaluated.outputs["Output"] == True',
        new='evaluated.outputs["Output"] == False',
        test=f"{DAG}::test_deploy_happens_only_if_promoted",
    ),
    Mutant(
        "one-partition-is-preprocessed-of-many",
        file="pipeline/dag.py",
        old="dsl.ParallelFor(list(range(partitions)),",
        new="dsl.ParallelFor(list(range(1)),",
        test=f"{DAG}::test_steps_follow_each_other",
    ),
    Mutant(
        "every-partition-thinks-it-is-the-only-one",
        file="pipeline/dag.py",
        old="part = preprocess_step(**source, partition=partition, num_partitions=partitions)",
        new="part = preprocess_step(**source, partition=partition, num_partitions=1)",
        test=f"{DAG}::test_each_step_gets_its_own_section_and_the_results_before_it",
    ),
    Mutant(
        "train-gets-the-configuration-of-evaluate",
        file="pipeline/dag.py",
        old="trained = train_step(root=root, config=train, manifest=manifest, pipeline_run=this_run)",
        new="trained = train_step(root=root, config=evaluate, manifest=manifest, pipeline_run=this_run)",
        test=f"{DAG}::test_each_step_gets_its_own_section_and_the_results_before_it",
    ),
    Mutant(
        "kfps-cache-answers-for-a-step",
        file="pipeline/placement.py",
        old="    task.set_caching_options(False)\n",
        new="    task.set_caching_options(True)\n",
        test=f"{DAG}::test_kfps_cache_is_off_everywhere",
    ),
    Mutant(
        "the-configured-image-is-not-the-one-that-runs",
        file="pipeline/config.py",
        old='return self.images.get(step, f"cxrflow-{step}:latest")',
        new='return f"cxrflow-{step}:latest"',
        test=f"{DAG}::test_images_are_the_steps_own_and_nothing_is_installed_at_run_time",
    ),
    Mutant(
        "a-secret-reaches-every-step",
        file="pipeline/placement.py",
        old="        if step in secret.steps:\n",
        new="        if secret.steps:\n",
        test=f"{COMPILE}::test_a_secret_reaches_the_steps_that_may_see_it_and_not_the_yaml",
    ),
    Mutant(
        "a-failed-task-is-not-tried-again",
        file="pipeline/placement.py",
        old="    task.set_retry(retries.count, ",
        new="    task.set_retry(0, ",
        test=f"{COMPILE}::test_every_task_is_retried_with_backoff_and_has_the_environment",
    ),
    Mutant(
        "training-has-no-shared-memory",
        file="pipeline/placement.py",
        old='    if step == "train" or wanted.gpus:',
        new="    if wanted.gpus:",
        test=f"{COMPILE}::test_dev_shm_is_there_without_any_configuration",
    ),
    Mutant(
        "nulls-reach-kfps-parameters",
        file="pipeline/config.py",
        old='config.model_dump(mode="json", exclude_none=True)',
        new='config.model_dump(mode="json")',
        test=f"{CONFIG}::test_arguments_hold_nothing_that_kfp_refuses",
    ),
    Mutant(
        "a-run-succeeds-though-deploy-left-nothing",
        file="pipeline/run.py",
        old='        expected.append("deploy")\n',
        new="        pass\n",
        test=f"{RUN}::test_a_run_succeeds_only_if_every_task_left_its_result",
    ),
    Mutant(
        "a-run-succeeds-though-a-partition-left-nothing",
        file="pipeline/run.py",
        old='expected = ["preprocess"] * num_partitions + ',
        new='expected = ["preprocess"] * names.count("preprocess") + ',
        test=f"{RUN}::test_a_run_succeeds_only_if_every_task_left_its_result",
    ),
    Mutant(
        "every-submit-is-a-new-pipeline-version",
        file="pipeline/submit.py",
        old="version = content_hash(json.dumps(",
        new="version = content_hash(str(time.time_ns()), json.dumps(",
        test=f"{SUBMIT}::test_only_a_changed_pipeline_is_a_new_version",
    ),
    Mutant(
        "the-labeler-lets-absent-outrank-possible",
        file="pipeline/synthetic/tables/labeler.py",
        old="_RANK = (NEGATIVE, UNCERTAIN, POSITIVE)",
        new="_RANK = (UNCERTAIN, NEGATIVE, POSITIVE)",
        test=f"{LABELS}::test_the_labeler_reads_words",
    ),
    Mutant(
        "the-labeler-reads-the-findings-before-the-impression",
        file="pipeline/synthetic/tables/labeler.py",
        old='for wanted in ("IMPRESSION", "FINDING"):',
        new='for wanted in ("FINDING", "IMPRESSION"):',
        test=f"{LABELS}::test_the_labeler_reads_the_impression_before_the_findings_and_never_the_request",
    ),
    Mutant(
        "the-labeler-reads-the-request",
        file="pipeline/synthetic/tables/labeler.py",
        old="for name, part in parts if not _ASKED.search(name))",
        new="for name, part in parts)",
        test=f"{LABELS}::test_the_labeler_reads_the_impression_before_the_findings_and_never_the_request",
    ),
    Mutant(
        "the-labelers-devices-forbid-no-finding",
        file="pipeline/synthetic/tables/labeler.py",
        old="any(state != NEGATIVE for name, state in states.items() if name != SUPPORT_DEVICES)",
        new="any(state != NEGATIVE for name, state in states.items())",
        test=f"{LABELS}::test_the_labeler_reads_words",
    ),
    Mutant(
        "synthetic-splits-ignore-the-floor-of-positives",
        file="pipeline/synthetic/tables/splits.py",
        old="        lacking_SK[test] += extra_K\n",
        new="",
        test=f"{SPLITS}::test_at_the_demos_size_the_floor_leaves_15_of_each_kind_to_test",
    ),
    Mutant(
        "a-film-size-is-refused-after-preprocess-alone",
        file="pipeline/__main__.py",
        old='    check_encoders(pipeline, here=runner != "docker")\n',
        new="",
        test="tests/pipeline/test_encoders.py::test_the_commands_say_it_before_they_read_anything",
    ),
    Mutant(
        "weights-that-only-containers-see-are-refused",
        file="pipeline/encoders.py",
        old="return here or encoder.pretrained is None or",
        new="return True or",
        test="tests/pipeline/test_encoders.py::test_weights_of_a_folder_are_looked_at_and_those_elsewhere_by_who_sees_them",
    ),
]
