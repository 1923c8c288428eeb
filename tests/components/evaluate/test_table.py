"""What a person reads at the end."""

from __future__ import annotations

import pytest
from rich.console import Console

from components.cxr.decision import Decision
from components.cxr.operating_points import OperatingPoints
from components.cxr.report import LEAKY_TEXT, Difference, Gain, Interval, Report
from components.evaluate.paper.results import result_tables
from components.evaluate.table import gain_line, print_report, support_note
from components.evaluate.tables import pathology_table

DECISION = Decision(
    promoted=False,
    verdict="not_shown",
    policy="superior",
    reason="not shown to be better.",
    challenger_bundle="b",
    champion_bundle="c",
    difference=0.01,
    difference_ci=Interval(low=-0.01, high=0.03),
)


def test_prints_scores_at_100_columns(report: Report, capsys: pytest.CaptureFixture[str]) -> None:
    print_report(report, DECISION)
    printed = capsys.readouterr().out
    lines = [" ".join(line.split()) for line in printed.splitlines()]
    assert max(map(len, printed.splitlines())) <= 100
    assert "Edema 0.900 0.850–0.950 0.800 0.700 0.600 0.650 12 1,027" in lines
    assert "Fracture * – – 1.000 – – – 0 1,039" in lines
    assert "* fewer than 10 patients with, or without, the finding: hardly known." in lines
    assert "Mean of 1 0.900 0.850–0.950 0.800 0.700 0.600 0.650" in lines
    assert "films, indication, metadata 0.900 0.850–0.950 0.850 0.800–0.900" in lines
    assert "films alone 0.800 0.750–0.850 – –" in lines
    text = " ".join(lines)
    assert "protocol A (blank and uncertain labels count as negative)" in text
    assert "Trained with uncertain: multiclass, blank: negative." in text
    assert "1000 resamples of 520 patients" in text
    assert "Not a medical device." in text
    assert "Not promoted: not shown to be better." in text
    assert "LEAKY" not in text
    assert "…" not in text


def test_a_narrow_terminal_cuts_no_number(report: Report, capsys: pytest.CaptureFixture[str]) -> None:
    print_report(report, console=Console(width=60))
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "Edema 0.900 0.850–0.950 0.800 0.700 0.600 0.650 12 1,027" in lines
    assert "films, indication, metadata 0.900 0.850–0.950 0.850 0.800–0.900" in lines
    assert not any("…" in line for line in lines)


def test_predictive_values_have_the_prevalence_they_are_for_beside_them(report: Report) -> None:
    score = report.headline
    edema = score.pathologies["Edema"].model_copy(update={"prevalence": 0.02})
    stated = report.model_copy(
        update={"scores": (score.model_copy(update={"pathologies": score.pathologies | {"Edema": edema}}),)}
    )
    (table,) = [
        each
        for each in result_tables(stated, OperatingPoints(bundle_hash="b", conditions={}))
        if each.name == "thresholds"
    ]
    assert [table.head[-1], *(row[-1] for row in table.rows)] == ["Prevalence", "0.020", "–", ""]
    assert "PPV and NPV are for the prevalence beside them." in table.note
    assert pathology_table(stated.headline)["prevalence"].to_pylist() == [0.02, None, None]


def test_a_leaky_report_says_so_first(report: Report, capsys: pytest.CaptureFixture[str]) -> None:
    print_report(report.model_copy(update={"leaks": (LEAKY_TEXT,)}))
    assert capsys.readouterr().out.startswith("LEAKY")


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(0.002, 0.02, "a gain"), (-0.002, 0.02, "not shown to help"), (-0.03, -0.001, "a loss")],
)
def test_what_text_and_metadata_add_is_one_sentence(report: Report, low: float, high: float, verdict: str) -> None:
    mean = Difference(difference=(low + high) / 2, ci=Interval(low=low, high=high), p_value=None)
    gain = Gain(condition="all", over="image", num_studies=9, num_patients=5, pathologies={}, mean=mean)
    line = gain_line(report.model_copy(update={"gains": (gain,)}))
    assert f"add {mean.difference:+.3f} ({low:+.3f} to {high:+.3f}) to films:" in line
    assert line.endswith(f": {verdict}.")
    assert len(line) <= 100
    assert gain_line(report) == ""


def test_a_star_is_explained_only_where_there_is_one(report: Report) -> None:
    score = report.headline
    assert support_note(score)
    assert support_note(score.model_copy(update={"pathologies": {"Edema": score.pathologies["Edema"]}})) == ""
