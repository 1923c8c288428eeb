"""Files under a folder or in a bucket: whole or not at all, and compare-and-swap."""

from tests.mutants.mutant import Mutant

STORAGE = "tests/components/cxr/storage/test_storage.py"
FAULTS = "tests/components/cxr/storage/test_gcs_faults.py"
TABLES = "tests/components/cxr/storage/test_tables.py"

MUTANTS = [
    Mutant(
        "a-table-without-a-header-line-prints-its-first-patient",
        file="components/cxr/storage/table_files.py",
        old="if _PLAIN.fullmatch(name)] if is_header(names) else []",
        new="if _PLAIN.fullmatch(name)] if names else []",
        test=f"{TABLES}::test_a_missing_column_is_told_without_what_may_be_a_row",
    ),
    Mutant(
        "a-folder-that-may-not-be-read-is-a-traceback",
        file="components/cxr/storage/local.py",
        old='        except OSError as error:\n            raise cannot_read("folder",',
        new='        except BlockingIOError as error:\n            raise cannot_read("folder",',
        test="tests/components/preprocess/test_unreadable.py::test_a_folder_that_may_not_be_read_is_one_error",
    ),
    Mutant(
        "a-local-write-ignores-the-generation",
        file="components/cxr/storage/local.py",
        old="                if found != if_generation:\n",
        new="                if found == ABSENT != if_generation:\n",
        test=f"{STORAGE}::test_conditional_write_wants_its_generation",
    ),
    Mutant(
        "a-write-to-a-bucket-ignores-the-generation",
        file="components/cxr/storage/gcs.py",
        old="if_generation_match=expected,",
        new="if_generation_match=None,",
        test=f"{STORAGE}::test_conditional_write_wants_its_generation",
    ),
    Mutant(
        "local-compare-and-swap-takes-no-lock",
        file="components/cxr/storage/local.py",
        old="            fcntl.flock(lock, fcntl.LOCK_EX)\n",
        new="",
        test=f"{STORAGE}::test_one_of_many_conditional_writers_wins",
    ),
    Mutant(
        "a-file-that-is-being-written-is-listed",
        file="components/cxr/storage/local.py",
        old="elif not entry.name.startswith(PARTIAL) and not entry.is_dir():",
        new="elif not entry.is_dir():",
        test=f"{STORAGE}::test_a_large_file_appears_whole_or_not_at_all",
    ),
    Mutant(
        "a-living-writers-file-is-removed",
        file="components/cxr/storage/local.py",
        old="                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # held by a writer that lives\n",
        new="",
        test=f"{STORAGE}::test_what_a_killed_writer_left_is_removed_and_a_living_writer_is_not_disturbed",
    ),
    Mutant(
        "a-download-that-fails-leaves-a-file",
        file="components/cxr/storage/gcs.py",
        old="        with renamed_to(target) as partial:\n            with self._clear_errors(missing=name):\n",
        new="        with renamed_to(target) as partial:\n            target.touch()\n"
        "            with self._clear_errors(missing=name):\n",
        test=f"{STORAGE}::test_missing_file_is_file_not_found",
    ),
    Mutant(
        "a-listing-takes-folders-with-the-same-beginning",
        file="components/cxr/storage/gcs.py",
        old='folder = self._key(prefix).rstrip("/") + "/" if self._key(prefix) else ""',
        new="folder = self._key(prefix)",
        test=f"{STORAGE}::test_sizes_are_sorted_and_recursive",
    ),
    Mutant(
        "damaged-bytes-from-a-bucket-are-believed",
        file="components/cxr/storage/gcs.py",
        old='    if blob.crc32c is not None and int.from_bytes(base64.b64decode(blob.crc32c), "big") != crc32c:',
        new="    if blob.crc32c is None:",
        test=f"{FAULTS}::test_one_fault_a_request_changes_nothing[flip-up-small]",
    ),
    Mutant(
        "bundle-and-checkpoints-share-a-folder",
        file="components/cxr/storage/storage.py",
        old='return self.storage.child(f"bundles/{key}")',
        new='return self.storage.child(f"checkpoints/{key}")',
        test=f"{STORAGE}::test_root_names_every_folder",
    ),
    Mutant(
        "a-label-of-2-is-read",
        file="components/cxr/storage/tables.py",
        old="    if value not in (1.0, 0.0, -1.0):\n",
        new="    if value != value:\n",
        test=f"{TABLES}::test_bad_state_is_named_but_never_quoted_when_it_may_be_a_name",
    ),
    Mutant(
        "a-patients-name-is-quoted-in-an-error",
        file="components/cxr/storage/tables.py",
        old='    return f"a text of {len(cell)} characters"\n',
        new="    return repr(cell)\n",
        test=f"{TABLES}::test_bad_state_is_named_but_never_quoted_when_it_may_be_a_name",
    ),
    Mutant(
        "a-missing-column-of-parquet-is-passed-over",
        file="components/cxr/storage/parquet.py",
        old="    return table if columns is None else table.select(list(columns))\n",
        new="    return table\n",
        test="tests/components/cxr/storage/test_parquet.py::test_a_missing_column_is_an_error",
    ),
]
