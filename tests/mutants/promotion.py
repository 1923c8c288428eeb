"""The decision: its checks, what they are made of, who else has decided, and who may overwrite what."""

from tests.mutants.mutant import Mutant

FOLDER = "tests/components/evaluate"
PROMOTION = f"{FOLDER}/test_promotion.py"
DECIDED = f"{FOLDER}/test_decided.py"
STEP = f"{FOLDER}/test_evaluate.py::test_the_deployed_model_decides_the_next"

MUTANTS = [
    Mutant(
        "a-leaky-model-is-promoted",
        file="components/evaluate/promotion.py",
        old="    if report.leaky:\n",
        new="    if report.leaky and comparison is not None:\n",
        test=f"{PROMOTION}::test_a_leaky_model_is_never_promoted",
    ),
    Mutant(
        "the-difference-decides-without-its-interval",
        file="components/evaluate/promotion.py",
        old="passed = ci is not None and ci.low > bound",
        new="passed = value is not None and value > bound",
        test=f"{PROMOTION}::test_the_lower_bound_of_the_difference_decides",
    ),
    Mutant(
        "a-tie-is-a-promotion",
        file="components/evaluate/promotion.py",
        old="passed = ci is not None and ci.low > bound",
        new="passed = ci is not None and ci.low >= bound",
        test=f"{PROMOTION}::test_the_lower_bound_of_the_difference_decides",
    ),
    Mutant(
        "the-first-model-is-promoted-whatever-it-scores",
        file="components/evaluate/promotion.py",
        old="ci=ci, p_value=None), config.min_auroc)",
        new="ci=ci, p_value=None), 0.0)",
        test=f"{PROMOTION}::test_the_first_model_must_beat_chance",
    ),
    Mutant(
        "a-better-guess-from-text-is-promoted",
        file="components/evaluate/promotion.py",
        old='        _check("films", "low_above", comparison.films, -config.max_film_drop),\n',
        new='        _check("films", "low_above", comparison.mean, -config.max_film_drop),\n',
        test=f"{PROMOTION}::test_films_alone_must_be_shown_to_lose_little",
    ),
    Mutant(
        "a-pathology-that-only-looks-worse-stops-a-model",
        file="components/evaluate/promotion.py",
        old="(value >= bound or (ci is not None and ci.high >= 0.0))",
        new="value >= bound",
        test=f"{PROMOTION}::test_a_pathology_that_is_shown_to_lose_much_stops_the_promotion",
    ),
    Mutant(
        "any-loss-of-a-pathology-stops-a-model",
        file="components/evaluate/promotion.py",
        old="(value >= bound or (ci is not None and ci.high >= 0.0))",
        new="ci is not None and ci.high >= 0.0",
        test=f"{PROMOTION}::test_a_pathology_that_is_shown_to_lose_much_stops_the_promotion",
    ),
    Mutant(
        "calibration-that-only-looks-worse-stops-a-model",
        file="components/evaluate/promotion.py",
        old="(value <= bound or (ci is not None and ci.low <= 0.0))",
        new="value <= bound",
        test=f"{PROMOTION}::test_calibration_must_not_be_shown_to_get_much_worse",
    ),
    Mutant(
        "subgroups-are-only-reported",
        file="components/evaluate/promotion.py",
        old="            for name, found in comparison.subgroups.items()\n",
        new="            for name, found in comparison.subgroups.items()\n            if found.ci is None\n",
        test=f"{PROMOTION}::test_a_subgroup_that_is_shown_to_lose_much_stops_the_promotion",
    ),
    Mutant(
        "what-cannot-be-compared-replaces-what-is-deployed",
        file="components/evaluate/promotion.py",
        old="        if not config.force:\n",
        new='        if config.policy != "superior":\n',
        test=f"{PROMOTION}::test_what_cannot_be_compared_stays_unless_forced",
    ),
    Mutant(
        "a-check-that-fails-is-only-told",
        file="components/evaluate/promotion.py",
        old="    if failed := [_failure(check) for check in others if not check.passed]:\n",
        new='    if (failed := [_failure(check) for check in others if not check.passed]) and config.policy == "x":\n',
        test=f"{PROMOTION}::test_films_alone_must_be_shown_to_lose_little",
    ),
    Mutant(
        "another-policy-is-no-new-judgment",
        file="components/evaluate/decided.py",
        old="content_hash(json.dumps(judged), config.canonical_json())",
        new="content_hash(json.dumps(judged))",
        test=f"{DECIDED}::test_another_model_champion_or_policy_is_one_more",
    ),
    Mutant(
        "every-judgment-of-one-model-is-the-same",
        file="components/evaluate/decided.py",
        old='    judged = {"evaluation": evaluation, "champion": champion}\n',
        new='    judged = {"evaluation": evaluation}\n',
        test=f"{DECIDED}::test_another_model_champion_or_policy_is_one_more",
    ),
    Mutant(
        "of-two-decisions-at-once-the-last-stays",
        file="components/cxr/decision.py",
        old="data.encode(), if_generation=over)",
        new="data.encode())",
        test="tests/components/cxr/test_decision.py"
        "::test_of_two_decisions_at_once_the_first_stays_and_the_second_is_told",
    ),
    Mutant(
        "a-challenger-made-meanwhile-is-replaced",
        file="components/cxr/tracking/registry.py",
        old="        if now in (instead_of, version):\n",
        new="        if version:\n",
        test="tests/components/cxr/tracking/test_registry.py"
        "::test_of_two_evaluations_at_once_one_is_challenger_and_the_other_is_told",
    ),
    Mutant(
        "a-finding-of-few-patients-stops-a-model",
        file="components/evaluate/champion.py",
        old="if supported(truth_SP[:, p], patient_S)\n",
        new="if len(patient_S)\n",
        test=STEP,
    ),
    Mutant(
        "the-champion-is-calibrated-by-nothing",
        file="components/evaluate/champion.py",
        old='points.conditions["all"][name].calibration)',
        new='type(points.conditions["all"][name].calibration)())',
        test=STEP,
    ),
    Mutant(
        "a-finding-that-nobody-has-decides-the-comparison",
        file="components/evaluate/gains.py",
        old="for name in headline if name in found]",
        new="for name in headline]",
        test=f"{FOLDER}/test_gains.py::test_a_finding_of_the_headline_that_nobody_has_takes_no_part",
    ),
    Mutant(
        "the-comparison-is-resampled-by-study",
        file="components/evaluate/champion.py",
        old="        patients=rows.patients,\n        names=pathologies,\n",
        new="        patients=rows.studies,\n        names=pathologies,\n",
        test=f"{FOLDER}/test_score.py::test_agreement_and_the_comparison_are_resampled_by_patient",
    ),
    Mutant(
        "calibration-is-compared-on-two-draws",
        file="components/evaluate/calibration_change.py",
        old="    difference_R = one_R - other_R\n",
        new="    difference_R = one_R - other_R[np.r_[0, num_resamples:0:-1]]\n",
        test=f"{FOLDER}/test_calibration_change.py::test_it_is_the_metrics_difference_in_the_sample_and_in_resamples",
    ),
    Mutant(
        "a-champion-is-compared-on-its-own-training-patients",
        file="components/evaluate/champion.py",
        old="fair_S = ~found.test.trained_on_S",
        new="fair_S = ~found.test.trained_on_S | True",
        test=f"{FOLDER}/test_predictions.py::test_a_deployed_model_is_compared_on_the_patients_that_it_does_not_know",
    ),
    Mutant(
        "a-subgroup-is-compared-on-the-studies-of-another",
        file="components/evaluate/champion.py",
        old="inside_S[fair_S]\n",
        new="inside_S[: fair_S.sum()]\n",
        test="tests/components/evaluate/test_predictions.py::test_two_models_are_compared_study_by_study_whoever_is_left_out",
    ),
    Mutant(
        "two-models-are-compared-in-two-orders",
        file="components/evaluate/champion.py",
        old="order_S = [row[study] for study in test.rows.studies]",
        new="order_S = list(row.values())",
        test="tests/components/evaluate/test_predictions.py::test_two_models_are_compared_study_by_study_whoever_is_left_out",
    ),
    Mutant(
        "a-deployed-model-reads-films-of-another-preset",
        file="components/evaluate/champion.py",
        old="    check_same_pixels(champion.info, manifest.manifest, where=manifest.storage.uri)\n",
        new="",
        test="tests/components/evaluate/test_predictions.py::test_a_deployed_model_of_other_pixels_is_not_compared",
    ),
    Mutant(
        "findings-beside-the-headline-decide-the-comparison",
        file="components/evaluate/champion.py",
        old="headline = config.headline or tuple(pathologies)",
        new="headline = tuple(pathologies)",
        test="tests/components/evaluate/test_score.py::test_the_comparison_is_over_the_headline_alone",
    ),
    Mutant(
        "a-subgroup-counts-findings-of-three-of-its-patients",
        file="components/evaluate/champion.py",
        old="supported(inside_SP[:, list(pathologies).index(n)], patient_S)",
        new="supported(truth_SP[:, list(pathologies).index(n)], patient_S)",
        test="tests/components/evaluate/test_score.py::test_a_subgroup_is_compared_by_what_enough_of_its_patients_have",
    ),
    Mutant(
        "films-without-an-interval-pass",
        file="components/evaluate/promotion.py",
        old="passed = ci is not None and ci.low > bound",
        new="passed = ci is None or ci.low > bound",
        test="tests/components/evaluate/test_promotion.py::test_what_nobody_could_compute_shows_nothing",
    ),
    Mutant(
        "a-loss-that-is-undefined-passes",
        file="components/evaluate/promotion.py",
        old="passed = value is not None and (value >= bound",
        new="passed = value is None or (value >= bound",
        test="tests/components/evaluate/test_promotion.py::test_what_nobody_could_compute_shows_nothing",
    ),
]
