"""What is written for a paper."""

from tests.mutants.mutant import Mutant

FOLDER = "components/evaluate/paper"
TESTS = "tests/components/evaluate/paper/test_paper.py"

MUTANTS = [
    Mutant(
        "false-alarms-cost-nothing-in-a-decision-curve",
        file=f"{FOLDER}/drawings.py",
        old="true_T - false_T * threshold_T / (1.0 - threshold_T)",
        new="true_T - false_T * threshold_T",
        test=f"{TESTS}::test_net_benefit_weighs_false_alarms_by_the_odds_of_the_threshold",
    ),
    Mutant(
        "rejected-films-were-never-read",
        file=f"{FOLDER}/participants.py",
        old="return Flow(kept + manifest.num_rejects, ",
        new="return Flow(kept, ",
        test=f"{TESTS}::test_films_that_were_rejected_or_left_out_are_in_the_flow",
    ),
    Mutant(
        "characteristics-count-unlabeled-studies-as-labeled",
        file=f"{FOLDER}/participants.py",
        old="state_S = split.states_SP[split.labeled_S, p]",
        new="state_S = split.states_SP[::2, p]",
        test=f"{TESTS}::test_characteristics_are_those_of_the_shards",
    ),
    Mutant(
        "a-study-counts-once-per-film",
        file=f"{FOLDER}/participants.py",
        old="    table = table.take(pa.array(np.sort(first_S)))\n",
        new="",
        test=f"{TESTS}::test_characteristics_are_those_of_the_shards",
    ),
    Mutant(
        "a-paper-for-a-bucket-goes-into-a-folder-named-gs",
        file=f"{FOLDER}/paper.py",
        old="folder = open_storage(out)",
        new="from pathlib import Path; folder = open_storage(Path(out).absolute())",
        test=f"{TESTS}::test_the_command_writes_into_a_bucket",
    ),
    Mutant(
        "a-paper-takes-another-model",
        file=f"{FOLDER}/paper.py",
        old='    _check("--bundle", "model", model.hash, report.bundle_hash)\n',
        new="",
        test=f"{TESTS}::test_another_data_set_or_model_is_refused",
    ),
    Mutant(
        "a-checklist-says-done-where-nobody-knows",
        file=f"{FOLDER}/checklists.py",
        old="known.get(item, AUTHORS)",
        new='known.get(item, "Done.")',
        test=f"{TESTS}::test_checklists_have_every_item_and_say_what_authors_must_add",
    ),
    Mutant(
        "inputs-of-a-paper-are-of-protocol-b",
        file=f"{FOLDER}/results.py",
        old='(condition, "A", "study", subset)',
        new='(condition, "B", "study", subset)',
        test=f"{TESTS}::test_tables_hold_the_numbers_of_the_report",
    ),
    Mutant(
        "percent-signs-comment-out-latex",
        file=f"{FOLDER}/table.py",
        old=r'"%": r"\%", ',
        new="",
        test=f"{TESTS}::test_latex_needs_no_editing",
    ),
]
