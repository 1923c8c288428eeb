"""Films, reports and tables to shards: keys, splits, ids, rejects, restarts."""

from tests.mutants.mutant import Mutant

STEP = "tests/components/preprocess/test_preprocess.py"
REJECTS = "tests/components/preprocess/test_rejects.py"
KEYS = "tests/components/preprocess/test_keys.py"
MIMIC = "tests/components/preprocess/test_mimic_cxr.py"
FOLDER = "tests/components/preprocess/test_dicom_folder.py"
UNREADABLE = "tests/components/preprocess/test_unreadable.py"
CSV = "tests/components/preprocess/test_csv_table.py"
FIELD = "tests/components/preprocess/test_field_tables.py"
IDENTIFIERS = "tests/components/preprocess/test_identifiers.py"
IDS = "tests/components/cxr/test_ids.py"

MUTANTS = [
    Mutant(
        "a-report-that-may-not-be-read-is-a-traceback",
        file="components/preprocess/read_study.py",
        old='        except OSError as error:\n            raise cannot_read("reports",',
        new='        except BlockingIOError as error:\n            raise cannot_read("reports",',
        test=f"{UNREADABLE}::test_a_report_that_may_not_be_read_is_one_error",
    ),
    Mutant(
        "a-sex-is-read-by-its-first-letter",
        file="components/preprocess/adapters/csv_table.py",
        old="_SEXES.get(cell.casefold()) for",
        new="_SEXES.get(cell[:1].casefold()) for",
        test=f"{CSV}::test_a_sex_is_one_of_four_words",
    ),
    Mutant(
        "a-film-that-the-disk-does-not-give-now-is-a-patient-of-its-own",
        file="components/cxr/films/dicom_headers.py",
        old="    except (FileNotFoundError, IsADirectoryError, PermissionError, DamagedFileError):\n",
        new="    except (OSError, DamagedFileError):\n",
        test=f"{FOLDER}::test_a_disk_that_fails_once_makes_no_patient_of_his_own",
    ),
    Mutant(
        "of-a-long-header-a-megabyte-is-read",
        file="components/cxr/films/dicom_headers.py",
        old="        for longer in (_MORE, _MOST):\n",
        new="        for longer in (_MORE,):\n",
        test=f"{FOLDER}::test_a_header_longer_than_the_start_that_is_read",
    ),
    Mutant(
        "the-data-key-forgets-the-configuration",
        file="components/preprocess/plan.py",
        old="key = content_hash(config_hash, layout.source_hash,",
        new="key = content_hash(layout.source_hash,",
        test=f"{STEP}::test_key_ignores_workers_and_changes_with_what_matters",
    ),
    Mutant(
        "the-data-key-forgets-the-source",
        file="components/preprocess/plan.py",
        old="key = content_hash(config_hash, layout.source_hash,",
        new="key = content_hash(config_hash,",
        test=f"{STEP}::test_key_ignores_workers_and_changes_with_what_matters",
    ),
    Mutant(
        "data-sets-of-two-id-keys-share-a-folder",
        file="components/preprocess/plan.py",
        old="str(SCHEMA_VERSION), ids.fingerprint)",
        new="str(SCHEMA_VERSION))",
        test=f"{STEP}::test_key_ignores_workers_and_changes_with_what_matters",
    ),
    Mutant(
        "the-number-of-workers-changes-the-data-key",
        file="components/preprocess/config.py",
        old='self.model_copy(update={"num_workers": None, "max_reject_fraction": 1.0}).canonical_json()',
        new='self.model_copy(update={"max_reject_fraction": 1.0}).canonical_json()',
        test="tests/test_keys.py::test_data_by_preprocess",
    ),
    Mutant(
        "a-shard-ends-in-the-middle-of-a-study",
        file="components/preprocess/plan.py",
        old="if batch and (study is None or num_films + len(study.films) > images_per_shard):",
        new="if batch and (study is None or num_films > images_per_shard):",
        test=f"{STEP}::test_no_study_straddles_shards_and_no_patient_splits",
    ),
    Mutant(
        "shards-follow-the-order-of-admission",
        file="components/preprocess/plan.py",
        old='            hash_id("order", study.patient_id, ids),\n',
        new="            study.patient_id,\n",
        test=f"{STEP}::test_shards_do_not_follow_the_order_of_the_source",
    ),
    Mutant(
        "a-foreign-file-in-the-output-is-overlooked",
        file="components/preprocess/plan.py",
        old="    if foreign:\n",
        new="    if len(foreign) > 1:\n",
        test=f"{STEP}::test_foreign_output_folder_is_refused",
    ),
    Mutant(
        "a-half-written-shard-counts-as-done",
        file="components/preprocess/sidecar.py",
        old="    if record.info is not None and sizes.get(shard.name) != record.info.bytes:\n        return None\n",
        new="",
        test=f"{STEP}::test_lost_or_half_shards_are_made_again",
    ),
    Mutant(
        "finished-shards-are-made-again",
        file="components/preprocess/preprocess.py",
        old="if finished_record(plan.storage, shard, sizes=sizes) is None]",
        new="if True or sizes]",
        test=f"{STEP}::test_killed_anywhere_it_continues_to_the_same_bytes",
    ),
    Mutant(
        "a-shard-is-marked-done-before-it-is-written",
        file="components/preprocess/preprocess.py",
        old="    tally = Tally(plan.layout.pathologies)\n    rows, info",
        new="    tally = Tally(plan.layout.pathologies)\n    write_record(plan.storage, shard, tally.record(None))\n"
        "    rows, info",
        test=f"{STEP}::test_a_failed_shard_is_not_marked_as_done",
    ),
    Mutant(
        "the-manifest-is-written-though-shards-are-missing",
        file="components/preprocess/collect.py",
        old="    if len(records) < len(plan.layout.shards):\n",
        new="    if not records:\n",
        test=f"{STEP}::test_missing_partition_is_not_complete",
    ),
    Mutant(
        "too-many-rejects-pass",
        file="components/preprocess/collect.py",
        old="    if len(rejects) <= limit * num_films and len(rejects) < num_films:\n",
        new="    if len(rejects) < num_films:\n",
        test=f"{REJECTS}::test_too_many_rejects_fail_and_leave_nothing_that_looks_complete",
    ),
    Mutant(
        "counts-of-labels-hold-studies-without-labels",
        file="components/preprocess/sidecar.py",
        old="        if first.labeled:\n            self._labeled += 1\n",
        new="        self._labeled += first.labeled\n        if True:\n",
        test=f"{STEP}::test_manifest_counts",
    ),
    Mutant(
        "a-patients-studies-are-split-apart",
        file="components/preprocess/splits.py",
        old='position = hash_fraction("split", patient, key)',
        new='position = (hash_fraction("split", patient, key) * 7919) % 1.0 * 0.69',
        test=f"{IDS}::test_split_shares_are_about_the_fractions",
    ),
    Mutant(
        "a-patient-in-two-splits-is-let-through",
        file="components/preprocess/splits.py",
        old="        if split_of.setdefault(patient, split) != split:\n",
        new="        if split_of.setdefault(patient, split) not in (split, 'train'):\n",
        test=f"{MIMIC}::test_patient_in_two_splits_is_named_by_hash",
    ),
    Mutant(
        "ids-of-the-source-reach-the-shards",
        file="components/preprocess/read_study.py",
        old='                    study_id=hash_id("study", study.study_id, self.ids),\n',
        new="                    study_id=study.study_id,\n",
        test=f"{STEP}::test_no_id_and_no_name_of_the_source_comes_out",
    ),
    Mutant(
        "rows-of-a-study-keep-the-order-of-the-source",
        file="components/preprocess/read_study.py",
        old="        rows.sort(key=lambda row: row.image_id)\n",
        new="",
        test=f"{STEP}::test_shards_do_not_follow_the_order_of_the_source",
    ),
    Mutant(
        "a-typed-view-position-reaches-the-shards",
        file="components/preprocess/read_study.py",
        old="return position if position and _VIEW_WORDS.issuperset(position.split()) else None",
        new="return position or None",
        test=f"{IDENTIFIERS}::test_nothing_but_the_allow_list_comes_out_of_films",
    ),
    Mutant(
        "a-disk-that-fails-is-a-rejected-film",
        file="components/preprocess/read_study.py",
        old="    except (IsADirectoryError, PermissionError) as error:\n"
        '        raise FilmError("unreadable", error.strerror or "the file cannot be read") from None\n',
        new="    except (OSError, UserError):\n"
        '        raise FilmError("unreadable", "the file cannot be read") from None\n',
        test=f"{REJECTS}::test_a_disk_that_fails_is_no_reason_to_leave_a_film_out",
    ),
    Mutant(
        "age-of-the-header-counts-before-the-tables",
        file="components/preprocess/read_study.py",
        old="age_years=film.age_years if study.age_years is None else study.age_years,",
        new="age_years=study.age_years if film.age_years is None else film.age_years,",
        test="tests/components/preprocess/test_mimic_iv.py::test_shards_hold_them_and_null_elsewhere",
    ),
    Mutant(
        "a-study-without-a-label-row-counts-as-labeled",
        file="components/preprocess/adapters/mimic_cxr.py",
        old="labeled=study_id in labels,",
        new="labeled=True,",
        test=f"{MIMIC}::test_unlabeled_and_reportless_studies_are_kept",
    ),
    Mutant(
        "unknown-patients-are-one-patient",
        file="components/preprocess/adapters/csv_table.py",
        old='patients[known] or f"unknown patient of {study_id}"',
        new="patients[known]",
        test=f"{FIELD}::test_unknown_patients_are_not_one_patient",
    ),
    Mutant(
        "a-join-of-few-ids-passes-in-silence",
        file="components/cxr/storage/joins.py",
        old="2 * matched >= possible",
        new="matched > 0",
        test=f"{FIELD}::test_a_label_table_of_other_studies_is_refused_and_one_of_few_is_warned_about",
    ),
    Mutant(
        "a-join-that-matches-nothing-passes",
        file="components/cxr/storage/joins.py",
        old="2 * matched >= possible",
        new="matched >= 0",
        test=f"{FIELD}::test_metadata_of_other_films",
    ),
    Mutant(
        "columns-in-other-capitals-are-two-pathologies",
        file="components/preprocess/adapters/csv_labels.py",
        old='plain = "".join(letter for letter in name.casefold() if',
        new='plain = "".join(letter for letter in name if',
        test=f"{FIELD}::test_columns_that_differ_in_capitals_are_not_two_pathologies",
    ),
    Mutant(
        "links-give-one-film-to-two-patients",
        file="components/preprocess/adapters/film_paths.py",
        old="!= patient or listed != patient:",
        new="!= patient:",
        test=f"{FIELD}::test_a_file_that_two_patients_have_by_links_is_refused",
    ),
    Mutant(
        "a-linked-folder-is-not-told",
        file="components/preprocess/adapters/film_paths.py",
        old="    if behind:\n",
        new="    if len(behind) > 1:\n",
        test=f"{FIELD}::test_films_behind_a_linked_folder_are_told",
    ),
    Mutant(
        "a-line-that-names-the-delimiter-is-a-header",
        file="components/cxr/storage/csv_text.py",
        old="if row and not (marked and line == 1):",
        new="if row:",
        test=f"{FIELD}::test_a_first_line_that_names_the_delimiter",
    ),
    Mutant(
        "a-table-without-labels-passes-in-silence",
        file="components/preprocess/adapters/csv_table.py",
        old="if any(labeled)\n",
        new="if labeled\n",
        test=f"{FIELD}::test_a_table_without_a_label_is_warned_about",
    ),
    Mutant(
        "a-second-truth-of-few-studies-passes-in-silence",
        file="components/evaluate/second_truth.py",
        old="if 2 * known_S.sum() < possible:",
        new="if known_S.sum() < 1:",
        test="tests/components/evaluate/test_second_truth.py::test_a_table_of_which_few_studies_are_test_studies_is_warned_about",
    ),
    Mutant(
        "a-second-truth-keeps-the-letter-of-its-studies",
        file="components/evaluate/truth_table.py",
        old='found.setdefault(hash_id("study", number[1], key)',
        new='found.setdefault(hash_id("study", number[0], key)',
        test="tests/components/evaluate/test_truth_table.py::test_a_study_is_found_with_and_without_the_letter_of_its_folder",
    ),
    Mutant(
        "mimic-iv-patients-keep-their-letter",
        file="components/preprocess/adapters/mimic_iv.py",
        old='subjects = people.ids("subject_id", prefix="p")',
        new='subjects = people.ids("subject_id")',
        test="tests/components/preprocess/test_mimic_iv.py::test_its_patients_are_found_with_the_letter_of_their_folder",
    ),
    Mutant(
        "unlabeled-patients-of-other-names-pass-in-silence",
        file="components/preprocess/adapters/dicom_folder.py",
        old="if same or shape_of(ours) == shape_of(theirs):",
        new="if same or shape_of(ours) != shape_of(theirs):",
        test="tests/components/preprocess/test_dicom_folder.py::test_unlabeled_films_of_patients_who_are_named_otherwise_are_warned_about",
    ),
    Mutant(
        "a-study-of-two-unlabeled-folders-counts-twice",
        file="components/preprocess/adapters/dicom_folder.py",
        old="                known.add(study.study_id)\n",
        new="",
        test="tests/components/preprocess/test_dicom_folder.py::test_unlabeled_films_of_several_folders",
    ),
]
