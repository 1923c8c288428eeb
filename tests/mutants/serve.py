"""The model behind the server: reading studies, answering in batches, metrics, and folders without a server."""

from tests.mutants.mutant import Mutant

FOREIGN = "tests/components/serve/test_foreign.py"
GOLDEN = "tests/components/serve/test_golden.py"
ONNX = "tests/components/serve/test_onnx_encoder.py"
PREDICT = "tests/components/serve/test_predict.py"
PREDICTOR = "tests/components/serve/test_predictor.py"
SELF_CHECK = "tests/components/serve/test_self_check.py"
SERVER = "tests/components/serve/test_server.py"
TELEMETRY = "tests/components/serve/test_telemetry.py"
WORKER = "tests/components/serve/test_worker.py"

MUTANTS = [
    Mutant(
        "a-server-answers-before-it-has-checked-itself",
        file="components/serve/server.py",
        old="            checked = check_self(predictor, tolerance=config.golden_tolerance)\n",
        new="            checked = 'unchecked'\n",
        test=f"{SELF_CHECK}::test_a_server_of_other_versions_answers_nobody",
    ),
    Mutant(
        "an-export-is-used-unchecked",
        file="components/serve/onnx_encoder.py",
        old="            if not difference <= _TOLERANCE:\n",
        new="            if False:\n",
        test=f"{ONNX}::test_an_export_that_answers_otherwise_is_not_used",
    ),
    Mutant(
        "all-encoders-share-one-export",
        file="components/serve/onnx_encoder.py",
        old="content_hash(key, str(size), made_by)",
        new="content_hash(str(size), made_by)",
        test=f"{ONNX}::test_a_machine_exports_an_encoder_once",
    ),
    Mutant(
        "the-engine-that-was-asked-for-is-not-used",
        file="components/serve/predictor.py",
        old='        if engine == "onnx":\n',
        new="        if False:\n",
        test=f"{ONNX}::test_every_study_is_answered_as_by_torch",
    ),
    Mutant(
        "other-pictures-count-as-drift",
        file="components/serve/telemetry.py",
        old="if found.in_distribution is False:",
        new="if False:",
        test=f"{FOREIGN}::test_other_pictures_are_counted_and_are_no_drift",
    ),
    Mutant(
        "any-site-reaches-a-server-on-this-machine",
        file="components/serve/server.py",
        old="is_open = not config.allowed_hosts and not ipaddress.ip_address(address).is_loopback",
        new="is_open = not config.allowed_hosts",
        test=f"{SERVER}::test_a_page_of_another_site_does_not_reach_a_server_on_this_machine",
    ),
    Mutant(
        "drift-is-from-even-shares-of-another-range",
        file="components/evaluate/calibration.py",
        old="edges, shares = tenths(probability_S)",
        new="edges, shares = tenths(score_S)",
        test=f"{TELEMETRY}::test_drift_is_seen_and_its_absence_too",
    ),
    Mutant(
        "drift-is-told-of-a-handful",
        file="components/serve/telemetry.py",
        old="if len(places) < LEAST_ANSWERS:",
        new="if not places:",
        test=f"{TELEMETRY}::test_drift_is_seen_and_its_absence_too",
    ),
    Mutant(
        "a-server-outlives-the-check-that-was-killed",
        file="components/serve/__main__.py",
        old="    if while_stdin_is_open:\n",
        new="    if not config:\n",
        test=f"{GOLDEN}::test_a_server_ends_with_the_process_that_checks_it",
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
        old="conditions = [condition_of(read.study) for",
        new='conditions = [condition_of(read.study) and "all" for',
        test=f"{PREDICTOR}::test_without_a_film_the_texts_operating_points_count",
    ),
    Mutant(
        "films-alone-are-cut-at-the-thresholds-of-all-inputs",
        file="components/cxr/operating_points.py",
        old='    return "image+meta" if metadata else "image"\n',
        new='    return "all"\n',
        test=f"{PREDICTOR}::test_every_test_study_is_answered_as_in_the_table_of_what_was_given",
    ),
    Mutant(
        "a-text-alone-is-answered-with-an-age-that-was-not-evaluated",
        file="components/serve/predictor.py",
        old="seen = [shown(read.study, condition) for",
        new="seen = [read.study for",
        test=f"{PREDICTOR}::test_a_text_alone_is_answered_as_it_was_evaluated",
    ),
    Mutant(
        "a-condition-without-a-pathology-is-served",
        file="components/cxr/operating_points.py",
        old="    for condition in CONDITIONS if pathologies else ():\n",
        new='    for condition in ("all",) if pathologies else ():\n',
        test=f"{PREDICTOR}::test_operating_points_that_make_no_sense_are_refused",
    ),
    Mutant(
        "the-report-of-another-evaluation-is-told",
        file="components/serve/metrics.py",
        old="    if found != expected:\n",
        new="    if found[0] != expected[0]:\n",
        test="tests/components/serve/test_metrics.py::test_a_report_that_is_missing_or_of_another_evaluation_is_refused",
    ),
    Mutant(
        "the-picture-is-always-of-the-models-size",
        file="components/serve/predictor.py",
        old='            preset = preset.model_copy(update={"size": size})\n',
        new="            size = preset.size\n",
        test="tests/components/serve/test_render.py::test_a_larger_picture_is_the_same_reading",
    ),
    Mutant(
        "studies-of-one-pass-get-the-first-ones-answers",
        file="components/serve/predictor.py",
        old="condition=condition, row=row)",
        new="condition=condition, row=0)",
        test=f"{PREDICTOR}::test_studies_in_one_pass_get_the_answers_that_each_gets_alone",
    ),
    Mutant(
        "a-study-that-fails-spoils-its-batch",
        file="components/serve/worker.py",
        old="            if len(batch) == 1:\n                batch[0][1].set_exception(error)\n",
        new="            if batch:\n                [job.set_exception(error) for _, job in batch]\n",
        test=f"{WORKER}::test_an_item_that_fails_does_not_spoil_the_others_of_its_batch",
    ),
    Mutant(
        "more-threads-run-the-model-than-are-wanted",
        file="components/serve/worker.py",
        old="ThreadPoolExecutor(max_workers=number,",
        new="ThreadPoolExecutor(max_workers=number + 1,",
        test=f"{WORKER}::test_functions_run_one_after_another",
    ),
    Mutant(
        "a-damaged-film-costs-its-whole-study",
        file="components/serve/predict_parts.py",
        old="                if error.film is None:\n",
        new="                if True:\n",
        test=f"{PREDICT}::test_the_table_has_the_servers_answers_and_says_what_was_left_out",
    ),
    Mutant(
        "parts-of-other-films-are-gone-on-with",
        file="components/serve/predict.py",
        old="or parts.read(_STARTED).data != key.encode()",
        new="",
        test=f"{PREDICT}::test_parts_of_other_films_are_not_gone_on_with",
    ),
    Mutant(
        "parts-of-two-commands-mix",
        file="components/serve/predict.py",
        old="            _check_ours(parts, key, out=out)\n",
        new="",
        test=f"{PREDICT}::test_a_command_stops_where_another_has_begun_another_table",
    ),
    Mutant(
        "a-text-beside-two-studies-is-read",
        file="components/serve/studies.py",
        old="if len(folders) == 1 else []",
        new="",
        test=f"{PREDICT}::test_the_table_has_the_servers_answers_and_says_what_was_left_out",
    ),
    Mutant(
        "a-told-age-is-not-used",
        file="components/serve/predict_parts.py",
        old="age_years=form.age_years, sex=form.sex)",
        new="sex=form.sex)",
        test=f"{PREDICT}::test_a_table_tells_texts_ages_and_sexes",
    ),
    Mutant(
        "answers-of-another-table-are-kept",
        file="components/serve/predict.py",
        old='"\\n".join(files), table)',
        new='"\\n".join(files))',
        test=f"{PREDICT}::test_a_table_tells_texts_ages_and_sexes",
    ),
    Mutant(
        "the-limit-of-drift-forgets-the-answers",
        file="components/serve/telemetry.py",
        old="    return 30.0 * (1 / answers + 1 / validation)\n",
        new="    return 30.0 * (1 / validation)\n",
        test=f"{TELEMETRY}::test_the_limit_of_drift_falls_with_the_number_of_answers",
    ),
    Mutant(
        "cautions-and-the-model-share-a-tokenizer",
        file="components/serve/predictor.py",
        old="copy.deepcopy(self.bundle.tokenizer)",
        new="self.bundle.tokenizer",
        test="tests/components/serve/test_seen.py::test_cautions_share_no_tokenizer_with_the_model",
    ),
    Mutant(
        "a-model-that-answers-nan-of-one-finding-is-served",
        file="components/serve/predictor.py",
        old="if not all(math.isfinite(found.probability)",
        new="if not any(math.isfinite(found.probability)",
        test="tests/components/serve/test_predictor.py::test_a_model_that_answers_with_nan_is_not_served",
    ),
    Mutant(
        "every-film-looks-unlike-one-where-the-first-does",
        file="components/serve/seen.py",
        old="found.foreign[i - 1] > 0",
        new="found.foreign[0] > 0",
        test="tests/components/serve/test_seen.py::test_the_film_that_looks_unlike_one_is_named_by_its_own_number",
    ),
    Mutant(
        "one-view-by-two-names-differs",
        file="components/serve/seen.py",
        old="            and VIEW_INDEX[view] != VIEW_INDEX[film.view_position]\n",
        new="            and view != film.view_position\n",
        test="tests/components/serve/test_seen.py::test_warnings",
    ),
]
