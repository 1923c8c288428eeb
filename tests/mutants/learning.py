"""What the studies without labels teach, and how few labels are used."""

from tests.mutants.mutant import Mutant

FOLDER = "tests/components/train"
LABELED = f"{FOLDER}/test_labeled.py"
SUPERVISION = f"{FOLDER}/test_supervision.py"

MUTANTS = [
    Mutant(
        "labels-are-drawn-by-study-and-not-by-patient",
        file="components/train/labeled.py",
        old="np.unique(np.asarray(patient_ids), return_inverse=True)",
        new="np.unique(np.arange(len(patient_ids)), return_inverse=True)",
        test=f"{LABELED}::test_a_share_of_the_patients_keeps_all_their_labels",
    ),
    Mutant(
        "every-seed-draws-the-same-labels",
        file="components/train/labeled.py",
        old="np.random.default_rng([seed, len(every)])",
        new="np.random.default_rng([len(every)])",
        test=f"{LABELED}::test_each_seed_draws_other_patients_whatever_the_order_of_studies",
    ),
    Mutant(
        "validation-keeps-all-its-labels",
        file="components/train/setup.py",
        old="        for studies in (self.training, self.validation):\n",
        new="        for studies in (self.training,):\n",
        test=f"{LABELED}::test_a_training_uses_the_labels_of_that_share_alone",
    ),
    Mutant(
        "supervision-alone-reads-unlabeled-studies",
        file="components/train/setup.py",
        old='        if config.semi_supervised.method == "none":\n',
        new='        if config.semi_supervised.method == "nothing":\n',
        test=f"{LABELED}::test_a_training_uses_the_labels_of_that_share_alone",
    ),
    Mutant(
        "reports-overrule-labels",
        file="components/train/report_labels.py",
        old="    asked_S = told_S & ~labeled_S\n",
        new="    asked_S = told_S\n",
        test=f"{SUPERVISION}::test_reports_teach_the_studies_without_labels_and_no_others",
    ),
    Mutant(
        "studies-without-a-report-are-labeled",
        file="components/train/report_labels.py",
        old="    asked_S = told_S & ~labeled_S\n",
        new="    asked_S = ~labeled_S\n",
        test=f"{SUPERVISION}::test_reports_teach_the_studies_without_labels_and_no_others",
    ),
    Mutant(
        "report-labels-have-no-weight",
        file="components/train/supervision.py",
        old="        weight_SP = weight_SP + torch.from_numpy(told.known_SP)\n",
        new="",
        test=f"{SUPERVISION}::test_reports_teach_the_studies_without_labels_and_no_others",
    ),
    Mutant(
        "blanks-without-weight-teach-the-reports",
        file="components/train/report_labels.py",
        old=" & (targets.weight_BP[:, p] > 0)",
        new="",
        test=f"{SUPERVISION}::test_blanks_that_teach_less_count_less_among_the_reports_too",
    ),
    Mutant(
        "report-labels-are-read-from-other-sections",
        file="components/train/report_labels.py",
        old='sections=("findings", "impression")',
        new='sections=("indication",)',
        test=f"{SUPERVISION}::test_a_training_reads_the_reports_of_its_own_split",
    ),
    Mutant(
        "a-limit-of-no-unlabeled-studies-is-none",
        file="components/train/loading/order.py",
        old="        elif unlabeled_per_labeled == 0:\n            streams = [_Stream(labeled, batch_size, ())]\n",
        new="",
        test=f"{FOLDER}/loading/test_order.py::test_a_limit_of_none_leaves_unlabeled_studies_out",
    ),
    Mutant(
        "the-limit-of-unlabeled-studies-is-a-quota",
        file="components/train/loading/order.py",
        old="unlabeled_per_labeled is None or len(unlabeled) <= unlabeled_per_labeled * len(labeled)",
        new="unlabeled_per_labeled is None",
        test=f"{FOLDER}/loading/test_order.py::test_without_more_unlabeled_studies_than_allowed_an_epoch_is_one_pass_over_all",
    ),
]
