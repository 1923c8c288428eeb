"""The tokenizer of a text encoder that starts from scratch, learned on the training studies' pre-read text alone."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

__all__ = ["learn_tokenizer"]

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
MIN_PATIENTS = 3
"""Words of fewer patients are spelled in characters: a bundle must not carry one patient's rare word."""


def learn_tokenizer(
    texts: Sequence[str], *, vocabulary_size: int, max_tokens: int, patients: Iterable[str] | None = None
) -> PreTrainedTokenizerFast:
    """A lower-cased tokenizer of frequent words and single characters, with [CLS] first and [SEP] last.

    It is matched greedily as WordPiece is (Wu et al. 2016); the vocabulary is words by falling number of studies rather
    than learned merges, which the tokenizers library orders differently from process to process.

    Args:
        texts: one per study.
        patients: whose each text is; by default every text is of a patient of its own.
        vocabulary_size: including special tokens and characters, which are always in.
    """
    normalizer, splitter = normalizers.BertNormalizer(lowercase=True), pre_tokenizers.BertPreTokenizer()
    studies_of: Counter[str] = Counter()
    patients_of: defaultdict[str, set[str]] = defaultdict(set)
    whose = map(str, range(len(texts))) if patients is None else patients
    for text, patient in zip(texts, whose, strict=True):
        words = {word for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text))}
        studies_of.update(words)
        for word in words:
            patients_of[word].add(patient)
    characters = sorted({character for word in studies_of for character in word})
    frequent = sorted(
        (word for word, known in patients_of.items() if len(known) >= MIN_PATIENTS),
        key=lambda word: (-studies_of[word], word),
    )
    pieces = dict.fromkeys([*SPECIAL, *characters, *(f"##{character}" for character in characters), *frequent])
    always = len(SPECIAL) + 2 * len(characters)
    vocabulary = {piece: i for i, piece in enumerate(list(pieces)[: max(vocabulary_size, always)])}

    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, splitter
    ids = [(name, vocabulary[name]) for name in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ids)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=max_tokens,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
    )
