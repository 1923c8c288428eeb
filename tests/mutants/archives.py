"""Sources in zip and tar."""

from tests.mutants.mutant import Mutant

ARCHIVES = "tests/components/preprocess/test_archives.py"

MUTANTS = [
    Mutant(
        "of-a-zip-by-bzip2-too-little-is-read-for-a-header",
        file="components/cxr/storage/zip_members.py",
        old="if in_order else info.compress_size\n",
        new="if in_order or wanted else info.compress_size\n",
        test=f"{ARCHIVES}::test_films_of_a_zip_keep_their_study_and_patient_however_it_is_compressed",
    ),
    Mutant(
        "a-damaged-film-of-a-zip-ends-the-run",
        file="components/preprocess/read_study.py",
        old="    except DamagedFileError as error:\n",
        new="    except NotADirectoryError as error:\n",
        test=f"{ARCHIVES}::test_a_member_that_cannot_be_inflated_is_a_reject",
    ),
    Mutant(
        "an-encrypted-zip-is-read-on",
        file="components/cxr/storage/zip_members.py",
        old="        if encrypted:\n",
        new="        if encrypted == len(infos) + 1:\n",
        test=f"{ARCHIVES}::test_an_encrypted_zip_is_one_error",
    ),
    Mutant(
        "a-tar-that-ends-after-a-whole-member-passes-for-all-of-it",
        file="components/cxr/storage/tar_members.py",
        old="                if not archive.offset < size:\n",
        new="                if not archive.offset <= size:\n",
        test=f"{ARCHIVES}::test_an_archive_that_is_cut_off_is_one_error",
    ),
    Mutant(
        "names-that-lead-out-of-an-archive-are-films",
        file="components/cxr/storage/archive_file.py",
        old="            num_outside += 1\n",
        new="            num_outside += 0\n",
        test=f"{ARCHIVES}::test_names_that_lead_out_are_one_error",
    ),
]
