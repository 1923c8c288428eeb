"""Scores of anybody's table, comparisons of two, and a model on another data set."""

from tests.mutants.mutant import Mutant

FOLDER = "tests/components/evaluate"
EXTERNAL = f"{FOLDER}/test_external.py"
SCORE_FILE = f"{FOLDER}/test_score_file.py"

MUTANTS = [
    Mutant(
        "an-unsought-finding-counts-as-negative-elsewhere",
        file="components/evaluate/external.py",
        old='[f"label/{name}" for name in ours if name not in sources]',
        new="[]",
        test=f"{EXTERNAL}::test_a_study_has_evaluations_scores_and_the_labels_that_mean_the_same",
    ),
    Mutant(
        "a-finding-on-one-side-is-denied-by-the-other",
        file="components/evaluate/external.py",
        old="state_SP[(of_it == state).any(axis=1), p] = state",
        new="state_SP[(of_it == state).all(axis=1), p] = state",
        test=f"{EXTERNAL}::test_a_study_has_evaluations_scores_and_the_labels_that_mean_the_same",
    ),
    Mutant(
        "patients-of-the-training-are-scored-elsewhere",
        file="components/evaluate/external.py",
        old="kept = np.flatnonzero(~seen_S & studies.labeled_S).tolist()",
        new="kept = np.flatnonzero(studies.labeled_S).tolist()",
        test=f"{EXTERNAL}::test_a_study_has_evaluations_scores_and_the_labels_that_mean_the_same",
    ),
    Mutant(
        "films-without-texts-are-judged-as-if-they-had-some",
        file="components/evaluate/external.py",
        old="        condition=found.condition,\n        metric",
        new="        metric",
        test=f"{EXTERNAL}::test_films_without_texts_are_scored_as_they_would_be_served",
    ),
    Mutant(
        "two-places-share-their-patients-ids",
        file="components/evaluate/external.py",
        old="keys = (None, theirs.id_key_fingerprint) if same_patients else (None,)",
        new="keys = (None, theirs.id_key_fingerprint)",
        test=f"{EXTERNAL}::test_equal_ids_are_one_person_only_where_that_is_said",
    ),
    Mutant(
        "films-do-not-count-beside-ids",
        file="components/evaluate/external.py",
        old="keys = (None, theirs.id_key_fingerprint) if same_patients else (None,)",
        new="keys = (theirs.id_key_fingerprint,) if same_patients else (None,)",
        test=f"{EXTERNAL}::test_a_known_film_under_another_id_is_left_out_whatever_is_said_of_ids",
    ),
    Mutant(
        "what-the-second-table-says-is-labeled-is-ignored",
        file="components/evaluate/score_file.py",
        old="first = first._replace(labeled_N=second.labeled_N)",
        new="pass",
        test=f"{SCORE_FILE}::test_what_one_table_says_is_labeled_holds_for_both_whichever_comes_first",
    ),
    Mutant(
        "a-row-of-unknown-labeling-counts-as-labeled",
        file="components/evaluate/scored_file.py",
        old="np.nan_to_num(values_N) != 0.0",
        new="values_N != 0.0",
        test=f"{SCORE_FILE}::test_a_row_of_which_nobody_says_that_it_is_labeled_is_not",
    ),
    Mutant(
        "probabilities-are-calibrated-in-the-files-order",
        file="components/evaluate/score.py",
        old="states_S, calibration = rows.states_NP[:, p], points[condition][name].calibration",
        new="states_S, calibration = rows.states_NP[:, p], list(points[condition].values())[p].calibration",
        test=f"{EXTERNAL}::test_a_study_has_evaluations_scores_and_the_labels_that_mean_the_same",
    ),
    Mutant(
        "tables-compared-row-by-row",
        file="components/evaluate/score_file.py",
        old="row_N = np.array([place[study] for study in first.studies], dtype=np.int64)",
        new="row_N = np.arange(len(first.studies))",
        test=f"{SCORE_FILE}::test_a_comparison_is_paired_by_study_whatever_the_order",
    ),
    Mutant(
        "studies-that-nobody-labeled-are-negative",
        file="components/evaluate/scored_file.py",
        old="            truth_NP[~self.labeled_N] = BLANK\n",
        new="            pass\n",
        test=f"{SCORE_FILE}::test_predictions_of_an_evaluation_are_scored_as_it_did",
    ),
    Mutant(
        "a-missing-label-of-a-parquet-file-is-negative",
        file="components/evaluate/scored_file.py",
        old="np.where(np.isnan(values_N), BLANK, values_N)",
        new="np.where(np.isnan(values_N), NEGATIVE, values_N)",
        test=f"{SCORE_FILE}::test_labels_of_a_parquet_file_may_have_any_type_and_missing_ones_are_unknown",
    ),
    Mutant(
        "a-soft-label-of-a-parquet-file-is-negative",
        file="components/evaluate/scored_file.py",
        old="    if bad_N.any():\n",
        new="    if False:\n",
        test=f"{SCORE_FILE}::test_a_label_of_a_parquet_file_that_is_no_state_is_one_clear_error",
    ),
    Mutant(
        "patients-of-another-data-set-are-others",
        file="components/evaluate/external.py",
        old="[patients[s] for s in kept]",
        new="patients[: len(kept)]",
        test="tests/components/evaluate/test_external.py::test_a_study_has_evaluations_scores_and_the_labels_that_mean_the_same",
    ),
    Mutant(
        "of-two-labels-that-mean-a-finding-uncertain-outranks-positive",
        file="components/evaluate/external.py",
        old="for state in (UNCERTAIN, POSITIVE):",
        new="for state in (POSITIVE, UNCERTAIN):",
        test="tests/components/evaluate/test_external.py::test_of_two_labels_of_one_pathology_the_most_alarming_counts",
    ),
    Mutant(
        "films-of-another-preset-are-scored-elsewhere",
        file="components/evaluate/external.py",
        old="    check_same_input(model.info, theirs, where=where)\n",
        new="",
        test="tests/components/evaluate/test_external.py::test_films_of_another_preset_are_not_scored",
    ),
    Mutant(
        "films-that-are-taken-are-told-as-refused",
        file="components/evaluate/external.py",
        old="study.films) is False for",
        new="study.films) is True for",
        test="tests/components/evaluate/test_external.py::test_films_that_a_server_would_refuse_are_counted_and_scored",
    ),
    Mutant(
        "another-models-points-judge-elsewhere",
        file="components/evaluate/external.py",
        old="load_operating_points(evaluation, bundle_hash=model.hash)",
        new="load_operating_points(evaluation, bundle_hash=None)",
        test="tests/components/evaluate/test_external.py::test_operating_points_of_another_model_judge_nothing",
    ),
]
