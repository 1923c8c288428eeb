"""A study's answer depends on what the condition shows and on nothing else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from components.cxr.bundle import Bundle, load_bundle
from components.cxr.model.batch import Study, collate
from components.cxr.model.dataset import StudyDataset
from components.cxr.model.predictor import Logits, answer, calibrated, condition_of, predict, shown
from components.cxr.operating_points import Calibration, OperatingPoint, OperatingPoints
from components.cxr.report import CONDITIONS, Condition
from components.cxr.shards import LoadedManifest
from components.cxr.storage.storage import Storage


@pytest.fixture(scope="module")
def bundle(fitted_bundle: Storage) -> Bundle:
    return load_bundle(fitted_bundle)


@pytest.fixture(scope="module")
def studies(tiny_data: LoadedManifest, bundle: Bundle) -> list[Study]:
    data = StudyDataset(tiny_data, splits=["test"], text=bundle.info.text)
    return [data[s] for s in range(len(data))]


def test_an_answer_does_not_depend_on_its_neighbors(bundle: Bundle, studies: list[Study]) -> None:
    """Studies of one and two films, with and without text, alone and padded in batches."""
    studies = studies[:12]
    together = predict(bundle, studies, batch_size=64)
    alone = predict(bundle, studies, batch_size=1)
    np.testing.assert_allclose(together.score_SP, alone.score_SP, atol=1e-4)
    np.testing.assert_allclose(together.uncertain_SP, alone.uncertain_SP, atol=1e-5)
    assert together.score_SP.shape == (12, 4)
    assert together.score_SP.dtype == np.float32


def test_scores_and_uncertain_are_of_the_three_logits(bundle: Bundle, studies: list[Study]) -> None:
    info, size = bundle.info, bundle.info.pixel_preset.size
    batch = collate(studies[:6], tokenizer=bundle.tokenizer, max_tokens=info.architecture.max_tokens, size=size)
    (model,) = bundle.models
    with torch.inference_mode():
        logits_BP3 = model.eval()(batch).double().numpy()
    found = predict(bundle, studies[:6])
    np.testing.assert_allclose(found.score_SP, logits_BP3[..., 2] - logits_BP3[..., 0], atol=1e-4)
    shares_BP3 = np.exp(logits_BP3) / np.exp(logits_BP3).sum(axis=2, keepdims=True)
    np.testing.assert_allclose(found.uncertain_SP, shares_BP3[..., 1], atol=1e-5)


@pytest.mark.parametrize(
    ("condition", "seen"),
    [
        ("all", {"films", "text", "meta", "view"}),
        ("image", {"films"}),
        ("image+meta", {"films", "meta", "view"}),
        ("text", {"text"}),
        ("meta", {"meta"}),
    ],
)
def test_a_condition_hides_the_rest(bundle: Bundle, studies: list[Study], condition: Condition, seen: set[str]) -> None:
    """The view is embedded in a film's tokens, so that it shows only together with films."""
    study = next(study for study in studies if study.text and study.age_years and study.sex == "F")
    changed = {
        "films": replace(study, films=[255 - film for film in study.films]),
        "text": replace(study, text="edema effusion"),
        "meta": replace(study, age_years=5.0, sex="M"),
        "view": replace(study, view_positions=["PA" if v == "AP" else "AP" for v in study.view_positions]),
    }
    before = predict(bundle, [study], condition=condition).score_SP
    found = {
        name: not np.allclose(predict(bundle, [other], condition=condition).score_SP, before, atol=1e-6)
        for name, other in changed.items()
    }
    assert found == {name: name in seen for name in changed}


def test_hidden_is_the_same_as_absent(bundle: Bundle, studies: list[Study]) -> None:
    study = next(study for study in studies if study.text and len(study.films) == 2)
    bare = replace(study, text="", age_years=None, sex=None, view_positions=[None, None])
    hidden = predict(bundle, [study], condition="image").score_SP
    np.testing.assert_allclose(predict(bundle, [bare]).score_SP, hidden, atol=1e-5)
    textual = replace(study, films=[], view_positions=[], age_years=None, sex=None)
    np.testing.assert_allclose(
        predict(bundle, [textual]).score_SP, predict(bundle, [study], condition="text").score_SP, atol=1e-5
    )


