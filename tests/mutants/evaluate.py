"""Scores, intervals, calibration, thresholds, promotion, and the keys of evaluations."""

from tests.mutants.mutant import Mutant

FOLDER = "tests/components/evaluate"
BOOTSTRAP = f"{FOLDER}/test_bootstrap.py"
CALIBRATION = f"{FOLDER}/test_calibration.py"
METRICS = f"{FOLDER}/test_metrics.py"
PROMOTION = f"{FOLDER}/test_promotion.py"
CONFIG = f"{FOLDER}/test_config.py"
AGREEMENT = f"{FOLDER}/test_agreement.py"

MUTANTS = [
    Mutant(
        "resamples-draw-rows-in-place-of-patients",
        file="components/evaluate/bootstrap.py",
        old="names, patient_N = np.unique(np.asarray(patients), return_inverse=True)",
        new="names, patient_N = np.unique(np.arange(len(patients)), return_inverse=True)",
        test=f"{BOOTSTRAP}::test_a_drawn_patient_brings_all_rows",
    ),
    Mutant(
        "ties-count-for-nothing",
        file="components/evaluate/bootstrap.py",
        old='not_above_M = np.searchsorted(negative_K, score_N[positive_N], side="right")',
        new='not_above_M = np.searchsorted(negative_K, score_N[positive_N], side="left")',
        test=f"{BOOTSTRAP}::test_weighted_auroc_is_sklearns_with_ties_and_weights",
    ),
    Mutant(
        "a-resample-without-a-class-scores-0",
        file="components/evaluate/bootstrap.py",
        old="np.divide(won_R, pairs_R, out=np.full_like(won_R, np.nan), where=pairs_R > 0)",
        new="np.divide(won_R, pairs_R, out=np.zeros_like(won_R), where=pairs_R > 0)",
        test=f"{BOOTSTRAP}::test_weighted_auroc_is_nan_where_a_class_has_no_weight",
    ),
    Mutant(
        "rows-that-the-protocol-leaves-out-are-negatives",
        file="components/evaluate/bootstrap.py",
        old="            known_N = truth_NP[:, p] != BLANK\n",
        new="            known_N = np.ones(len(truth_NP), dtype=bool)\n",
        test=f"{BOOTSTRAP}::test_rows_that_the_protocol_leaves_out_do_not_count",
    ),
    Mutant(
        "two-models-are-compared-on-two-draws",
        file="components/evaluate/bootstrap.py",
        old="    rng = np.random.default_rng(seed)\n",
        new="    rng = np.random.default_rng()\n",
        test=f"{BOOTSTRAP}::test_equal_models_have_no_difference_in_any_resample",
    ),
    Mutant(
        "the-interval-covers-half",
        file="components/evaluate/bootstrap.py",
        old="np.percentile(defined, [2.5, 97.5])",
        new="np.percentile(defined, [25.0, 75.0])",
        test=f"{BOOTSTRAP}::test_the_interval_covers_the_truth_about_95_times_in_100",
    ),
    Mutant(
        "calibration-turns-ranks-around",
        file="components/evaluate/calibration.py",
        old="bounds=[(SMALLEST_SLOPE, None), (None, None)]",
        new="bounds=[(None, None), (None, None)]",
        test=f"{CALIBRATION}::test_the_slope_stays_positive_so_that_ranks_stay",
    ),
    Mutant(
        "calibration-has-no-prior",
        file="components/evaluate/calibration.py",
        old="        return float(value + prior), gradient\n",
        new="        return float(value), gradient - np.array([slope - 1.0, intercept])\n",
        test=f"{CALIBRATION}::test_few_scores_are_shrunk_toward_the_identity",
    ),
    Mutant(
        "of-equal-cuts-the-lowest",
        file="components/evaluate/calibration.py",
        old="best = len(gain_K) - 1 - int(np.argmax(np.round(gain_K[::-1], 12)))",
        new="best = int(np.argmax(np.round(gain_K, 12)))",
        test=f"{CALIBRATION}::test_of_equal_cuts_the_highest",
    ),
    Mutant(
        "a-threshold-stands-on-a-probability",
        file="components/evaluate/calibration.py",
        old="    return float((values_K[best - 1] + values_K[best]) / 2)\n",
        new="    return float(values_K[best])\n",
        test=f"{CALIBRATION}::test_the_threshold_is_the_best_cut",
    ),
    Mutant(
        "metrics-cut-the-uncalibrated-probability",
        file="components/evaluate/metrics.py",
        old="    answer = probability >= point.threshold\n",
        new="    answer = 1 / (1 + np.exp(-score_N[known_N])) >= point.threshold\n",
        test=f"{METRICS}::test_the_threshold_is_on_the_calibrated_probability",
    ),
    Mutant(
        "an-undefined-score-is-0",
        file="components/evaluate/metrics.py",
        old="    return None if np.isnan(value) else float(value)\n",
        new="    return 0.0 if np.isnan(value) else float(value)\n",
        test=f"{METRICS}::test_without_a_positive_answer_precision_is_none_and_f1_is_zero",
    ),
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
        old="    if comparison.difference_ci.low > bound:\n",
        new="    if comparison.difference > bound:\n",
        test=f"{PROMOTION}::test_the_lower_bound_of_the_difference_decides",
    ),
    Mutant(
        "a-tie-is-a-promotion",
        file="components/evaluate/promotion.py",
        old="    if comparison.difference_ci.low > bound:\n",
        new="    if comparison.difference_ci.low >= bound:\n",
        test=f"{PROMOTION}::test_the_lower_bound_of_the_difference_decides",
    ),
    Mutant(
        "the-first-model-is-promoted-whatever-it-scores",
        file="components/evaluate/promotion.py",
        old="        if mean.auroc_ci.low > CHANCE:\n",
        new="        if mean.auroc > CHANCE:\n",
        test=f"{PROMOTION}::test_the_first_model_must_beat_chance",
    ),
    Mutant(
        "uncertain-agrees-with-positive",
        file="components/evaluate/agreement.py",
        old="first_N, second_N = first_NP[:, p] == POSITIVE, second_NP[:, p] == POSITIVE",
        new="first_N, second_N = abs(first_NP[:, p]) == POSITIVE, abs(second_NP[:, p]) == POSITIVE",
        test=f"{AGREEMENT}::test_blank_and_uncertain_are_not_positive",
    ),
]
