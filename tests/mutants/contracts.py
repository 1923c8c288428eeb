"""Labels, ids, configuration and the three contracts: shards, bundle, report."""

from tests.mutants.mutant import Mutant

LABELS = "tests/components/cxr/test_labels.py"
IDS = "tests/components/cxr/test_ids.py"
CONFIG = "tests/components/cxr/test_config.py"
SHARDS = "tests/components/cxr/test_shards.py"
BUNDLE = "tests/components/cxr/test_bundle.py"
REPORT = "tests/components/cxr/test_report.py"

MUTANTS = [
    Mutant(
        "no-finding-becomes-negative-beside-a-device",
        file="components/cxr/labels.py",
        old="if name not in (NO_FINDING, SUPPORT_DEVICES)]",
        new="if name != NO_FINDING]",
        test=f"{LABELS}::test_no_finding_is_derived_from_findings_other_than_devices",
    ),
    Mutant(
        "no-finding-stays-blank-beside-an-uncertain-finding",
        file="components/cxr/labels.py",
        old="np.isin(state_BP[:, findings], (POSITIVE, UNCERTAIN)).any(axis=1)",
        new="np.isin(state_BP[:, findings], (POSITIVE,)).any(axis=1)",
        test=f"{LABELS}::test_no_finding_is_derived_from_findings_other_than_devices",
    ),
    Mutant(
        "blanks-of-studies-without-labels-are-negatives",
        file="components/cxr/labels.py",
        old="    target_BP[~labeled_B] = NO_TARGET\n",
        new="",
        test=f"{LABELS}::test_an_unlabeled_study_has_no_target_at_all",
    ),
    Mutant(
        "protocol-b-counts-uncertain-as-negative",
        file="components/cxr/labels.py",
        old="truth_BP[(state_BP == BLANK) | (state_BP == UNCERTAIN)] = BLANK",
        new="truth_BP[state_BP == BLANK] = BLANK",
        test=f"{LABELS}::test_protocols",
    ),
    Mutant(
        "studies-without-labels-count-in-the-scores",
        file="components/cxr/labels.py",
        old="    truth_BP[~labeled_B] = BLANK\n",
        new="",
        test=f"{LABELS}::test_protocols",
    ),
    Mutant(
        "ids-of-patient-and-study-share-a-hash",
        file="components/cxr/ids.py",
        old='return key.digest(kind.encode() + b"\\0" + raw.encode(',
        new="return key.digest(raw.encode(",
        test=f"{IDS}::test_kind_id_and_key_all_count",
    ),
    Mutant(
        "ids-ignore-the-secret-key",
        file="components/cxr/ids.py",
        old="        if self.secret is None:\n            return hashlib",
        new="        if True:\n            return hashlib",
        test=f"{IDS}::test_ids_are_hmac_sha256_of_kind_and_id",
    ),
    Mutant(
        "the-secret-key-shows-in-a-repr",
        file="components/cxr/ids.py",
        old="secret: bytes | None = field(repr=False)",
        new="secret: bytes | None = field()",
        test=f"{IDS}::test_the_key_is_never_shown",
    ),
    Mutant(
        "each-alternative-of-a-field-is-a-mistake-of-its-own",
        file="components/cxr/config.py",
        old=" if not any(other[: len(path)] == path != other for other in paths)]",
        new="]",
        test=f"{CONFIG}::test_mistakes_name_their_dotted_path",
    ),
    Mutant(
        "mistakes-are-named-in-pydantics-words",
        file="components/cxr/config.py",
        old="        if inside or key in _fields_at(model, location[:depth]):\n",
        new="        if True:\n",
        test=f"{CONFIG}::test_mistakes_name_their_dotted_path",
    ),
    Mutant(
        "a-time-is-a-number-to-the-base-60",
        file="components/cxr/config.py",
        old='re.compile(f"(?!.*:){pattern.pattern}", pattern.flags)',
        new="pattern",
        test=f"{CONFIG}::test_a_time_is_no_number_to_the_base_60",
    ),
    Mutant(
        "content-hash-forgets-where-its-parts-end",
        file="components/cxr/config.py",
        old='        digest.update(len(data).to_bytes(8, "big"))\n',
        new="",
        test=f"{CONFIG}::test_hash_depends_on_the_borders_of_its_parts",
    ),
    Mutant(
        "a-typo-in-the-configuration-is-ignored",
        file="components/cxr/config.py",
        old='extra="forbid"',
        new='extra="ignore"',
        test=f"{CONFIG}::test_mistakes_name_their_dotted_path",
    ),
    Mutant(
        "overrides-change-the-original-configuration",
        file="components/cxr/config.py",
        old="result: dict[str, Any] = json.loads(json.dumps(values, default=str))",
        new="result: dict[str, Any] = dict(values)",
        test=f"{CONFIG}::test_overrides_are_yaml_and_leave_the_original_alone",
    ),
    Mutant(
        "a-damaged-shard-is-read",
        file="components/cxr/shards.py",
        old="    if found != info.sha256:\n",
        new="    if len(data) != info.bytes:\n",
        test=f"{SHARDS}::test_a_flipped_bit_is_named",
    ),
    Mutant(
        "a-blank-label-is-read-as-negative",
        file="components/cxr/shards.py",
        old="fill_null(BLANK).to_numpy()",
        new="fill_null(0).to_numpy()",
        test=f"{SHARDS}::test_round_trip",
    ),
    Mutant(
        "a-study-lies-in-two-parts-of-a-shard",
        file="components/cxr/shard_writer.py",
        old="if row.study_id in rows_of and (last is None or row.study_id != last.study_id):",
        new="if last is None and row.study_id in rows_of:",
        test=f"{SHARDS}::test_bad_rows_are_refused_before_anything_is_written",
    ),
    Mutant(
        "a-manifest-of-another-run-is-overwritten",
        file="components/cxr/shards.py",
        old="storage.write(MANIFEST, data, if_generation=ABSENT)",
        new="storage.write(MANIFEST, data)",
        test=f"{SHARDS}::test_the_manifest_is_written_over_no_other",
    ),
    Mutant(
        "a-contract-of-another-version-is-read",
        file="components/cxr/shards.py",
        old="    if not isinstance(values, dict) or found != version:\n",
        new="    if not isinstance(values, dict):\n",
        test=f"{SHARDS}::test_another_version_is_refused_before_anything_is_believed",
    ),
    Mutant(
        "pixels-of-another-preset-are-scored",
        file="components/cxr/bundle_info.py",
        old="    _check_pixels(manifest.pixel_preset_hash, info.pixel_preset_hash, where=where)\n",
        new="",
        test=f"{BUNDLE}::test_data_of_other_pixels_or_pathologies_is_refused",
    ),
    Mutant(
        "pixels-of-another-implementation-are-served",
        file="components/cxr/bundle_info.py",
        old="    _check_pixels(info.pixel_preset_hash, info.pixel_preset.hash, where=where)\n",
        new="",
        test=f"{BUNDLE}::test_what_does_not_fit_is_refused",
    ),
    Mutant(
        "pathologies-in-another-order-are-scored",
        file="components/cxr/bundle_info.py",
        old="    if info.pathologies != manifest.pathologies:\n",
        new="    if set(info.pathologies) != set(manifest.pathologies):\n",
        test=f"{BUNDLE}::test_data_of_other_pixels_or_pathologies_is_refused",
    ),
    Mutant(
        "reports-that-were-read-another-way-are-scored",
        file="components/cxr/bundle_info.py",
        old="    if info.text.sections and info.section_reader != manifest.section_reader:\n",
        new="    if not info.text.sections and info.section_reader != manifest.section_reader:\n",
        test=f"{BUNDLE}::test_data_of_other_pixels_or_pathologies_is_refused",
    ),
    Mutant(
        "the-bundles-hash-leaves-out-its-weights",
        file="components/cxr/bundle_info.py",
        old="    for name in (*_FILES, *sorted(",
        new="    for name in (BUNDLE, TRAINED_ON, *sorted(",
        test=f"{BUNDLE}::test_equal_bundles_have_equal_hashes_and_a_copy_beside_operating_points_too",
    ),
    Mutant(
        "bundle-json-is-written-before-the-weights",
        file="components/cxr/bundle.py",
        old="        storage.upload_folder(folder)\n",
        new='        storage.write(BUNDLE, b"{}")\n        storage.upload_folder(folder)\n',
        test=f"{BUNDLE}::test_a_bundle_that_was_cut_off_is_not_there",
    ),
    Mutant(
        "a-table-of-the-report-is-taken-for-another-subset",
        file="components/cxr/report.py",
        old="if (score.condition, score.protocol, score.unit, score.subset) == wanted:",
        new="if (score.condition, score.protocol, score.unit) == wanted[:3]:",
        test=f"{REPORT}::test_a_table_is_found_by_its_keys",
    ),
]
