"""What of a report a model may read."""

from tests.mutants.mutant import Mutant

TEXT = "tests/components/cxr/text/test_text.py"
PHRASES = "tests/components/cxr/text/test_phrases.py"
STRICT = "tests/components/cxr/text/test_strict_sections.py"
PLAIN = "tests/components/cxr/text/test_plain_text.py"
LANGUAGE = "tests/components/cxr/text/test_reader_language.py"
MIMIC = "tests/components/cxr/text/test_mimic_sections.py"

MUTANTS = [
    Mutant(
        "a-blank-line-below-a-header-always-ends-its-section",
        file="components/cxr/text/strict_sections.py",
        old="        if findings_next and mark.section is None",
        new="        if False and mark.section is None",
        test=f"{STRICT}::test_a_section_may_stand_behind_a_blank_line_where_findings_have_a_header",
    ),
    Mutant(
        "a-blank-line-below-a-header-never-ends-its-section",
        file="components/cxr/text/strict_sections.py",
        old="        if findings_next and mark.section is None",
        new="        if mark.section is None",
        test=f"{STRICT}::test_what_may_be_a_reading_behind_an_empty_indication_is_none",
    ),
    Mutant(
        "a-leaky-section-is-an-input-without-being-allowed",
        file="components/cxr/text/text.py",
        old="        if self.leaky and not self.allow_leaky_sections:\n",
        new="        if self.leaky and len(self.sections) > 2:\n",
        test=f"{TEXT}::test_leaky_sections_are_refused_unless_allowed",
    ),
    Mutant(
        "text-of-the-reader-mimic-is-not-leaky",
        file="components/cxr/text/text.py",
        old='    return config.leaky or (reader == "mimic" and bool(config.sections))\n',
        new="    return config.leaky\n",
        test=f"{TEXT}::test_text_of_the_reader_mimic_is_leaky",
    ),
    Mutant(
        "the-whole-report-is-the-indication",
        file="components/cxr/text/text.py",
        old="    if found.has_header:\n",
        new="    if not found.has_header:\n",
        test=f"{TEXT}::test_request_takes_a_bare_text_as_the_indication",
    ),
    Mutant(
        "an-indication-in-a-column-of-its-own-is-not-cut",
        file="components/cxr/text/text.py",
        old='    if reader == "strict":\n',
        new='    if reader == "mimic":\n',
        test=f"{TEXT}::test_sections_in_columns_of_their_own_are_cut_too",
    ),
    Mutant(
        "sections-are-joined-in-alphabetical-order",
        file="components/cxr/text/text.py",
        old="for name in config.sections)\n    return",
        new="for name in sorted(config.sections))\n    return",
        test=f"{TEXT}::test_sections_are_joined_in_the_configured_order",
    ),
    Mutant(
        "a-header-with-a-turkish-i-is-unknown",
        file="components/cxr/text/strict_sections.py",
        old=".translate(_SAME_LETTER).lower()",
        new=".lower()",
        test=f"{STRICT}::test_indication_holds_only_what_was_written_before_the_reading",
    ),
    Mutant(
        "a-reading-behind-the-indication-stays-in-it",
        file="components/cxr/text/strict_sections.py",
        old='    start = reading_starts(part)\n    return [(section, part[:start]), ("other", part[start:])]\n',
        new="    return [(section, part)]\n",
        test=f"{STRICT}::test_indication_ends_where_a_reading_starts",
    ),
    Mutant(
        "an-unknown-header-goes-on-in-the-indication",
        file="components/cxr/text/strict_sections.py",
        old='    if not mark.known:\n        return None if post_read else "other"\n',
        new="    if not mark.known:\n        return None\n",
        test=f"{STRICT}::test_indication_holds_only_what_was_written_before_the_reading",
    ),
    Mutant(
        "an-indication-behind-an-impression-is-pre-read",
        file="components/cxr/text/strict_sections.py",
        old='        current = "other" if was_read and section in PRE_READ else section\n',
        new="        current = section\n",
        test=f"{STRICT}::test_indication_holds_only_what_was_written_before_the_reading",
    ),
    Mutant(
        "the-second-paragraph-belongs-to-the-indication",
        file="components/cxr/text/strict_sections.py",
        old='        return None if post_read or preamble else "other"\n',
        new="        return None\n",
        test=f"{STRICT}::test_indication_holds_only_what_was_written_before_the_reading",
    ),
    Mutant(
        "the-reader-mimic-takes-headers-in-small-letters",
        file="components/cxr/text/mimic_sections.py",
        old="(?P<name>[A-Z(),/ -]{1,80})",
        new="(?P<name>[A-Za-z0-9(),/ -]{1,80})",
        test=f"{MIMIC}::test_convention",
    ),
    Mutant(
        "a-question-excuses-nothing",
        file="components/cxr/text/reader_language.py",
        old="        return any(start <= position for start in self._asked)\n",
        new="        return False\n",
        test=f"{LANGUAGE}::test_a_finding_is_a_reading_unless_asked_about_known_or_past",
    ),
    Mutant(
        "a-known-finding-is-a-reading",
        file="components/cxr/text/reader_language.py",
        old="        return any(start <= position <= end for start, end in self._recalled)\n",
        new="        return False\n",
        test=f"{LANGUAGE}::test_a_finding_is_a_reading_unless_asked_about_known_or_past",
    ),
    Mutant(
        "a-recollection-governs-the-whole-sentence",
        file="components/cxr/text/reader_language.py",
        old="start <= position <= end for start, end",
        new="start <= position for start, end",
        test=f"{LANGUAGE}::test_a_finding_is_a_reading_unless_asked_about_known_or_past",
    ),
    Mutant(
        "a-question-goes-on-behind-its-full-stop",
        file="components/cxr/text/reader_language.py",
        old="        asked = asked and sentence.goes_on\n",
        new="",
        test=f"{LANGUAGE}::test_a_question_goes_on_where_its_sentence_does",
    ),
    Mutant(
        "an-organ-and-its-state-are-no-reading",
        file="components/cxr/text/reader_language.py",
        old="    if _describes_an_organ(plain, scopes) or _places_a_device(plain, scopes):\n",
        new="    if _places_a_device(plain, scopes):\n",
        test=f"{LANGUAGE}::test_a_finding_is_a_reading_unless_asked_about_known_or_past",
    ),
    Mutant(
        "a-devices-place-is-no-reading",
        file="components/cxr/text/reader_language.py",
        old="    if _describes_an_organ(plain, scopes) or _places_a_device(plain, scopes):\n",
        new="    if _describes_an_organ(plain, scopes):\n",
        test=f"{LANGUAGE}::test_first_sentences_of_readings_of_the_field",
    ),
    Mutant(
        "one-real-line-break-does-not-outvote-a-backslash",
        file="components/cxr/text/plain_text.py",
        old="    return escaped > real\n",
        new="    return escaped > 0\n",
        test=f"{PLAIN}::test_a_column_decides_as_a_whole_about_backslashes",
    ),
    Mutant(
        "excels-line-breaks-stay",
        file="components/cxr/text/plain_text.py",
        old="_x000[dDaA]_|",
        new="",
        test=f"{PLAIN}::test_layouts_that_leaked",
    ),
    Mutant(
        "a-pasted-text-keeps-its-backslashes",
        file="components/cxr/text/text.py",
        old="    (text,) = unescape_column([text])\n",
        new="",
        test=f"{PLAIN}::test_a_pasted_indication_ends_at_what_is_none",
    ),
    Mutant(
        "a-glued-header-is-none",
        file="components/cxr/text/strict_sections.py",
        old="(_KNOWN_WRAPPED, _KNOWN, _GLUED, ",
        new="(_KNOWN_WRAPPED, _KNOWN, ",
        test=f"{PLAIN}::test_layouts_that_leaked",
    ),
    Mutant(
        "phrases-with-an-open-end-hide-longer-ones",
        file="components/cxr/text/phrases.py",
        old="    if len(firsts) > 1 and any(token in variable for token in firsts):",
        new="    if not firsts:",
        test=f"{PHRASES}::test_the_same_is_found_as_by_the_plain_alternation",
    ),
    Mutant(
        "phrases-are-found-in-small-letters-alone",
        file="components/cxr/text/phrases.py",
        old="(char, char.lower(), char.upper())",
        new="(char, char.lower())",
        test=f"{PHRASES}::test_letters_have_the_cases_that_the_flag_gives_them",
    ),
]
