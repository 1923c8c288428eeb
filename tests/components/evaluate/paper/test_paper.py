"""What is written for a paper says what report and shards say, and names nobody."""

from __future__ import annotations

import csv
import io
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.cxr.bundle_info import describe
from components.cxr.errors import UserError
from components.cxr.operating_points import OperatingPoints, load_operating_points
from components.cxr.report import Report
from components.cxr.shards import SPLITS, LoadedManifest, read_shard
from components.cxr.storage.pointers import read_pointer, write_pointer
from components.cxr.storage.storage import Root, Storage, open_storage
from components.evaluate.config import EvaluateConfig
from components.evaluate.evaluate import run
from components.evaluate.paper.checklists import AUTHORS, claim_table
from components.evaluate.paper.drawings import flow_figure, net_benefit
from components.evaluate.paper.paper import paper
from components.evaluate.paper.participants import flow_of
from components.evaluate.paper.table import PaperTable
from components.evaluate.table import with_interval


class Written(NamedTuple):
    """A root with one evaluation, and the folder that was made of it."""

    root: Root
    report: Report
    out: Path

    def table(self, name: str) -> list[dict[str, str]]:
        """Rows of a CSV."""
        with (self.out / "tables" / f"{name}.csv").open(newline="") as file:
            return list(csv.DictReader(file))

    def row(self, name: str, title: str) -> dict[str, str]:
        """The row that begins with a title."""
        (found,) = [row for row in self.table(name) if next(iter(row.values())) == title]
        return found


@pytest.fixture(scope="module")
def written(tiny_data: LoadedManifest, fitted_bundle: Storage, tmp_path_factory: pytest.TempPathFactory) -> Written:
    root = Root(tmp_path_factory.mktemp("root"))
    found = run(EvaluateConfig(num_bootstrap=200), root=root, manifest=tiny_data, bundle=fitted_bundle)
    write_pointer(root, "manifest", tiny_data.storage.uri)
    write_pointer(root, "bundle", fitted_bundle.uri)
    out = tmp_path_factory.mktemp("paper") / "new"
    paper(str(out), root=root.uri)
    return Written(root, found.report, out)


def rows_of(loaded: LoadedManifest, split: str) -> list[dict]:
    """Every film of a split but its pixels."""
    tables = [read_shard(loaded.storage, shard) for shard in loaded.manifest.shards_of(split)]
    return pa.concat_tables(tables).drop_columns(["pixels"]).to_pylist()


def test_tables_hold_the_numbers_of_the_report(written: Written) -> None:
    headline = written.report.headline
    edema = written.row("discrimination", "Edema")
    assert edema["AUROC"] == with_interval(headline.pathologies["Edema"], "auroc")
    assert edema["Positive"] == str(headline.pathologies["Edema"].positives)
    mean = written.row("discrimination", f"Mean of {len(headline.mean.pathologies)}")
    assert mean["AUROC"] == with_interval(headline.mean, "auroc")
    assert written.row("thresholds", "Edema")["PPV"] == with_interval(headline.pathologies["Edema"], "ppv")
    assert written.row("calibration", "Edema")["Brier score"] == with_interval(headline.pathologies["Edema"], "brier")
    films = written.row("inputs", "Films alone")
    assert films["Mean AUROC, common subset"] == with_interval(
        written.report.score("image", subset="common").mean, "auroc"
    )
    assert len(written.table("subgroups")) == len(written.report.subgroups)


def test_characteristics_are_those_of_the_shards(written: Written, tiny_data: LoadedManifest) -> None:
    for split in SPLITS:
        films = rows_of(tiny_data, split)
        first = {film["study_id"]: film for film in reversed(films)}.values()
        title = split.capitalize()
        assert written.row("characteristics", "Patients, n")[title] == str(len({film["patient_id"] for film in films}))
        assert written.row("characteristics", "Studies, n")[title] == str(len(first))
        assert written.row("characteristics", "Films, n")[title] == str(len(films))
        women = sum(study["sex"] == "F" for study in first)
        assert (
            written.row("characteristics", "Female, studies (%)")[title] == f"{women} ({100 * women / len(first):.1f})"
        )
        ages = [study["age_years"] for study in first if study["age_years"] is not None]
        expected = f"{np.mean(ages):.1f} ({np.std(ages, ddof=1):.1f})"
        assert written.row("characteristics", "Age in years, mean (SD)")[title] == expected
        labels = tiny_data.manifest.counts[split].labeled_studies
        assert written.row("characteristics", "Labeled studies, n (%)")[title].split(" ")[0] == str(labels)
        labeled = [study for study in first if study["labeled"]]
        positive, uncertain = (sum(study["Edema"] == state for study in labeled) for state in (1, -1))
        cell = written.row("characteristics", "Edema")[title]
        assert re.findall(r"(\d+) \(", cell) == [str(positive), str(uncertain)]


