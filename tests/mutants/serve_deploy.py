"""Deploying, rolling back, seals, signatures, and the checks before anything is served."""

from tests.mutants.mutant import Mutant

DEPLOY = "tests/components/serve/test_deploy.py"
FOREIGN = "tests/components/serve/test_foreign.py"
GOLDEN = "tests/components/serve/test_golden.py"
KILLS = "tests/components/serve/test_kills.py"
ROLLBACK = "tests/components/serve/test_rollback.py"
ROLLOUT = "tests/components/serve/test_rollout.py"
SELF_CHECK = "tests/components/serve/test_self_check.py"
SEAL = "tests/components/serve/test_seal.py"
SHADOW = "tests/components/serve/test_shadow.py"
SIGNATURE = "tests/components/serve/test_signature.py"

MUTANTS = [
    Mutant(
        "the-check-of-a-cluster-wants-the-pods-certificate",
        file="components/serve/golden.py",
        old='    if config.target != "local":',
        new="    if False:",
        test="tests/components/serve/test_golden.py::"
        "test_the_check_of_a_cluster_needs_no_files_that_its_pods_alone_have",
    ),
    Mutant(
        "half-a-pointer-stays-for-ever",
        file="components/serve/deploy.py",
        old="    root.deployed().remove_partials()  # of a step that was killed, the pointer's too\n",
        new="",
        test=f"{KILLS}::test_a_killed_deployment_is_completed_by_the_next",
    ),
    Mutant(
        "a-check-that-was-killed-leaves-its-server",
        file="components/serve/golden.py",
        old='        command += ["--while-stdin-is-open"]\n',
        new="",
        test=f"{KILLS}::test_a_deployment_that_is_killed_in_its_check_leaves_no_server",
    ),
    Mutant(
        "a-challenger-that-is-behind-is-waited-for",
        file="components/serve/shadow.py",
        old="if not self._up or full or too_much:",
        new="if not self._up:",
        test=f"{SHADOW}::test_one_that_is_behind_or_dead_delays_nobody",
    ),
    Mutant(
        "a-challengers-death-goes-unnoticed",
        file="components/serve/shadow.py",
        old="                if server.process.poll() is not None:\n                    raise server.died()\n",
        new="",
        test=f"{SHADOW}::test_one_that_is_behind_or_dead_delays_nobody",
    ),
    Mutant(
        "a-challengers-difference-has-the-other-sign",
        file="components/serve/shadow_telemetry.py",
        old="observe(probability - ours[name].probability)",
        new="observe(ours[name].probability - probability)",
        test=f"{SHADOW}::test_its_differences_are_in_the_metrics_and_in_no_answer",
    ),
    Mutant(
        "an-answer-waits-for-the-challenger",
        file="components/serve/shadow.py",
        old="            await self.app(scope, receive, send)\n        finally:\n"
        "            _answered.reset(token)\n            for found in answered:\n                self.offer(found)\n",
        new="            self.offer(answered)\n            await self.app(scope, receive, send)\n        finally:\n"
        "            _answered.reset(token)\n",
        test=f"{SHADOW}::test_an_answer_is_passed_on_once_it_has_gone_out",
    ),
    Mutant(
        "a-signature-of-anything-will-do",
        file="components/serve/signature.py",
        old="key.verify(base64.b64decode(found.signature), _message(seal))",
        new="base64.b64decode(found.signature)",
        test=f"{SIGNATURE}::test_anything_else_is_one_clear_error",
    ),
    Mutant(
        "anybodys-signature-will-do",
        file="components/serve/signature.py",
        old="    if found.public_key != public_key:\n",
        new="    public_key = found.public_key\n    if found.public_key != public_key:\n",
        test=f"{SIGNATURE}::test_anything_else_is_one_clear_error",
    ),
    Mutant(
        "what-nobody-signed-is-deployed",
        file="components/serve/deploy.py",
        old="    points = _points(evaluation, report)\n    check_signed(config, bundle, evaluation)\n",
        new="    points = _points(evaluation, report)\n",
        test=f"{SIGNATURE}::test_an_unsigned_model_is_not_deployed",
    ),
    Mutant(
        "a-server-checks-its-network-and-not-its-way-there",
        file="components/serve/self_check.py",
        old="        found = _answered(predictor, probe, where=where)\n"
        "        wanted = answer(predictor.bundle, _logits(logits), predictor.points, condition=found.condition)\n",
        new="        found = _answered(predictor, probe, where=where)\n        wanted = found.answers\n",
        test=f"{SELF_CHECK}::test_whatever_changes_an_answer_is_seen",
    ),
    Mutant(
        "probes-ask-a-tls-server-by-http",
        file="components/serve/pod.py",
        old='{"scheme": "HTTPS"}',
        new="{}",
        test=f"{ROLLOUT}::test_keys_and_certificate_come_from_secrets_and_probes_ask_by_https",
    ),
    Mutant(
        "a-pods-secrets-are-not-mounted",
        file="components/serve/config.py",
        old="return [*super().volume_mounts(), *mounts]",
        new="return [*super().volume_mounts()]",
        test=f"{ROLLOUT}::test_keys_and_certificate_come_from_secrets_and_probes_ask_by_https",
    ),
    Mutant(
        "a-server-that-checked-nothing-says-that-all-is-well",
        file="components/serve/self_check.py",
        old='UNCHECKED = f"not checked',
        new='UNCHECKED = f"0 answers checked',
        test=f"{SELF_CHECK}::test_an_evaluation_without_them_is_not_deployed",
    ),
    Mutant(
        "mlflow-answers-for-any-picture",
        file="components/cxr/tracking/mlflow_model.py",
        old="self.film_check = load_film_check(evaluation)",
        new="self.film_check = None",
        test="tests/components/cxr/tracking/test_mlflow_model.py::test_a_film_that_is_no_chest_film_is_marked",
    ),
    Mutant(
        "mlflow-loads-what-was-not-sealed",
        file="components/cxr/tracking/mlflow_model.py",
        old="self.bundle = load_bundle(bundle, check=check)",
        new="self.bundle = load_bundle(bundle)",
        test="tests/components/cxr/tracking/test_mlflow_model.py::test_what_is_loaded_is_what_was_sealed",
    ),
    Mutant(
        "the-check-of-films-is-not-deployed",
        file="components/cxr/seal.py",
        old="check = (FILM_CHECK,) if evaluation.exists(FILM_CHECK) else ()",
        new="check: tuple[str, ...] = ()",
        test=f"{FOREIGN}::test_a_deployed_copy_has_the_check_and_misses_it",
    ),
    Mutant(
        "champion-moves-before-the-check",
        file="components/serve/deploy.py",
        old="    served = with_room(config, report)\n    with running_server(served, bundle, evaluation)",
        new="    if decision.registered_model and decision.challenger_version:\n"
        "        from components.cxr.tracking.registry import set_champion\n"
        "        set_champion(root, name=decision.registered_model, version=decision.challenger_version,"
        " expected=decision.champion_version)\n"
        "    served = with_room(config, report)\n    with running_server(served, bundle, evaluation)",
        test=f"{DEPLOY}::test_a_failed_check_leaves_the_champion_alone",
    ),
    Mutant(
        "a-model-is-in-service-without-a-check",
        file="components/serve/deploy.py",
        old="bundle, evaluation) as server:\n        check_served(config, server, report, manifest=manifest)\n",
        new="bundle, evaluation) as server:\n        assert server\n",
        test=f"{DEPLOY}::test_a_tampered_expectation_publishes_nothing",
    ),
    Mutant(
        "the-deployed-model-is-not-copied",
        file="components/serve/copies.py",
        old="                target.upload(folder / name, name)\n",
        new="                pass\n",
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
        old="        previous=current.replaced() if current else (),\n",
        new="        previous=(),\n",
        test=f"{DEPLOY}::test_the_model_that_was_compared_is_replaced",
    ),
    Mutant(
        "a-changed-file-is-served",
        file="components/cxr/seal.py",
        old="        if found != expected:\n",
        new="        if found is None:\n",
        test=f"{SEAL}::test_a_tampered_copy_is_one_clear_error_before_anything_is_loaded",
    ),
    Mutant(
        "a-file-is-loaded-before-it-is-checked",
        file="components/cxr/bundle.py",
        old="        files = file_hashes(folder)\n        if check is not None:\n            check(files)\n",
        new="        files = file_hashes(folder)\n        load_file(folder / WEIGHTS)\n"
        "        if check is not None:\n            check(files)\n",
        test=f"{SEAL}::test_a_tampered_copy_is_one_clear_error_before_anything_is_loaded",
    ),
    Mutant(
        "a-seal-that-was-made-anew-is-believed",
        file="components/cxr/seal.py",
        old="    if expected is not None and seal.hash != expected:\n",
        new="    if expected is not None and not seal.files:\n",
        test=f"{SEAL}::test_a_tampered_copy_is_one_clear_error_before_anything_is_loaded",
    ),
    Mutant(
        "what-a-killed-copy-left-counts",
        file="components/cxr/bundle_info.py",
        old=" if not path.name.startswith(PARTIAL))\n",
        new=")\n",
        test=f"{SEAL}::test_what_a_killed_copy_leaves_does_not_change_the_hash",
    ),
    Mutant(
        "a-copy-keeps-what-is-not-its-own",
        file="components/serve/copies.py",
        old="                target.delete(name)\n",
        new="                pass\n",
        test=f"{SEAL}::test_copies_that_were_killed_at_any_moment_are_made_whole",
    ),
    Mutant(
        "a-damaged-copy-is-left-as-it-is",
        file="components/serve/deploy.py",
        old="        make_copy(bundle, root.at(current.evaluation), copy, expected=current.seal)\n",
        new="        return\n",
        test=f"{DEPLOY}::test_deploying_again_repairs_the_copy_and_checks_it",
    ),
    Mutant(
        "a-repaired-copy-is-not-checked",
        file="components/serve/deploy.py",
        old="        report = load_report(copy)\n        with",
        new="        return\n        report = load_report(copy)\n        with",
        test=f"{DEPLOY}::test_deploying_again_repairs_the_copy_and_checks_it",
    ),
    Mutant(
        "the-pointer-holds-the-place-of-the-root",
        file="components/serve/deploy.py",
        old="        bundle=root.relative(target.uri),\n",
        new="        bundle=target.uri,\n",
        test=f"{DEPLOY}::test_a_moved_root_serves_what_it_holds",
    ),
    Mutant(
        "a-rollback-is-not-checked",
        file="components/serve/rollback.py",
        old="        check_served(config, server, report, manifest=manifest)\n",
        new="        assert server\n",
        test=f"{ROLLBACK}::test_a_model_before_that_cannot_be_checked_stays_away",
    ),
    Mutant(
        "a-rollback-leaves-the-champion",
        file="components/serve/rollback.py",
        old="    _tell_mlflow(root, deployment)\n",
        new="",
        test=f"{ROLLBACK}::test_champion_goes_back_too",
    ),
    Mutant(
        "a-rollback-forgets-the-models-before",
        file="components/serve/deployment.py",
        old="previous=self.previous[1:])",
        new="previous=())",
        test=f"{ROLLBACK}::test_the_models_before_are_kept_in_order",
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
        "the-report-is-not-deployed",
        file="components/serve/copies.py",
        old="    for name in (*left_by_evaluate(evaluation), REPORT):\n",
        new="    for name in left_by_evaluate(evaluation):\n",
        test=f"{DEPLOY}::test_deploy_publishes_what_answers_as_in_evaluation",
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
    Mutant(
        "a-model-in-service-is-deleted-when-its-pods-are-away",
        file="components/serve/deploy.py",
        old="root=root, current=current, published=lambda: False",
        new="root=root, current=None, published=lambda: False",
        test="tests/components/serve/test_deploy_cluster.py"
        "::test_a_model_in_service_is_not_taken_down_when_its_pods_are_away_for_a_while",
    ),
    Mutant(
        "changed-settings-do-not-reach-the-model-in-service",
        file="components/serve/rollout.py",
        old="_has(pod, _pod(config, engine, root, pod, deployment))",
        new="bool(pod)",
        test="tests/components/serve/test_deploy_cluster.py::test_changed_settings_reach_the_model_in_service",
    ),
    Mutant(
        "the-apis-spelling-of-an-amount-is-a-change",
        file="components/serve/rollout.py",
        old="found == wanted or (_quantity(found) == _quantity(wanted) is not None)",
        new="found == wanted",
        test="tests/components/serve/test_deploy_cluster.py::test_changed_settings_reach_the_model_in_service",
    ),
    Mutant(
        "settings-that-fail-stay-with-the-model-in-service",
        file="components/serve/rollout.py",
        old="if model == self._deployment.bundle_hash and self._current != self._deployment:",
        new="if model == self._deployment.bundle_hash:",
        test="tests/components/serve/test_deploy_cluster.py"
        "::test_a_model_in_service_is_not_taken_down_when_its_pods_are_away_for_a_while",
    ),
    Mutant(
        "another-evaluation-is-compared-with-the-deployed-seal",
        file="components/serve/__main__.py",
        old="    return current.seal if evaluation is None else None\n",
        new="    return current.seal\n",
        test="tests/components/serve/test_predict.py"
        "::test_another_evaluation_of_the_deployed_model_has_a_seal_of_its_own",
    ),
    Mutant(
        "probes-that-are-there-go-on-without-https",
        file="components/serve/pod.py",
        old="    _ask_as_served(server, config)\n",
        new="",
        test=f"{ROLLOUT}::test_probes_of_a_server_that_is_there_ask_as_it_speaks_from_now_on",
    ),
]
