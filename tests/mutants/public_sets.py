"""Public sets by the adapter for tables."""

from tests.mutants.mutant import Mutant

PUBLIC = "tests/components/preprocess/test_public_sets.py"

MUTANTS = [
    Mutant(
        "the-last-box-alone-labels-a-film",
        file="components/preprocess/adapters/csv_rows.py",
        old="    known = [state for state in states if state is not None]\n",
        new="    known = [state for state in states[-1:] if state is not None]\n",
        test=f"{PUBLIC}::test_vindr",
    ),
    Mutant(
        "two-files-of-one-name-are-one-film",
        file="components/preprocess/adapters/csv_rows.py",
        old="        if bare in wanted and found.setdefault(bare, path) != path:\n",
        new="        if bare in wanted and not found.setdefault(bare, path):\n",
        test=f"{PUBLIC}::test_what_is_wrong_with_lists_and_names_is_one_error",
    ),
    Mutant(
        "a-mask-says-that-nothing-is-there",
        file="components/preprocess/adapters/csv_labels.py",
        old="int(cell != absent)",
        new="int(cell == absent)",
        test=f"{PUBLIC}::test_masks_of_siim",
    ),
    Mutant(
        "studies-of-two-patients-with-one-number-are-one",
        file="components/preprocess/adapters/csv_rows.py",
        old='for name in ("patient", "study") if name in groups',
        new='for name in ("study",) if name in groups',
        test=f"{PUBLIC}::test_chexpert",
    ),
]
