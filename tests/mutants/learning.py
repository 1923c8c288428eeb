"""What the studies without labels teach, and how few labels are used."""

from tests.mutants.mutant import Mutant

FOLDER = "tests/components/train"
LABELED = f"{FOLDER}/test_labeled.py"
SUPERVISION = f"{FOLDER}/test_supervision.py"
TEACHERS = f"{FOLDER}/test_teachers.py"

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
        old='        self.validation = _studies(config, loaded, "validate")\n',
        new='        self.validation = StudyDataset(loaded, splits=["validate"], text=config.text)\n',
        test=f"{LABELED}::test_a_training_uses_the_labels_of_that_share_alone",
    ),
    Mutant(
        "supervision-alone-reads-unlabeled-studies",
        file="components/train/setup.py",
        old='        if self.method == "none":\n',
        new='        if self.method == "nothing":\n',
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
        old="        weight_SP, unlabeled_SP = weight_SP + known_SP, unlabeled_SP & ~known_SP\n",
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
    Mutant(
        "teachers-are-trained-for-nobody",
        file="components/train/teachers.py",
        old="    return configs if configs and taught_studies(config, loaded)[1].untaught().any() else []\n",
        new="    return configs\n",
        test=f"{TEACHERS}"
        "::test_where_nothing_is_left_to_label_there_are_no_teachers_and_training_is_as_without_a_method",
    ),
    Mutant(
        "what-labels-do-not-tell-apart-waits-for-pseudo-labels",
        file="components/train/supervision.py",
        old="& torch.from_numpy((self.prevalence_P > 0.0) & (self.prevalence_P < 1.0))\n",
        new="& torch.from_numpy(self.prevalence_P < 1.1)\n",
        test=f"{SUPERVISION}::test_pseudo_labels_are_left_for_what_nobody_teaches_and_labels_tell_apart",
    ),
    Mutant(
        "teachers-are-all-the-same",
        file="components/train/teachers.py",
        old='"seed": seed}',
        new='"seed": config.seed}',
        test=f"{TEACHERS}::test_teachers_differ_in_their_seed_and_see_the_same_labels",
    ),
    Mutant(
        "labels-are-drawn-by-the-teachers-seed",
        file="components/train/setup.py",
        old="seed=config.labeled_seed",
        new="seed=config.seed",
        test=f"{TEACHERS}::test_teachers_differ_in_their_seed_and_see_the_same_labels",
    ),
    Mutant(
        "the-last-teacher-alone-is-heard",
        file="components/train/teachers.py",
        old="total_SP += shared_scores",
        new="total_SP = shared_scores",
        test=f"{TEACHERS}::test_the_student_is_taught_the_mean_of_what_its_teachers_say",
    ),
    Mutant(
        "teachers-answers-are-not-aligned",
        file="components/train/objectives/self_training.py",
        old="expit(score_U + shift)",
        new="expit(score_U)",
        test=f"{FOLDER}/objectives/test_self_training.py::test_pseudo_labels_have_the_prevalence_of_the_labels_and_the_order_of_the_scores",
    ),
    Mutant(
        "labeled-entries-get-pseudo-labels-too",
        file="components/train/teachers.py",
        old="unlabeled_SP = taught.unlabeled_SP.numpy()",
        new="unlabeled_SP = np.ones_like(taught.unlabeled_SP.numpy())",
        test=f"{TEACHERS}::test_the_student_is_taught_the_mean_of_what_its_teachers_say",
    ),
    Mutant(
        "a-resumed-student-forgets-its-teachers",
        file="components/train/train.py",
        old="        if teachers:\n",
        new="        if teachers and not checkpoints.exists('latest.json'):\n",
        test=f"{TEACHERS}::test_an_interrupted_student_continues_to_the_same_weights",
    ),
    Mutant(
        "teachers-are-tracked-as-the-training-is",
        file="components/train/train.py",
        old="stop=stop, tracked=False)",
        new="stop=stop)",
        test=f"{TEACHERS}::test_teachers_have_bundles_and_no_run_of_their_own",
    ),
    Mutant(
        "experts-without-input-learn-pseudo-labels",
        file="components/train/objectives/self_training.py",
        old="shown.known_EB[:, :, None] & ~shown.pseudo_BP.isnan()",
        new="(~shown.pseudo_BP.isnan()).expand(len(shown.known_EB), -1, -1)",
        test=f"{TEACHERS}::test_an_expert_learns_from_the_entries_that_it_can_say_something_of",
    ),
    Mutant(
        "batches-ask-for-more-labels-than-there-are",
        file="components/train/loading/order.py",
        old=", batch_size - 1, len(labeled))",
        new=", batch_size - 1)",
        test=f"{FOLDER}/loading/test_order.py::test_where_labels_are_fewer_than_the_ratio_asks_for_every_batch_has_them_all",
    ),
    Mutant(
        "labels-without-a-target-are-something-to-learn",
        file="components/train/setup.py",
        old="if not self.supervision.taught().any():",
        new="if not self.training.labeled_S.any():",
        test=f"{FOLDER}/test_train.py::test_labels_that_the_policy_leaves_unused_are_nothing_to_learn_from",
    ),
]
