"""Each content key sees every field of its configuration, or the field stands here as neutral, with the reason."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import Field

from components.cxr.config import Config
from components.cxr.errors import UserError
from components.cxr.model.architecture import Architecture, EncoderConfig, VisionConfig
from components.evaluate import evaluate
from components.evaluate.config import EvaluateConfig, PromotionConfig, SecondTruthConfig
from components.evaluate.evaluate import evaluation_key
from components.preprocess.config import (
    CsvData,
    DicomFolderData,
    DicomwebData,
    MimicCxrData,
    OpeniData,
    PreprocessConfig,
)
from components.train import key as train_code
from components.train.config import TrainConfig
from components.train.key import training_key
from components.train.pretrained import check_positions
from components.train.pretrained_source import by_content
from tests.key_fields import changed_fields, sample

CLUSTER = "the pods of a training compute what one machine does"
TRAIN_NEUTRAL = {
    "experiment": "where MLflow lists the run",
    "accumulate": "parts of a batch give the weights of the whole; results agree within rounding",
    "log_every": "how often metrics are logged",
    "checkpoint_every": "a resumed training has the weights of an uninterrupted one",
    "num_processes": "several processes give the weights of one",
    "num_nodes": "several machines give the weights of one",
    "num_workers": "loader processes prepare the batches that this one would",
    "timeout_s": "how long a process waits for the others",
    "device": "where it computes; results agree within rounding",
    "keep_maps": "when feature maps are computed; results agree within rounding",
    "cluster.": CLUSTER,
}
EVALUATE_NEUTRAL = {
    "promotion.": "the decision is made anew each time",
    "registered_model": "where MLflow lists the model",
    "tracking.": "what MLflow gets besides",
    "batch_size": "a study's answer does not depend on its neighbors",
    "device": "where it computes; results agree within rounding",
    "second_truth.table": "its labels count by content",
    "second_truth.user_project": "who is billed for reading the table",
}
PREPROCESS_NEUTRAL = {
    "num_workers": "processes share the films; the bytes are the same",
    "max_reject_fraction": "when the step fails, not what it writes",
}


def check(config: Any, key: Callable[[Any], str], neutral: dict[str, str]) -> None:
    """Every field changes the key, except the neutral ones, which do not."""
    before, wrong = key(config), []
    for name, changed in changed_fields(config):
        is_neutral = any(name == known or (known[-1] == "." and name.startswith(known)) for known in neutral)
        if (key(changed) != before) == is_neutral:
            wrong.append(f"{name} {'changes' if is_neutral else 'does not change'} the key")
    assert not wrong, "\n".join(wrong)
    assert len(list(changed_fields(config))) > 3


def train_key(config: TrainConfig) -> str:
    return training_key(config, "data")


def evaluate_key(config: EvaluateConfig) -> str:
    return evaluation_key(config, predictions="scores", truth_hash="truth")


def test_checkpoints_and_bundles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_code, "by_content", lambda architecture: architecture)  # there are no such weights
    monkeypatch.setattr(train_code, "origin", lambda source: (source, SimpleNamespace(hash=source)))  # and no bundle
    check(TrainConfig(), train_key, TRAIN_NEUTRAL)
    assert training_key(TrainConfig(), "data") != training_key(TrainConfig(), "other data")


def test_evaluations() -> None:
    truth = SecondTruthConfig(name="reader", table="truth.csv")
    promotion = PromotionConfig(policy="non_inferior", margin=0.1, reason="cheaper")
    config = EvaluateConfig(second_truth=truth, promotion=promotion)
    check(config, evaluate_key, EVALUATE_NEUTRAL)
    check(EvaluateConfig(), evaluate_key, EVALUATE_NEUTRAL)
    assert evaluation_key(config, predictions="a", truth_hash="1") != evaluation_key(
        config, predictions="b", truth_hash="1"
    )
    assert evaluation_key(config, predictions="a", truth_hash="1") != evaluation_key(
        config, predictions="a", truth_hash="2"
    )


def test_data_by_preprocess() -> None:
    check(PreprocessConfig(), PreprocessConfig.result_json, PREPROCESS_NEUTRAL)


@pytest.mark.parametrize("source", [MimicCxrData, CsvData, OpeniData, DicomFolderData, DicomwebData])
def test_data_by_source(source: type[Config]) -> None:
    """Another source is another data set, whatever differs; its tables and films count by content besides."""
    check(sample(source), lambda config: config.canonical_json(), {})


@pytest.mark.parametrize(
    ("module", "name", "key", "config"),
    [
        (train_code, "VERSION", train_key, TrainConfig()),
        (train_code, "VOCABULARY", train_key, TrainConfig()),
        (train_code, "SCHEMA_VERSION", train_key, TrainConfig()),
        (evaluate, "VERSION", evaluate_key, EvaluateConfig()),
        (evaluate, "SCHEMA_VERSION", evaluate_key, EvaluateConfig()),
    ],
)
def test_versions_of_code_and_schema_are_in_the_keys(
    module: Any, name: str, key: Callable[[Any], str], config: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = key(config)
    monkeypatch.setattr(module, name, 99)
    assert key(config) != before


def test_pretrained_weights_count_by_content(tmp_path: Path) -> None:
    def key(folder: str) -> str:
        vision = VisionConfig(model_type="resnet", pretrained=str(tmp_path / folder))
        return training_key(TrainConfig(architecture=Architecture(vision=vision)), "data")

    for folder in ("a", "moved", "other"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "config.json").write_text("{}")
        (tmp_path / folder / "model.safetensors").write_bytes(b"1" if folder != "other" else b"2")
    assert key("a") == key("moved") != key("other")
    before = key("a")
    (tmp_path / "a" / "model.safetensors").write_bytes(b"3")
    assert key("a") != before
    with pytest.raises(UserError, match=r"no pretrained weights there: train\.architecture\.vision") as error:
        key("missing")
    assert error.value.code == "no-pretrained-weights"


def test_a_hub_id_counts_as_the_commit_that_it_stands_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a hub here: the one attribute that transformers sets from the hub's answer is set by hand."""
    import transformers

    def architecture(commit: str) -> Architecture:
        found = transformers.AutoConfig.for_model("resnet")
        found._commit_hash = commit
        monkeypatch.setattr(transformers.AutoConfig, "from_pretrained", lambda _, **__: found)
        return by_content(Architecture(vision=VisionConfig(model_type="resnet", pretrained="group/model")))

    assert architecture("1") == architecture("1") != architecture("2")


