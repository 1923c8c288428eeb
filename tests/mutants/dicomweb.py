"""Films from a PACS."""

from tests.mutants.mutant import Mutant

CLIENT = "tests/components/cxr/test_dicomweb.py"
FILE = "components/cxr/dicomweb.py"
PREDICT = "tests/components/serve/test_predict.py"
PREDICT_PACS = "tests/components/serve/test_predict_pacs.py"

MUTANTS = [
    Mutant(
        "a-film-that-was-cut-off-is-taken",
        file=FILE,
        old="""        raise requests.exceptions.ChunkedEncodingError("cut off")""",
        new="""        return body[body.find(b"\\r\\n\\r\\n") + 4 :]""",
        test=f"{CLIENT}::test_a_film_that_was_cut_off_is_asked_for_again",
    ),
    Mutant(
        "a-busy-pacs-is-a-wrong-address",
        file=FILE,
        old="_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})",
        new="_AGAIN = frozenset({408, 425, 429})",
        test=f"{CLIENT}::test_a_busy_server_is_asked_again_until_the_deadline",
    ),
    Mutant(
        "a-search-never-ends-where-pages-do-not-count",
        file=FILE,
        old="            if not new:\n",
        new="            if not page:\n",
        test=f"{CLIENT}::test_a_server_whose_pages_do_not_count_ends",
        hangs=True,
        limit=60.0,
    ),
    Mutant(
        "a-uid-of-the-pacs-goes-anywhere",
        file=FILE,
        old='UID = re.compile(r"[0-9]+(\\.[0-9]+)*")',
        new='UID = re.compile(r".*")',
        test=f"{CLIENT}::test_a_server_whose_pages_do_not_count_ends",
    ),
    Mutant(
        "a-misspelt-query-is-the-whole-pacs",
        file="components/cxr/pacs.py",
        old='if name not in ("adapter", *_OF_DATA_SETS)}',
        new="if name in cls.model_fields}",
        test=f"{PREDICT_PACS}::test_what_is_no_pacs_is_one_error",
    ),
    Mutant(
        "a-film-that-vanishes-ends-the-prediction",
        file="components/serve/predict_parts.py",
        old="        except FileNotFoundError:\n",
        new="        except BlockingIOError:\n",
        test=f"{PREDICT}::test_films_that_vanish_or_are_none_cost_themselves",
    ),
    Mutant(
        "what-is-no-film-makes-films-too-many",
        file="components/serve/predict_parts.py",
        old="        if len(films) > self.config.max_files:\n",
        new="        if not films:\n",
        test=f"{PREDICT}::test_films_that_vanish_or_are_none_cost_themselves",
    ),
    Mutant(
        "another-patients-study-by-a-like-accession-number",
        file="components/cxr/pacs_search.py",
        old=" if value_of(study, name) == value]",
        new="]",
        test=f"{CLIENT}::test_a_server_that_does_not_filter_finds_what_is_listed_alone",
    ),
    Mutant(
        "a-pacs-that-fails-is-a-bad-film",
        file="components/cxr/pacs_search.py",
        old='            if error.code == "pacs-refused" or not self._another_comes(name):\n',
        new='            if error.code == "pacs-refused":\n',
        test=f"{CLIENT}::test_a_server_that_fails_is_no_bad_film",
    ),
    Mutant(
        "a-failing-pacs-is-waited-for-twice",
        file="components/cxr/pacs_search.py",
        old="Dicomweb(self._server, once=True)\n        try:\n",
        new="Dicomweb(self._server)\n        try:\n",
        test=f"{CLIENT}::test_a_server_that_fails_is_no_bad_film",
    ),
    Mutant(
        "a-first-film-that-never-comes-ends-every-run",
        file="components/cxr/pacs_search.py",
        old='self._came or next(_elsewhere(once, name.partition("/")[0]), None)',
        new="self._came",
        test=f"{CLIENT}::test_a_film_that_the_server_never_gives_costs_itself",
    ),
    Mutant(
        "a-film-that-is-damaged-ends-the-prediction",
        file="components/serve/predict_parts.py",
        old="        except DamagedFileError:\n",
        new="        except BlockingIOError:\n",
        test=f"{PREDICT_PACS}::test_a_film_that_the_pacs_never_gives_costs_itself",
    ),
    Mutant(
        "a-film-that-one-may-not-see-is-a-bad-film",
        file="components/cxr/pacs_search.py",
        old='error.code == "pacs-refused" or not self._another_comes',
        new="not self._another_comes",
        test=f"{CLIENT}::test_a_film_that_may_not_be_seen_stops_the_run",
    ),
    Mutant(
        "a-study-that-is-not-listed-ends-the-search",
        file="components/cxr/pacs_search.py",
        old='            if error.code == "pacs-refused" or not self._answers_another(thing):\n',
        new="            if True:\n",
        test=f"{CLIENT}::test_a_study_whose_films_are_not_listed_costs_itself",
    ),
    Mutant(
        "a-failing-server-is-a-study-that-is-not-listed",
        file="components/cxr/pacs_search.py",
        old='            if error.code == "pacs-refused" or not self._answers_another(thing):\n',
        new='            if error.code == "pacs-refused":\n',
        test=f"{CLIENT}::test_a_server_that_dies_during_the_search_stops_it",
    ),
    Mutant(
        "a-study-that-one-may-not-see-is-left-out",
        file="components/cxr/pacs_search.py",
        old='error.code == "pacs-refused" or not self._answers_another(thing)',
        new="not self._answers_another(thing)",
        test=f"{CLIENT}::test_a_study_that_may_not_be_seen_stops_the_search",
    ),
    Mutant(
        "a-study-without-films-is-answered-from-its-text",
        file="components/serve/predict_parts.py",
        old="        if study.reason is not None:\n",
        new="        if study.reason == study.name:\n",
        test=f"{PREDICT_PACS}::test_a_study_whose_films_are_not_listed_is_a_row_with_the_reason",
    ),
    Mutant(
        "studies-that-are-not-listed-are-lost-in-silence",
        file="components/preprocess/adapters/dicomweb.py",
        old='        left_out={"studies whose films the PACS did not list": unlisted} if unlisted else {},\n',
        new="        left_out={},\n",
        test="tests/components/preprocess/test_dicomweb_bad_films.py"
        "::test_a_study_whose_films_are_not_listed_is_left_out_and_counted",
    ),
]
