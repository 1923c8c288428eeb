"""What benchmarks on real films compare, and what they start from."""

from tests.mutants.mutant import Mutant

FOLDS = "tests/benchmarks/test_film_folds.py"
FILMS = "tests/benchmarks/test_real_films.py"

MUTANTS = [
    Mutant(
        "films-that-picked-the-weights-are-scored",
        file="benchmarks/film_folds.py",
        old='    test = [StudyDataset(loaded, splits=["test"], text=TextConfig()) for loaded in folds]\n',
        new='    test = [StudyDataset(loaded, splits=["test", "validate"], text=TextConfig()) for loaded in folds]\n',
        test=f"{FOLDS}::test_every_film_has_its_label_and_source",
    ),
    Mutant(
        "folds-change-with-every-process",
        file="benchmarks/film_folds.py",
        old='int(hashlib.sha256(f"fold of {patient}".encode()).hexdigest(), 16)',
        new='hash(f"fold of {patient}")',
        test=f"{FOLDS}::test_folds_stay_whatever_the_table_holds",
    ),
    Mutant(
        "scores-of-two-trainings-are-compared",
        file="benchmarks/film_folds.py",
        old="                mine = rows_S & (self.fold_S == fold)\n",
        new="                mine = rows_S & (self.fold_S >= fold)\n",
        test=f"{FOLDS}::test_pairs_of_two_folds_are_not_compared",
    ),
    Mutant(
        "films-are-resampled-and-not-patients",
        file="benchmarks/film_folds.py",
        old="np.unique(np.asarray(self.patient_S), return_inverse=True)",
        new="np.unique(np.arange(len(self.patient_S)), return_inverse=True)",
        test=f"{FOLDS}::test_resamples_draw_whole_patients_alike_for_every_arm",
    ),
    Mutant(
        "every-arm-is-resampled-its-own-way",
        file="benchmarks/film_folds.py",
        old="redrawn(len(every), np.random.default_rng(0), num=num)",
        new="redrawn(len(every), np.random.default_rng(), num=num)",
        test=f"{FOLDS}::test_pairs_of_two_folds_are_not_compared",
    ),
    Mutant(
        "the-leak-counts-for-the-mean",
        file="benchmarks/film_folds.py",
        old=" if count >= least and name != LEAKING]",
        new=" if count >= least]",
        test=f"{FOLDS}::test_every_film_has_its_label_and_source",
    ),
    Mutant(
        "seeds-that-one-arm-lacks-are-compared",
        file="benchmarks/real_films_tables.py",
        old="over_seeds(by_arm[one], both, of)",
        new="over_seeds(by_arm[one], sorted(by_arm[one]), of)",
        test=f"{FILMS}::test_only_seeds_that_both_arms_have_are_compared",
    ),
    Mutant(
        "a-kept-run-is-trained-again",
        file="benchmarks/real_films.py",
        old="        if not path.exists():\n",
        new="        if path:\n",
        test=f"{FILMS}::test_a_run_is_scored_out_of_fold_and_kept_once",
    ),
    Mutant(
        "the-gap-that-reports-close-is-of-two-versions",
        file="benchmarks/learning.py",
        old='[run for run in by_arm[name] if run["version"] == max(versions)] if versions else []',
        new="list(by_arm[name])",
        test="tests/benchmarks/test_learning.py::test_the_gap_that_reports_close_is_of_one_version",
    ),
    Mutant(
        "runs-by-two-versions-are-compared",
        file="benchmarks/kept_runs.py",
        old='found.setdefault(run["version"], {})',
        new="found.setdefault(0, {})",
        test="tests/benchmarks/test_learning.py::test_runs_by_two_versions_are_never_compared",
    ),
    Mutant(
        "a-misspelled-arm-trains-nothing",
        file="benchmarks/kept_runs.py",
        old="        if name not in names:\n",
        new="        if False:\n",
        test="tests/benchmarks/test_learning.py::test_a_misspelled_arm_is_refused_before_anything_runs",
    ),
    Mutant(
        "the-gain-in-equal-time-is-that-over-the-short-training",
        file="benchmarks/learning.py",
        old='longer = _difference(by_arm[best], by_arm["none, equal time"])',
        new='longer = _difference(by_arm[best], by_arm["none"])',
        test="tests/benchmarks/test_learning.py::test_the_gain_over_labels_alone_in_equal_time_is_told_beside",
    ),
    Mutant(
        "the-gates-of-the-lite-network-are-half-open",
        file="benchmarks/efficientnet_lite.py",
        old="_OPEN = 20.0",
        new="_OPEN = 0.0",
        test="tests/benchmarks/test_efficientnet_lite.py::test_the_gates_of_the_lite_network_are_open",
    ),
    Mutant(
        "half-a-checkpoint-counts-as-written",
        file="benchmarks/efficientnet_lite.py",
        old='last = folder / "preprocessor_config.json"',
        new='last = folder / "config.json"',
        test="tests/benchmarks/test_efficientnet_lite.py::test_a_folder_that_was_not_finished_is_written_again",
    ),
]