@pytest.mark.parametrize(
    ("model_type", "config", "largest"),
    [("bert", {"max_position_embeddings": 32}, 32), ("bert", {}, 512), ("roberta", {}, 510), ("t5", {}, None)],
)
def test_texts_fit_the_encoders_positions(model_type: str, config: dict[str, Any], largest: int | None) -> None:
    text = EncoderConfig(model_type=model_type, config=config)
    check_positions(Architecture(text=text, max_tokens=largest or 100_000))
    if largest is not None:
        with pytest.raises(UserError, match=rf"max_tokens; found {largest + 1}, expected at most {largest}") as error:
            check_positions(Architecture(text=text, max_tokens=largest + 1))
        assert error.value.code == "too-many-tokens"


def test_a_forgotten_field_is_noticed() -> None:
    class Inner(Config):
        deep: float = 0.5

    class Outer(Config):
        inner: Inner = Inner()
        names: tuple[str, ...] = ()
        limit: int | None = Field(None, ge=1)
        mode: str = "a"

    check(Outer(), Outer.canonical_json, {})
    for name in ("names", "limit", "mode"):
        with pytest.raises(AssertionError, match=f"{name} does not change the key"):
            check(Outer(), lambda config, name=name: config.model_dump_json(exclude={name}), {})
    with pytest.raises(AssertionError, match=r"inner\.deep does not change the key"):
        check(Outer(), lambda config: config.model_dump_json(exclude={"inner"}), {})
    with pytest.raises(AssertionError, match="mode changes the key"):
        check(Outer(), Outer.canonical_json, {"mode": "a reason that is wrong"})
