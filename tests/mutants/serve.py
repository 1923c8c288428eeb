"""The server, the check before a deployment, and the order in which a deployment happens."""

from tests.mutants.mutant import Mutant

APP = "tests/components/serve/test_app.py"
DEPLOY = "tests/components/serve/test_deploy.py"
FORM = "tests/components/serve/test_form.py"
GOLDEN = "tests/components/serve/test_golden.py"
PREDICTOR = "tests/components/serve/test_predictor.py"
ROLLOUT = "tests/components/serve/test_rollout.py"
WORKER = "tests/components/serve/test_worker.py"

MUTANTS = [
    Mutant(
        "champion-moves-before-the-check",
        file="components/serve/deploy.py",
        old="    served = _with_room(config, report)\n    with running_server",
        new="    if decision.registered_model and decision.challenger_version:\n"
        "        set_champion(root, name=decision.registered_model, version=decision.challenger_version,"
        " expected=decision.champion_version)\n"
        "    served = _with_room(config, report)\n    with running_server",
        test=f"{DEPLOY}::test_a_failed_check_leaves_the_champion_alone",
    ),
    Mutant(
        "a-model-is-in-service-without-a-check",
        file="components/serve/deploy.py",
        old="bundle, evaluation) as server:\n        _check_answers(config, server, report, manifest=manifest)\n",
        new="bundle, evaluation) as server:\n        assert server\n",
        test=f"{DEPLOY}::test_a_tampered_expectation_publishes_nothing",
    ),
    Mutant(
        "the-deployed-model-is-not-copied",
        file="components/serve/deploy.py",
        old="    with local_folder(bundle) as folder:\n        target.upload_folder(folder)\n",
        new="",
        test=f"{DEPLOY}::test_deploy_publishes_what_answers_as_in_evaluation",
    ),
    Mutant(
        "a-deployment-in-the-meantime-is-overwritten",
        file="components/serve/deploy.py",
        old="        write_deployment(root, deployment, over=generation)\n",
        new="        write_deployment(root, deployment, over=read_deployment(root).generation)\n",
        test=f"{DEPLOY}::test_a_deployment_in_the_meantime_wins",
    ),
    Mutant(
        "a-model-that-lost-is-deployed",
        file="components/serve/deploy.py",
        old="    if not decision.promoted:\n",
        new="    if not decision.reason:\n",
        test=f"{DEPLOY}::test_what_was_not_decided_is_refused",
    ),
    Mutant(
        "a-comparison-with-another-champion-counts",
        file="components/serve/deploy.py",
        old="    if in_service != decision.champion_bundle:\n",
        new="    if in_service is None != decision.champion_bundle is None:\n",
        test=f"{DEPLOY}::test_a_stale_comparison_is_refused",
    ),
    Mutant(
        "the-deployment-forgets-which-model-it-replaced",
        file="components/serve/deploy.py",
        old="        previous=current.bundle_hash if current else None,\n",
        new="        previous=None,\n",
        test=f"{DEPLOY}::test_the_model_that_was_compared_is_replaced",
    ),
    Mutant(
        "an-answer-that-is-no-number-passes-the-check",
        file="components/serve/golden.py",
        old="        if not abs(found - expected) <= tolerance:\n",
        new="        if abs(found - expected) > tolerance:\n",
        test=f"{GOLDEN}::test_a_probability_that_is_no_number_is_found",
    ),
    Mutant(
        "the-check-believes-any-model",
        file="components/serve/golden.py",
        old='    if (found := model["bundle_hash"]) != report.bundle_hash:\n',
        new='    if not (found := model["bundle_hash"]):\n',
        test=f"{GOLDEN}::test_another_model_is_found",
    ),
    Mutant(
        "the-check-sends-the-first-film-alone",
        file="components/serve/golden.py",
        old=".slice(golden.row, golden.num_images).to_pylist()",
        new=".slice(golden.row, 1).to_pylist()",
        test=f"{GOLDEN}::test_a_faithful_server_passes",
    ),
    Mutant(
        "the-check-passes-with-nothing-compared",
        file="components/serve/golden.py",
        old="    if num_studies * 2 < len(report.golden):\n",
        new="    if num_studies > len(report.golden):\n",
        test=f"{GOLDEN}::test_texts_that_look_like_headers_are_left_out_but_not_too_many",
    ),
    Mutant(
        "a-report-is-pasted-whole-into-the-model",
        file="components/serve/predictor.py",
        old="        read = request_text(text, config=info.text, reader=info.section_reader)\n",
        new="        read = text.strip()\n",
        test=f"{PREDICTOR}::test_of_a_report_only_the_models_sections_are_read",
    ),
    Mutant(
        "a-newborns-age-is-taken-for-a-missing-one",
        file="components/serve/predictor.py",
        old="        if age_years is None:\n            age_years = next(",
        new="        if not age_years:\n            age_years = next(",
        test=f"{PREDICTOR}::test_header_fills_in_what_the_form_leaves_out",
    ),
    Mutant(
        "the-header-counts-before-the-form",
        file="components/serve/predictor.py",
        old="view_positions=[view or film.view_position for",
        new="view_positions=[film.view_position or view for",
        test=f"{PREDICTOR}::test_header_fills_in_what_the_form_leaves_out",
    ),
    Mutant(
        "text-alone-is-cut-at-the-films-thresholds",
        file="components/serve/predictor.py",
        old="        condition = condition_of(study)\n",
        new='        condition = condition_of(study) and "all"\n',
        test=f"{PREDICTOR}::test_without_a_film_the_texts_operating_points_count",
    ),
    Mutant(
        "one-film-more-than-allowed-is-taken",
        file="components/serve/fields.py",
        old="    if len(files) > config.max_files:\n",
        new="    if len(files) > config.max_files + 1:\n",
        test=f"{APP}::test_limits",
    ),
    Mutant(
        "a-json-body-of-marks-is-parsed",
        file="components/serve/json_body.py",
        old="        raise _damaged()\n    try:\n",
        new="        pass\n    try:\n",
        test="tests/components/serve/test_json_body.py::test_a_body_of_marks_is_refused_before_it_is_parsed",
    ),
    Mutant(
        "a-study-uid-may-be-a-name",
        file="components/serve/fields.py",
        old="    if len(text) > _MAX_UID_CHARS or not _UID.fullmatch(text):\n",
        new="    if len(text) > _MAX_UID_CHARS:\n",
        test="tests/components/serve/test_json_body.py::test_bad_json_is_refused_as_a_bad_form_is",
    ),
    Mutant(
        "no-finding-is-told-beside-a-finding",
        file="components/serve/seen.py",
        old='    if POSITIVE in states:\n        return "findings"\n',
        new="",
        test="tests/components/serve/test_seen.py::test_no_finding_never_contradicts_a_finding",
    ),
    Mutant(
        "an-answer-tells-the-auroc-of-all-inputs",
        file="components/serve/app.py",
        old="    metrics = predictor.metrics.get(found.condition)\n",
        new='    metrics = predictor.metrics.get("all")\n',
        test="tests/components/serve/test_metrics.py::test_an_answer_tells_the_auroc_of_its_own_condition",
    ),
    Mutant(
        "the-report-of-another-evaluation-is-told",
        file="components/serve/metrics.py",
        old="    if found != expected:\n",
        new="    if found[0] != expected[0]:\n",
        test="tests/components/serve/test_metrics.py::test_a_report_that_is_missing_or_of_another_evaluation_is_refused",
    ),
    Mutant(
        "the-report-is-not-deployed",
        file="components/serve/deploy.py",
        old="    for name in (OPERATING_POINTS, MODEL_CARD, REPORT):\n",
        new="    for name in (OPERATING_POINTS, MODEL_CARD):\n",
        test=f"{DEPLOY}::test_deploy_publishes_what_answers_as_in_evaluation",
    ),
    Mutant(
        "the-picture-is-always-of-the-models-size",
        file="components/serve/predictor.py",
        old='            preset = preset.model_copy(update={"size": size})\n',
        new="            size = preset.size\n",
        test="tests/components/serve/test_render.py::test_a_larger_picture_is_the_same_reading",
    ),
    Mutant(
        "a-film-over-the-limit-is-read",
        file="components/serve/fields.py",
        old="        if len(film) > config.max_file_bytes:\n",
        new="        if len(film) > config.max_request_bytes:\n",
        test=f"{APP}::test_limits",
    ),
    Mutant(
        "a-request-of-any-size-is-read",
        file="components/serve/form.py",
        old="    if num_bytes > max_bytes:\n",
        new="    if num_bytes > 2 * max_bytes:\n",
        test=f"{APP}::test_limits",
    ),
    Mutant(
        "a-request-without-end-is-read-for-ever",
        file="components/serve/form.py",
        old="            break\n",
        new="            pass\n",
        test=f"{FORM}::test_too_large_a_body_is_read_on_for_a_while_but_not_for_ever",
    ),
    Mutant(
        "films-of-a-request-touch-the-disk",
        file="components/serve/form.py",
        old="    spool_max_size = 1 << 62\n",
        new="    spool_max_size = 1 << 20\n",
        test=f"{FORM}::test_a_large_film_stays_in_memory",
    ),
    Mutant(
        "any-number-of-requests-waits-in-line",
        file="components/serve/app.py",
        old="        if places.locked():\n",
        new="        if places is None:\n",
        test=f"{APP}::test_beyond_the_places_a_request_is_sent_away_while_others_go_on",
        hangs=True,
        limit=30.0,
    ),
    Mutant(
        "a-stuck-server-says-that-it-is-ready",
        file="components/serve/app.py",
        old="status_code=503 if worker.stuck else 200)",
        new="status_code=200)",
        test=f"{APP}::test_an_overdue_answer_is_503_and_the_server_unready_until_it_comes",
    ),
    Mutant(
        "a-bugs-message-reaches-the-log",
        file="components/serve/guard.py",
        old="type(error).__name__, _place(error))",
        new="error, _place(error))",
        test=f"{APP}::test_a_bug_is_a_plain_500_and_leaves_its_message_out_of_the_log",
    ),
    Mutant(
        "more-threads-run-the-model-than-are-wanted",
        file="components/serve/worker.py",
        old="ThreadPoolExecutor(max_workers=number,",
        new="ThreadPoolExecutor(max_workers=number + 1,",
        test=f"{WORKER}::test_functions_run_one_after_another",
    ),
    Mutant(
        "a-rollout-is-done-when-the-pods-say-so",
        file="components/serve/rollout.py",
        old="agreeing = agreeing + 1 if found == self._deployment.bundle_hash else 0",
        new="agreeing = NUM_AGREEING",
        test=f"{ROLLOUT}::test_what_was_there_comes_back",
    ),
    Mutant(
        "a-failed-rollout-is-left-as-it-is",
        file="components/serve/rollout.py",
        old="        for step in reversed(self._undo):\n",
        new="        for step in self._undo[:0]:\n",
        test=f"{ROLLOUT}::test_a_first_rollout_that_fails_leaves_nothing",
    ),
]