def test_answers_are_calibrated_and_cut(bundle: Bundle) -> None:
    names = bundle.info.pathologies
    logits = Logits(np.array([[0.0, 0.0, 3.0, -3.0]], np.float32), np.array([[0.2, 0.2, 0.1, 0.9]], np.float32))
    points = OperatingPoints(
        bundle_hash="0" * 64,
        conditions={
            "all": {
                names[0]: OperatingPoint(threshold=0.5),
                names[1]: OperatingPoint(threshold=0.2, calibration=Calibration(slope=1.0, intercept=-2.0)),
                names[2]: OperatingPoint(threshold=0.99),
                names[3]: OperatingPoint(threshold=0.01),
            }
        },
    )
    found = answer(bundle, logits, points, condition="all")
    assert list(found) == list(names)
    assert [one.state for one in found.values()] == [1, 0, 0, -1], (
        "0.2 lies between the calibrated 0.12 and the raw 0.5"
    )
    assert [one.threshold for one in found.values()] == [0.5, 0.2, 0.99, 0.01]
    expected = [0.5, 1 / (1 + np.exp(2.0)), 1 / (1 + np.exp(-3.0)), 1 / (1 + np.exp(3.0))]
    assert [one.probability for one in found.values()] == pytest.approx(expected)
    assert [one.uncertain for one in found.values()] == pytest.approx([0.2, 0.2, 0.1, 0.9])


def test_a_threshold_of_uncertain_leaves_studies_open(bundle: Bundle) -> None:
    """From there up, however likely the other states are."""
    logits = Logits(np.array([[3.0] * 4], np.float32), np.array([[0.1, 0.2, 0.3, 0.6]], np.float32))
    point = OperatingPoint(threshold=0.5, uncertain_threshold=0.2)
    likeliest = OperatingPoint(threshold=0.5)
    states = {
        each.uncertain_threshold: [
            one.state
            for one in answer(
                bundle,
                logits,
                OperatingPoints(bundle_hash="0" * 64, conditions={"all": dict.fromkeys(bundle.info.pathologies, each)}),
                condition="all",
            ).values()
        ]
        for each in (point, likeliest)
    }
    assert states == {0.2: [1, -1, -1, -1], None: [1, 1, 1, -1]}


def test_calibration_is_monotone() -> None:
    values = [calibrated(score, slope=0.5, intercept=1.0) for score in np.linspace(-30, 30, 61)]
    assert values == sorted(values)
    assert values[28] == pytest.approx(0.5)


def test_operating_points_follow_what_is_there(studies: list[Study]) -> None:
    study = next(study for study in studies if study.text and study.age_years and len(study.films) == 2)
    bare = {"age_years": None, "sex": None, "view_positions": ["OBLIQUE", None]}
    assert condition_of(study) == "all"
    assert condition_of(replace(study, **bare)) == "all", "a film with a text is nearest to it"
    assert condition_of(replace(study, text=" ")) == "image+meta"
    assert condition_of(replace(study, text="", **bare)) == "image"
    for known in ({"age_years": 0.0}, {"sex": "M"}, {"view_positions": [None, "LL"]}):
        assert condition_of(replace(study, text="", **(bare | known))) == "image+meta"
    assert condition_of(replace(study, films=[], view_positions=[])) == "text"
    assert condition_of(replace(study, films=[], view_positions=[], text=" ")) == "meta"


@pytest.mark.parametrize("condition", CONDITIONS)
def test_what_a_condition_shows_is_what_the_model_sees_under_it(
    bundle: Bundle, studies: list[Study], condition: Condition
) -> None:
    studies = studies[:8]
    found = predict(bundle, [shown(study, condition) for study in studies])
    expected = predict(bundle, studies, condition=condition)
    np.testing.assert_allclose(found.score_SP, expected.score_SP, atol=1e-5)
    fitting = {condition_of(shown(study, condition)) for study in studies if study.text and study.age_years}
    assert fitting == {condition}


def test_answers_are_never_computed_in_tf32(
    bundle: Bundle, studies: list[Study], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a GPU would round the mantissa to 10 bits, a report would not be that of a server on a CPU."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("high")
        predict(bundle, studies[:1])
        assert torch.get_float32_matmul_precision() == "highest"
        assert not torch.backends.cudnn.allow_tf32
        assert not torch.backends.cuda.matmul.allow_tf32
    finally:
        torch.set_float32_matmul_precision(before)