def test_files_are_utf_8_whatever_the_locale(tmp_path: Path) -> None:
    code = (
        "from components.cxr.storage.storage import open_storage; from components.evaluate.paper.paper import _write; "
        "from components.evaluate.paper.table import PaperTable; "
        "table = PaperTable('t', 'T', ('a',), [('0.7\\u20130.8 \\xe9',)]); "
        f"_write(open_storage({str(tmp_path)!r}), [table], [], {{}}, warning='')"
    )
    latin = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, **latin}, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    for file in ("paper.md", "tables/t.csv"):
        assert "0.7–0.8 é" in (tmp_path / file).read_text(encoding="utf-8")
    assert "0.7--0.8 é" in (tmp_path / "tables/t.tex").read_text(encoding="utf-8")


def test_films_that_were_rejected_or_left_out_are_in_the_flow(tiny_data: LoadedManifest, tmp_path: Path) -> None:
    codes = ["no-image", "burned-in-text", "no-image"]
    pq.write_table(pa.table({"code": codes, "reason": ["?"] * 3}), tmp_path / "rejects.parquet")
    left_out = {"studies without a film": 7}
    manifest = tiny_data.manifest.model_copy(update={"num_rejects": 3, "left_out": left_out})
    flow = flow_of(LoadedManifest(manifest, open_storage(tmp_path), "hash"))
    kept = sum(count.images for count in manifest.counts.values())
    assert (flow.read, flow.rejected, flow.left_out) == (kept + 3, {"no-image": 2, "burned-in-text": 1}, left_out)
    drawn = "\n".join(text.get_text() for text in flow_figure(flow).axes[0].texts)
    for said in (
        f"{kept + 3:,} films read",
        "3 films rejected",
        "2 no-image",
        "7 studies without a film",
        f"{kept:,} films kept",
    ):
        assert said in drawn
    assert f"{manifest.counts['test'].patients} patients" in drawn


def test_figures_are_vectors_whose_text_stays_text(written: Written) -> None:
    names = {"flow", "forest", "roc", "precision_recall", "reliability", "confusion", "decision_curves"}
    figures = written.out / "figures"
    assert {path.name for path in figures.iterdir()} == {f"{name}.{kind}" for name in names for kind in ("pdf", "svg")}
    assert (figures / "flow.pdf").read_bytes().startswith(b"%PDF")
    assert "Edema</text>" in (figures / "forest.svg").read_text()
    page = (written.out / "paper.md").read_text()
    for target in re.findall(r"\]\(([^)]+)\)", page):
        assert (written.out / target).exists()


def test_nothing_names_a_patient_a_study_or_a_film(written: Written, tiny_data: LoadedManifest) -> None:
    ids = {
        film[key]
        for split in SPLITS
        for film in rows_of(tiny_data, split)
        for key in ("patient_id", "study_id", "image_id")
    }
    assert len(ids) > 100
    for path in texts(written.out):
        said = path.read_text()
        assert not [name for name in ids if name in said], path.name


def texts(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.suffix in (".md", ".csv", ".tex", ".svg"))


def test_checklists_have_every_item_and_say_what_authors_must_add(written: Written) -> None:
    claim, tripod = written.table("claim"), written.table("tripod_ai")
    assert [row["Item"] for row in claim] == [str(item) for item in range(1, 45)]
    assert len(tripod) == 52
    assert sorted({int(re.sub(r"\D", "", row["Item"])) for row in tripod}) == list(range(1, 28))
    here = {row["Item"]: row["Here"] for row in claim}
    assert here["44"] == here["33"] == AUTHORS, "funding and external data"
    assert here["32"].startswith("40 test studies")
    assert here["18"] == AUTHORS, "without a second truth nobody has measured it"
    assert "1,000" not in here["29"]
    assert "200 resamples" in here["29"]
    assert "test 40 studies" in here["19"]
    assert "WITHOUT a secret key" in here["11"]
    done = sum(row["Here"] != AUTHORS for row in claim)
    assert f"{done} of 44 are filled in" in (written.out / "paper.md").read_text()


