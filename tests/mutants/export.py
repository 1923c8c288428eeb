"""A data set in the formats of other tools."""

from tests.mutants.mutant import Mutant

EXPORT = "tests/components/preprocess/test_export.py"

MUTANTS = [
    Mutant(
        "uncertain-is-a-missing-class",
        file="components/preprocess/export_files.py",
        old="pc.if_else(pc.equal(states, -1), 2, states)",
        new="pc.if_else(pc.equal(states, -1), None, states)",
        test=f"{EXPORT}::test_datasets_opens_the_folder_and_its_parquet_files",
    ),
    Mutant(
        "two-exports-share-a-folder",
        file="components/preprocess/export.py",
        old="        if place.read(_CLAIM).data == claim:\n",
        new="        if place.read(_CLAIM).data:\n",
        test=f"{EXPORT}::test_a_folder_with_something_else_is_refused",
    ),
    Mutant(
        "a-finished-export-is-written-again",
        file="components/preprocess/export.py",
        old="[piece for piece in pieces if piece.name not in there]",
        new="pieces",
        test=f"{EXPORT}::test_a_finished_export_is_left_alone_and_a_lost_file_made_anew",
    ),
]
