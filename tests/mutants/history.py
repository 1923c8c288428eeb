"""Films and history: who is compared with whom, what is fitted where, and when a text says too much."""

from tests.mutants.mutant import Mutant

FILE = "components/evaluate/history.py"
TESTS = "tests/components/evaluate/test_history.py"

MUTANTS = [
    Mutant(
        "a-positive-meets-every-negative",
        file=FILE,
        old="(np.ones(len(truth_S), bool) if stratum is None else stratum_S == stratum)",
        new="np.ones(len(truth_S), bool)",
        test=f"{TESTS}::test_one_stratum_is_the_auroc_and_many_are_its_pairs",
    ),
    Mutant(
        "strata-count-alike-whatever-their-pairs",
        file=FILE,
        old="                in_stratum_R = (positive_G @ weight_GR) * (negative_G @ weight_GR)\n",
        new="                in_stratum_R = np.ones(weight_GR.shape[1])\n",
        test=f"{TESTS}::test_one_stratum_is_the_auroc_and_many_are_its_pairs",
    ),
    Mutant(
        "histories-are-matched-by-metadata-alone",
        file=FILE,
        old='_CONTEXT: tuple[Condition, ...] = ("text", "meta")',
        new='_CONTEXT: tuple[Condition, ...] = ("meta", "text")[:1]',
        test=f"{TESTS}::test_a_guess_from_the_text_is_worth_nothing_among_equal_histories",
    ),
    Mutant(
        "a-text-that-holds-the-reading-is-fine",
        file=FILE,
        old="text.value > IMPLAUSIBLE_TEXT:",
        new="text.value > 1.0:",
        test=f"{TESTS}::test_texts_that_say_too_much_alarm",
    ),
    Mutant(
        "a-text-that-only-looks-better-alarms",
        file=FILE,
        old="    if over_films.ci is not None and over_films.ci.low > 0 and over_films.difference is not None:\n",
        new="    if over_films.ci is not None and over_films.ci.low > -1 and over_films.difference is not None:\n",
        test=f"{TESTS}::test_texts_that_say_too_much_alarm",
    ),
]
