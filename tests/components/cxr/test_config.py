from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest
import yaml
from pydantic import Field, ValidationError

from components.cxr.config import Config, content_hash, load_yaml, section, with_overrides
from components.cxr.errors import UserError


class Inner(Config):
    size: int = Field(3, ge=1)
    """Side."""


class Outer(Config):
    name: Literal["a", "b"]
    """Kind."""
    inner: Inner = Inner()
    """Nested."""
    other: Inner | Literal["none"] | None = "none"
    """Of several types."""


def test_defaults_and_descriptions() -> None:
    assert Outer.parse({"name": "a"}, where="x").inner.size == 3
    assert Outer.model_fields["inner"].description == "Nested."


def test_frozen() -> None:
    with pytest.raises(ValidationError):
        Outer(name="a").name = "b"  # type: ignore[misc]


def test_pipeline_parameters_turn_integers_into_floats() -> None:
    parsed = Outer.parse({"name": "a", "inner": {"size": 224.0}}, where="x")
    assert parsed.canonical_json() == Outer.parse({"inner": {"size": 224}, "name": "a"}, where="x").canonical_json()
    with pytest.raises(UserError, match=r"x\.inner\.size; found 224\.5"):
        Outer.parse({"name": "a", "inner": {"size": 224.5}}, where="x")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"name": "a", "iner": {}},
            "unknown configuration field: x.iner; found iner, expected one of name, inner, other. Did you mean inner?",
        ),
        (
            {"name": "a", "inner": {"siz": 1}},
            "unknown configuration field: x.inner.siz; found siz, expected one of size. Did you mean size?",
        ),
        ({}, "missing configuration field: x.name. Set it in the YAML or with --set."),
        ({"name": "c"}, "bad configuration value: x.name; found 'c', expected 'a' or 'b'"),
        (
            {"name": "a", "other": {"size": 0}},
            "bad configuration value: x.other.size; found 0, expected greater than or equal to 1",
        ),
        (
            {"name": "a", "other": {"siz": 1}},
            "unknown configuration field: x.other.siz; found siz, expected one of size. Did you mean size?",
        ),
        (
            {"name": "a", "other": "non"},
            "bad configuration value: x.other; found 'non', expected a mapping or 'none'",
        ),
        ({"name": "c", "inner": 1}, "bad configuration value (1 more): x.name; found 'c', expected 'a' or 'b'"),
    ],
)
def test_mistakes_name_their_dotted_path(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        Outer.parse(values, where="x")
    assert str(caught.value) == message


def test_hash_depends_on_the_borders_of_its_parts() -> None:
    assert content_hash("ab", "c") != content_hash("a", "bc")
    assert content_hash("a", b"b") == content_hash("a", "b")
    assert len(content_hash("")) == 16


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    return path


def test_yaml(tmp_path: Path) -> None:
    assert load_yaml(write(tmp_path, "root: x\ntrain: {epochs: 3}\n")) == {"root": "x", "train": {"epochs": 3}}
    assert load_yaml(write(tmp_path, "")) == {}


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("trian: {}", ["unknown section", "trian", "Did you mean train?"]),
        ("- a", ["not a mapping", "found list"]),
        ("a: [", ["not valid YAML", "line 1"]),
        ("root: 2026-02-30", ["not valid YAML", "day is out of range"]),
        ("train: {epochs: 3}\nroot: x\ntrain: {seed: 1}", ["not valid YAML", "train is there twice", "line 3"]),
        ("train: {seed: 0, text: {sections: []}, seed: 1}", ["not valid YAML", "seed is there twice"]),
    ],
)
def test_bad_yaml(tmp_path: Path, text: str, parts: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        load_yaml(write(tmp_path, text))
    for part in [*parts, "c.yaml"]:
        assert part in str(caught.value)


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_another_encoding_than_utf_8_is_told(encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("root: Röntgen\n", encoding=encoding)
    with pytest.raises(UserError, match=r"configuration is not UTF-8: .*c\.yaml\. Save it as UTF-8\."):
        load_yaml(path)
    path.write_text("root: Röntgen\n", encoding="utf-8-sig")  # as Notepad may
    assert load_yaml(path) == {"root": "Röntgen"}


@pytest.mark.parametrize("text", ["12:00:00", "1:30:00", "30:00", "1:30.5", "-1:30"])
def test_a_time_is_no_number_to_the_base_60(text: str, tmp_path: Path) -> None:
    assert load_yaml(write(tmp_path, f"platform: {{slurm: {{time: {text}}}}}")) == {
        "platform": {"slurm": {"time": text}}
    }
    assert with_overrides({}, [f"platform.time={text}"]) == {"platform": {"time": text}}


def test_other_numbers_are_read_as_ever(tmp_path: Path) -> None:
    text = "train: {a: 90, b: -1, c: 0x1f, d: 1_000, e: 1.5e-3, f: .inf, g: 010, h: 0b11, i: '90', j: 1e-4}"
    assert load_yaml(write(tmp_path, text)) == yaml.safe_load(text)


def test_overrides_are_yaml_and_leave_the_original_alone() -> None:
    values = {"train": {"epochs": 3}}
    changed = with_overrides(values, ["train.epochs=5", "train.text.sections=[indication]", "root=gs://b/x=y"])
    assert changed == {"train": {"epochs": 5, "text": {"sections": ["indication"]}}, "root": "gs://b/x=y"}
    assert values == {"train": {"epochs": 3}}


def test_overrides_go_into_a_section_without_anything_in_it(tmp_path: Path) -> None:
    values = load_yaml(write(tmp_path, "train:\n  # epochs: 3\n"))
    assert with_overrides(values, ["train.text.sections=[]"]) == {"train": {"text": {"sections": []}}}


@pytest.mark.parametrize(
    "assignment",
    ["train.epochs", "=3", "train..x=1", "trian.x=1", "train.epochs.x=1", "train.epochs=[", "train.x=2026-02-30"],
)
def test_bad_overrides(assignment: str) -> None:
    with pytest.raises(UserError, match="--set"):
        with_overrides({"train": {"epochs": 3}}, [assignment])


def test_section() -> None:
    assert section({"train": {"a": 1}}, "train") == {"a": 1}
    assert section({"train": None}, "train") == section({}, "train") == {}
    with pytest.raises(UserError, match="section is not a mapping: train; found 3"):
        section({"train": 3}, "train")
