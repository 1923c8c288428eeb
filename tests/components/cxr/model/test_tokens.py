"""Token ids kept flat are those that the tokenizer gives for each text."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from components.cxr.model import tokens
from components.cxr.model.tokens import tokenized
from components.train.tokenizer import learn_tokenizer

TEXTS = ["cough and fever", "", "fever", "   ", "chest pain, cough and fever since may", "Fièvre", "cough"] * 3


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of texts of each time that a tokenizer was asked."""
    monkeypatch.setenv("CXRFLOW_CACHE", str(tmp_path))
    monkeypatch.setattr(tokens, "_TEXTS_AT_ONCE", 4)
    asked: list[int] = []
    tokenize = tokens._tokenize
    monkeypatch.setattr(tokens, "_tokenize", lambda texts, *rest: asked.append(len(texts)) or tokenize(texts, *rest))
    return asked


def tokenizer(texts: list[str] = TEXTS) -> PreTrainedTokenizerFast:
    return learn_tokenizer(texts, vocabulary_size=200, max_tokens=32)


def test_ids_are_those_of_each_text(made: list[int]) -> None:
    words = tokenizer()
    found = tokenized(TEXTS, tokenizer=words, max_tokens=5)
    assert len(found.first_S) == len(TEXTS) + 1
    for s, text in enumerate(TEXTS):
        ids = found.id_N[found.first_S[s] : found.first_S[s + 1]].tolist()
        assert ids == words(text, truncation=True, max_length=5)["input_ids"]
    padded = words(TEXTS, padding=True, truncation=True, max_length=5)
    id_BT, there_BT = found.padded(range(len(TEXTS)), padding=words.pad_token_id)
    assert id_BT.tolist() == padded["input_ids"]
    assert there_BT.tolist() == [[bool(one) for one in row] for row in padded["attention_mask"]]


def test_ids_are_made_once_for_one_tokenizer_texts_and_length(made: list[int]) -> None:
    first, other = tokenizer(), tokenizer(["pain in the chest"] * 3)
    for _ in range(2):
        for words, texts, max_tokens in (
            (first, TEXTS, 5),
            (first, TEXTS, 6),
            (first, TEXTS[1:], 5),
            (other, TEXTS, 5),
        ):
            found = tokenized(texts, tokenizer=words, max_tokens=max_tokens)
            ids = found.id_N[found.first_S[3] : found.first_S[4]].tolist()
            assert ids == words(texts[3], truncation=True, max_length=max_tokens)["input_ids"]
            words("a text", padding=True)  # leaves its own settings in the tokenizer
    assert made == [len(TEXTS), len(TEXTS), len(TEXTS) - 1, len(TEXTS)]


def test_no_text_is_no_tokens(made: list[int]) -> None:
    found = tokenized([], tokenizer=tokenizer(), max_tokens=5)
    assert (found.first_S.tolist(), found.id_N.tolist()) == ([0], [])
