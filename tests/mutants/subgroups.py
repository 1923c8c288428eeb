"""Subgroups: who belongs to one, what is compared with what, and what is too small to tell."""

from tests.mutants.mutant import Mutant

FILE = "components/evaluate/subgroups.py"
TESTS = "tests/components/evaluate/test_subgroups.py"

MUTANTS = [
    Mutant(
        "what-is-unknown-is-among-the-others",
        file=FILE,
        old="            others_S = known_S & ~inside_S\n",
        new="            others_S = ~inside_S\n",
        test=f"{TESTS}::test_gaps_have_signs_and_intervals",
    ),
    Mutant(
        "a-group-of-few-studies-has-scores",
        file=FILE,
        old="            enough = inside_S.sum() >= MIN_STUDIES\n",
        new="            enough = inside_S.sum() >= 1\n",
        test=f"{TESTS}::test_small_groups_have_counts_alone",
    ),
    Mutant(
        "a-rare-race-is-named",
        file=FILE,
        old='count[value] >= _KEPT else "other"',
        new='count[value] >= 1 else "other"',
        test=f"{TESTS}::test_groups_are_those_that_the_data_have",
    ),
    Mutant(
        "devices-are-a-finding-of-the-ill",
        file=FILE,
        old="if name not in (NO_FINDING, SUPPORT_DEVICES)]\n    ill_S",
        new="if name != NO_FINDING]\n    ill_S",
        test=f"{TESTS}::test_the_numbers_of_a_group_by_hand",
    ),
    Mutant(
        "groups-are-resampled-by-study",
        file=FILE,
        old="draw(test.rows.patients, num",
        new="draw(test.rows.studies, num",
        test=f"{TESTS}::test_intervals_are_over_patients",
    ),
    Mutant(
        "the-control-keeps-the-patients-own-text",
        file="components/evaluate/predict.py",
        old="texts[order[(place + most) % len(order)]]",
        new="texts[order[(place + 1) % len(order)]]",
        test="tests/components/evaluate/test_predictions.py::test_every_text_of_the_control_is_another_patients",
    ),
    Mutant(
        "subgroups-are-judged-by-points-of-films-alone",
        file="components/evaluate/score.py",
        old='subgroups_of(on_test["all"].score_NP, test, points["all"]',
        new='subgroups_of(on_test["all"].score_NP, test, points["image"]',
        test="tests/components/evaluate/test_score.py::test_subgroups_and_the_third_state_are_by_the_points_of_all_inputs",
    ),
    Mutant(
        "a-subgroups-findings-are-all-calibrated-as-the-first",
        file="components/evaluate/subgroups.py",
        old="calibrate(score_SP[:, p], points[name].calibration) >=",
        new="calibrate(score_SP[:, p], points[pathologies[0]].calibration) >=",
        test="tests/components/evaluate/test_subgroups.py::test_the_numbers_of_a_group_by_hand",
    ),
    Mutant(
        "a-gap-is-between-two-lists-of-findings",
        file="components/evaluate/subgroups.py",
        old="all(table.supports(p, side_S) for side_S in sides)",
        new="table.supports(p, inside_S)",
        test="tests/components/evaluate/test_subgroups.py::test_a_finding_that_only_one_side_has_counts_on_neither",
    ),
    Mutant(
        "three-films-are-not-three-or-more",
        file="components/evaluate/subgroups.py",
        old="str(count) if count < 3 else",
        new="str(count) if count <= 3 else",
        test="tests/components/evaluate/test_subgroups.py::test_groups_are_those_that_the_data_have",
    ),
]
