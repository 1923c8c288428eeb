import random
import subprocess
import sys

import pytest
import torch
from transformers import AutoTokenizer

from components.cxr.model.dataset import StudyDataset
from components.cxr.shards import LoadedManifest
from components.train.config import TrainConfig
from components.train.setup import Setup
from components.train.tokenizer import learn_tokenizer

TEXTS = [
    f"{age} year old woman with {symptom}, evaluate for {query}"
    for age in range(40, 60)
    for symptom in ("cough", "fever", "dyspnea")
    for query in ("pneumonia", "effusion")
]


def test_equal_sets_of_texts_give_equal_vocabularies_in_any_process() -> None:
    shuffled = random.Random(0).sample(TEXTS, len(TEXTS))
    here = learn_tokenizer(shuffled, vocabulary_size=150, max_tokens=32).backend_tokenizer.to_str()
    code = (
        "import sys; from components.train.tokenizer import learn_tokenizer;"
        "t = learn_tokenizer(sys.stdin.read().splitlines(), vocabulary_size=150, max_tokens=32);"
        "sys.stdout.write(t.backend_tokenizer.to_str())"
    )
    there = subprocess.run(
        [sys.executable, "-c", code], input="\n".join(TEXTS), capture_output=True, text=True, check=True
    )
    assert there.stdout == here


def test_saved_tokenizer_loads_without_a_hub_and_gives_the_same_ids(tmp_path) -> None:
    tokenizer = learn_tokenizer(TEXTS, vocabulary_size=150, max_tokens=8)
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    texts = ["Cough and fever", "", "unseen zebra"]
    options = {"padding": True, "truncation": True, "max_length": 8}
    assert loaded(texts, **options)["input_ids"] == tokenizer(texts, **options)["input_ids"]
    ids = tokenizer(texts, **options)["input_ids"]
    assert {row[0] for row in ids} == {tokenizer.cls_token_id}
    assert ids[1][1] == tokenizer.sep_token_id


def test_a_word_of_one_patient_in_many_studies_does_not_enter_the_vocabulary() -> None:
    texts = [*TEXTS, *["zollinger with cough"] * 5, *["asthma"] * 3]
    patients = [*(str(i) for i in range(len(TEXTS))), *["p"] * 3, *["q"] * 2, "p", "q", "r"]
    vocabulary = learn_tokenizer(texts, patients=patients, vocabulary_size=1000, max_tokens=8).get_vocab()
    assert "asthma" in vocabulary
    assert "zollinger" not in vocabulary


def test_a_training_counts_the_patients_of_its_texts(
    tiny_config: TrainConfig, tiny_data: LoadedManifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    def texts(self: StudyDataset) -> list[str]:
        number = [sorted(set(self.patient_ids)).index(patient) for patient in self.patient_ids]
        return [f"cough {'zollinger' if n < 2 else ''} {'asthma' if n < 3 else ''}" for n in number]

    monkeypatch.setattr(StudyDataset, "texts", texts)
    setup = Setup(tiny_config, tiny_data, device=torch.device("cpu"))
    assert sum("zollinger" in text for text in setup.training.texts()) == 4
    vocabulary = setup.tokenizer.get_vocab()
    assert "asthma" in vocabulary
    assert "zollinger" not in vocabulary


def test_no_texts_still_give_a_tokenizer() -> None:
    tokenizer = learn_tokenizer([], vocabulary_size=150, max_tokens=8)
    assert len(tokenizer) == 4
    assert tokenizer("anything")["input_ids"][0] == tokenizer.cls_token_id


def test_a_word_of_one_study_does_not_enter_the_vocabulary() -> None:
    tokenizer = learn_tokenizer([*TEXTS, "zollinger zollinger zollinger"], vocabulary_size=1000, max_tokens=8)
    vocabulary = tokenizer.get_vocab()
    assert "woman" in vocabulary
    assert "zollinger" not in vocabulary
    assert tokenizer.unk_token_id not in tokenizer("zollinger")["input_ids"], "it is spelled instead"
