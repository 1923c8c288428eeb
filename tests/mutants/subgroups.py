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
]