def test_scores_on_other_data_than_the_trainings_are_external(
    written: Written, tiny_data: LoadedManifest, fitted_bundle: Storage
) -> None:
    model = describe(fitted_bundle)
    found = open_storage(read_pointer(written.root, "evaluation", made_by="evaluate"))
    points = load_operating_points(found, bundle_hash=model.hash)
    elsewhere = model._replace(info=model.info.model_copy(update={"manifest_hash": "another"}))
    here = {item: said for item, _, said in claim_table(elsewhere, written.report, points, tiny_data).rows}
    assert here["33"].startswith("40 test studies")
    assert here["32"] == AUTHORS


def test_claim_says_whether_several_models_answer(
    written: Written, tiny_data: LoadedManifest, fitted_bundle: Storage
) -> None:
    one = describe(fitted_bundle)
    points = OperatingPoints(bundle_hash=one.hash, conditions={})
    several = one._replace(info=one.info.model_copy(update={"num_models": 5}))
    for model, expected in ((one, "None."), (several, "5 models from different seeds, the mean of their logits.")):
        here = {item: said for item, _, said in claim_table(model, written.report, points, tiny_data).rows}
        assert here["27"] == expected


def test_latex_needs_no_editing(written: Written) -> None:
    table = (written.out / "tables" / "characteristics.tex").read_text()
    assert table.count(r"\begin{") == table.count(r"\end{") == 2
    assert r"Female, studies (\%) &" in table
    body = table[table.index(r"\toprule") : table.index(r"\bottomrule")]
    columns = {line.count(" & ") for line in body.splitlines() if line.endswith(r"\\")}
    assert columns == {3}
    assert not re.search(r"(?<!\\)[%&#_](?![ ])", body.replace(" & ", ""))


def test_the_command_writes_into_a_bucket(written: Written, gcs_bucket: str) -> None:
    paper(f"{gcs_bucket}/paper", root=written.root.uri)
    there = open_storage(f"{gcs_bucket}/paper")
    assert set(there.sizes()) == set(open_storage(written.out).sizes())
    for name in ("paper.md", "MODEL_CARD.md", "tables/discrimination.tex"):
        assert there.read(name).data == (written.out / name).read_bytes()
    assert there.read("figures/forest.pdf").data.startswith(b"%PDF")


@pytest.mark.parametrize("option", ["manifest", "bundle"])
def test_another_data_set_or_model_is_refused(
    option: str, written: Written, untrained_bundle: Storage, tmp_path: Path
) -> None:
    other = {"bundle": untrained_bundle.uri, "manifest": str(tmp_path / "data")}
    if option == "manifest":
        (tmp_path / "data").mkdir()
        there = read_pointer(written.root, "manifest", made_by="preprocess")
        text = Path(there, "manifest.json").read_text().replace('"num_rejects": 0', '"num_rejects": 1')
        (tmp_path / "data" / "manifest.json").write_text(text)
    with pytest.raises(UserError, match=f"--{option}") as error:
        paper(str(tmp_path / "out"), root=written.root.uri, **{option: other[option]})
    assert error.value.code == "another-evaluation"
    assert not (tmp_path / "out").exists()


def test_net_benefit_weighs_false_alarms_by_the_odds_of_the_threshold() -> None:
    rng = np.random.default_rng(0)
    probability_S, positive_S = rng.random(50), rng.random(50) < 0.3
    for threshold in (0.0, 0.1, 0.4, 0.8):
        said_S = probability_S >= threshold
        true, false = np.sum(said_S & positive_S), np.sum(said_S & ~positive_S)
        expected = true / 50 - false / 50 * threshold / (1 - threshold)
        assert net_benefit(probability_S, positive_S, np.array([threshold]))[0] == pytest.approx(expected)


def test_a_table_without_a_note_or_rows_is_still_one() -> None:
    table = PaperTable("empty", "100 % & more", ("A_1", "B"), [])
    assert list(csv.reader(io.StringIO(table.csv()))) == [["A_1", "B"]]
    assert r"\caption{100 \% \& more}" in table.latex()
    assert r"A\_1 & B \\" in table.latex()
