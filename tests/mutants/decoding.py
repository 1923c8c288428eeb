"""Films that end, freeze or fill the process that reads them."""

from tests.mutants.mutant import Mutant

FILMS = "tests/components/cxr/films"

MUTANTS = [
    Mutant(
        "a-dead-decoder-is-not-replaced-for-a-second-try",
        file="components/cxr/films/isolated.py",
        old="            return self._decode(data, preset, new=False)\n        except (DiedError, OutOfMemoryError):",
        new="            return self._decode(data, preset, new=False)\n        except OutOfMemoryError:",
        test=f"{FILMS}/test_isolated.py::test_a_process_that_somebody_kills_costs_no_film",
    ),
    Mutant(
        "decoders-are-given-every-secret",
        file="components/cxr/films/spawned.py",
        old='if n in _PASSED_ON or n.startswith(("LC_", "LD_", "PYTHON"))}',
        new="}",
        test=f"{FILMS}/test_isolated.py::test_decoders_know_no_secret_and_leave_no_core",
    ),
    Mutant(
        "a-decoder-that-starts-too-late-outlives-its-parent",
        file="components/cxr/films/decoder_process.py",
        old="    if os.getppid() != parent:",
        new="    if os.getppid() == 0:",
        test=f"{FILMS}/test_isolated.py::test_a_process_whose_parent_is_already_gone_ends_at_once",
    ),
    Mutant(
        "decoders-live-as-long-as-the-thread-that-needed-them-first",
        file="components/cxr/films/spawned.py",
        old="_in_lasting_thread(lambda: _spawn(self._film.number, memory_bytes))",
        new="_spawn(self._film.number, memory_bytes)",
        test=f"{FILMS}/test_isolated.py::test_a_process_outlives_the_thread_that_needed_it_first",
    ),
    Mutant(
        "deflated-data-grow-without-end",
        file="components/cxr/films/dicom.py",
        old="                if len(body) > most:\n",
        new="                if len(body) < 0:\n",
        test=f"{FILMS}/test_pixels_files.py::test_a_deflated_bomb_is_refused",
    ),
    Mutant(
        "a-height-of-0-is-refused-with-dnl-too",
        file="components/cxr/films/jpeg.py",
        old="segment[1] != _DNL or",
        new="segment[1] == _DNL or",
        test=f"{FILMS}/test_jpeg_header.py::test_the_height_may_follow_the_first_scan",
    ),
    Mutant(
        "markers-of-a-jpeg-header-are-not-checked",
        file="components/cxr/films/jpeg.py",
        old="        if marker not in _FAMILY and marker != _SOS and marker not in _TABLES:\n",
        new="        if marker == 0x100:\n",
        test=f"{FILMS}/test_jpeg_header.py::test_a_marker_that_may_not_stand_in_a_header",
    ),
    Mutant(
        "ages-refused-in-compressed-films-are-not-told",
        file="components/cxr/films/decoder_process.py",
        old=' if field.name != "pixels"}',
        new=' if field.name not in ("pixels", "refused_age")}',
        test=f"{FILMS}/test_isolated.py::test_films_are_the_same_as_in_this_process",
    ),
    Mutant(
        "a-film-is-read-with-the-rest-of-a-longer-one",
        file="components/cxr/films/shared_memory.py",
        old='if length else b"")[:length]',
        new='if length else b"")',
        test=f"{FILMS}/test_shared_memory.py::test_each_film_is_read_as_it_was_written",
    ),
    Mutant(
        "large-mappings-are-kept",
        file="components/cxr/films/shared_memory.py",
        old="not length <= kept <= max(length, _KEPT)",
        new="not length <= kept",
        test=f"{FILMS}/test_shared_memory.py::test_a_mapping_is_kept_for_the_next_film_unless_it_is_large",
    ),
    Mutant(
        "fragments-are-searched-for-plain-pixels",
        file="components/cxr/films/isolated.py",
        old="                if length == _UNDEFINED and data[start : start + 4] == ITEM:\n",
        new="                if length < 0:\n",
        test=f"{FILMS}/test_isolated.py::test_fragments_are_no_plain_pixels_whatever_they_hold",
    ),
]
