"""Public sets by the adapter for tables."""

from tests.mutants.mutant import Mutant

PUBLIC = "tests/components/preprocess/test_public_sets.py"
CHEXPERT = "tests/components/preprocess/test_chexpert_sets.py"

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
        old="found.setdefault(name, path) != path:\n",
        new="not found.setdefault(name, path):\n",
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
        test=f"{CHEXPERT}::test_chexpert",
    ),
    Mutant(
        "a-lateral-is-what-its-first-column-leaves-blank",
        file="components/preprocess/adapters/csv_table.py",
        old="for of_row in words if not is_unknown",
        new="for of_row in words[:1] if not is_unknown",
        test=f"{CHEXPERT}::test_chexpert",
    ),
    Mutant(
        "labels-of-their-own-are-in-the-order-of-the-films",
        file="components/preprocess/adapters/csv_labels.py",
        old="    found = [rows.get(name) for name in ours]\n",
        new="    found = [min(i, len(states) - 1) for i in range(len(ours))]\n",
        test=f"{CHEXPERT}::test_chexpert_plus",
    ),
    Mutant(
        "labels-of-their-own-change-and-the-data-set-does-not",
        file="components/preprocess/adapters/csv_table.py",
        old="for t in (table, labels)}",
        new="for t in (table,)}",
        test="tests/components/preprocess/test_csv_table.py::test_labels_of_patients_in_a_table_of_their_own",
    ),
    Mutant(
        "films-of-a-study-keep-labels-of-their-own",
        file="components/preprocess/adapters/csv_table.py",
        old="        ids = [study or path for",
        new="        ids = [path for",
        test=f"{CHEXPERT}::test_chexpert_plus",
    ),
    Mutant(
        "a-group-of-ages-is-its-youngest",
        file="components/cxr/ages.py",
        old="(int(match[1]) + int(match[2])) / 2",
        new="float(match[1])",
        test=f"{PUBLIC}::test_brax",
    ),
    Mutant(
        "ages-leave-out-the-month-of-birth",
        file="components/cxr/ages.py",
        old="(on - born).days / 365.25",
        new="last - first",
        test="tests/components/preprocess/test_csv_table.py::test_ages_from_birth_to_study",
    ),
]
