"""The pattern of many phrases against the plain alternation that it stands for."""

from __future__ import annotations

import re
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.cxr.text import reading_words
from components.cxr.text.phrases import any_case, one_of
from components.cxr.text.sections import HEADERS

TOKENS = {" ": r"[ \t]{1,3}", "/": r"[ \t]*/[ \t]*", "*": r"[\w-]*"}


def plain(phrases: list[str]) -> str:
    def pattern(phrase: str) -> str:
        return "".join(TOKENS.get(char) or re.escape(char) for char in phrase)

    return "|".join(map(pattern, sorted(dict.fromkeys(phrases), key=len, reverse=True)))


@settings(max_examples=500)
@given(
    st.lists(st.text("abS-. /*", min_size=1, max_size=5), min_size=1, max_size=12),
    st.lists(st.text("aAbBsSſ-. \t/:", max_size=12), max_size=6),
    st.sampled_from(["", r"(?![\w/])", ":"]),
)
def test_the_same_is_found_as_by_the_plain_alternation(phrases: list[str], texts: list[str], behind: str) -> None:
    ours = re.compile(rf"({one_of(phrases, tokens=TOKENS)}){behind}")
    theirs = re.compile(rf"({plain(phrases)}){behind}", re.IGNORECASE)
    for text in texts:
        assert [m.span() for m in ours.finditer(text)] == [m.span() for m in theirs.finditer(text)]


@settings(max_examples=200)
@given(st.lists(st.text("aA-", min_size=1, max_size=4), min_size=1, max_size=8), st.text("aA-", max_size=9))
def test_case_may_count(phrases: list[str], text: str) -> None:
    ours, theirs = re.compile(one_of(phrases, ignore_case=False)), re.compile(plain(phrases))
    assert [m.span() for m in ours.finditer(text)] == [m.span() for m in theirs.finditer(text)]


def test_letters_have_the_cases_that_the_flag_gives_them() -> None:
    every = "".join(map(chr, range(0x3000)))
    letters = set("".join(HEADERS)) | {
        char for name in reading_words.__all__ for char in str(vars(reading_words)[name])
    }
    assert len(letters) > 40
    for letter in sorted(letters):
        wanted = re.findall(re.escape(letter), every, re.IGNORECASE)
        assert re.findall(any_case(letter), every) == wanted, letter


@pytest.mark.parametrize("name", [n for n in reading_words.__all__ if n != "any_of"])
def test_every_phrase_is_found_whole(name: str) -> None:
    pattern = reading_words.any_of(vars(reading_words)[name])
    for phrase in vars(reading_words)[name].split(","):
        text = " ".join(phrase.split()).replace("*", "x")
        if text:
            found = pattern.search(f"({text.upper()})")
            assert found is not None, text
            assert found.start() == 1, text
            assert len(found.group()) >= min(len(text), 1 if "*" in phrase else sys.maxsize), text
