"""Reports back to a PACS."""

from tests.mutants.mutant import Mutant

REPORT = "tests/components/serve/test_structured_report.py"
ROUTE_REPORT = "tests/components/serve/test_route_report.py"
ROUTE = "tests/components/serve/test_route.py"

MUTANTS = [
    Mutant(
        "a-report-is-named-by-the-last-digits",
        file="components/serve/structured_report.py",
        old="{name}={answer.threshold!r}",
        new="{name}={answer.probability!r}",
        test=f"{REPORT}::test_the_same_films_and_model_are_the_same_report",
    ),
    Mutant(
        "a-refused-study-is-reported-with-numbers",
        file="components/serve/structured_report.py",
        old="    if is_answer:\n        groups +=",
        new="    if reply.in_distribution is not None:\n        groups +=",
        test=f"{REPORT}::test_a_refused_study_is_said_to_be_one_without_numbers",
    ),
    Mutant(
        "a-report-is-made-anew-after-a-failure-to-send",
        file="components/serve/route.py",
        old="        report = state.report_under_way(study, films)\n",
        new="        report = None\n",
        test=f"{ROUTE}::test_a_report_is_sent_again_as_it_was",
    ),
    Mutant(
        "films-are-left-out-in-silence",
        file="components/serve/route_report.py",
        old="structured_report(reply, headers, left_out=left_out)",
        new="structured_report(reply, headers)",
        test=f"{ROUTE_REPORT}::test_films_that_cannot_be_used_are_left_out_and_the_rest_is_answered",
    ),
    Mutant(
        "a-report-keeps-the-servers-cautions-to-itself",
        file="components/serve/structured_report.py",
        old="    return found + [caution.message for caution in reply.warnings]\n",
        new="    return found\n",
        test=f"{REPORT}::test_what_the_server_warns_of_is_in_both_reports",
    ),
    Mutant(
        "the-film-behind-the-damaged-one-is-left-out",
        file="components/serve/route_ends.py",
        old="places=[error.film - 1]",
        new="places=[error.film % num_films]",
        test=f"{ROUTE_REPORT}::test_films_that_cannot_be_used_are_left_out_and_the_rest_is_answered",
    ),
    Mutant(
        "unusable-films-make-a-study-too-large",
        file="components/serve/route_report.py",
        old="alone=len(films) > limits.max_files",
        new="alone=False",
        test=f"{ROUTE_REPORT}::test_films_that_cannot_be_used_do_not_make_a_study_too_large",
    ),
    Mutant(
        "a-picture-beside-chest-films-refuses-their-study",
        file="components/serve/other_pictures.py",
        old="    return others if len(others) < len(are_chest_films) else []\n",
        new="    return []\n",
        test=f"{ROUTE_REPORT}::test_another_picture_costs_itself_where_a_chest_film_is_beside_it",
    ),
    Mutant(
        "pictures-of-a-study-cost-an-upload-each",
        file="components/serve/route_report.py",
        old="places=others)",
        new="places=others[:1])",
        test=f"{ROUTE_REPORT}::test_another_picture_costs_itself_where_a_chest_film_is_beside_it",
    ),
    Mutant(
        "a-table-is-of-the-pictures-beside-the-films",
        file="components/serve/predict_parts.py",
        old="to_leave_out([is_chest_film(score) for",
        new="to_leave_out([not is_chest_film(score) for",
        test=f"{ROUTE_REPORT}::test_another_picture_costs_itself_where_a_chest_film_is_beside_it",
    ),
    Mutant(
        "pictures-count-for-how-many-films-a-table-takes",
        file="components/serve/predict_parts.py",
        old="NO_CHEST_FILM if are_chest_films(read.foreign or ()) is False else None",
        new="None",
        test=f"{ROUTE_REPORT}::test_another_picture_costs_itself_where_a_chest_film_is_beside_it",
    ),
    Mutant(
        "studies-that-were-answered-in-part-are-never-asked-again",
        file="components/serve/route_state.py",
        old=" UNION SELECT study, key FROM done, json_each(left_out)",
        new="",
        test=f"{ROUTE}::test_what_had_no_answer_is_asked_again_when_that_is_wanted",
    ),
    Mutant(
        "studies-to-ask-again-are-known-already",
        file="components/serve/route_state.py",
        old="UPDATE done SET films = '' WHERE study = ?",
        new="UPDATE done SET films = films WHERE study = ?",
        test=f"{ROUTE}::test_what_had_no_answer_is_asked_again_when_that_is_wanted",
    ),
    Mutant(
        "news-of-a-study-under-way-is-lost",
        file="components/serve/route_state.py",
        old="DELETE FROM waiting WHERE study = ? AND news = ?",
        new="DELETE FROM waiting WHERE study = ? AND news >= ?",
        test=f"{ROUTE}::test_the_state_knows_what_was_done_and_keeps_news",
    ),
    Mutant(
        "a-study-that-still-grows-is-answered",
        file="components/serve/route_sources.py",
        old="time.time() - status[1] / 1e9 < self._settle_s",
        new="time.time() - status[1] / 1e9 < 0",
        test=f"{ROUTE}::test_a_study_that_still_grows_waits",
    ),
    Mutant(
        "a-silent-server-is-waited-for-for-ever",
        file="components/serve/route.py",
        old="        if now - since > self._patience_s:\n",
        new="        if since > now:\n",
        test=f"{ROUTE}::test_a_server_that_is_silent_for_too_long_ends_it",
        hangs=True,
        limit=60.0,
    ),
    Mutant(
        "what-is-left-of-an-answered-study-is-answered-again",
        file="components/serve/route.py",
        old="(known.reason is None and set(each) <= set(before[1:]))",
        new="False",
        test=f"{ROUTE}::test_films_that_are_tidied_up_after_the_answer_make_no_other[True]",
    ),
    Mutant(
        "a-film-that-is-gone-is-news",
        file="components/serve/route_sources.py",
        old="                    if name in changed:  # a film",
        new="                    if True:  # a film",
        test=f"{ROUTE}::test_a_study_that_still_grows_waits",
    ),
    Mutant(
        "a-server-that-refuses-is-silent",
        file="components/serve/route.py",
        old="outcome.reason not in _UNASKED:",
        new="outcome.reason is None:",
        test=f"{ROUTE}::test_a_server_that_refuses_is_not_silent",
    ),
]
