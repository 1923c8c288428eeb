"""The studies of a PACS in one table: the folder's answers, whatever is killed, gone or refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq
import pydicom
import pytest
import yaml

from components.cxr.errors import UserError
from components.cxr.pacs import Pacs
from components.cxr.storage.storage import open_storage
from components.preprocess.config import DicomwebData
from components.serve.config import ServeConfig
from components.serve.predict import predict_studies
from components.serve.predict_parts import Model
from components.serve.studies import studies_in_folder, studies_in_pacs
from pipeline.synthetic import Settings, generate
from tests.components.processes import wait_for
from tests.components.serve.conftest import SERVER_LIMITS
from tests.components.serve.routing import REPOSITORY, SECRET, enlarge, put_studies
from tests.dicomweb_peer import holding, peer
from tests.pacs import orthanc

__all__ = ["orthanc", "peer"]

CONFIG = ServeConfig(**SERVER_LIMITS)


@pytest.fixture
def model(evaluated):
    return Model(evaluated.bundle.uri, evaluated.evaluation.uri, None, None)


@pytest.fixture
def data(orthanc, tmp_path, monkeypatch):
    """Section `data` of the PACS, whose credentials are in the environment."""
    monkeypatch.setenv("CXRFLOW_PACS_USER", orthanc.user)
    monkeypatch.setenv("CXRFLOW_PACS_PASSWORD", orthanc.password)
    monkeypatch.setenv("CXRFLOW_DICOMWEB_DEADLINE_S", "4")
    return {"adapter": "dicomweb", "server": {"url": orthanc.dicomweb}, "found": str(tmp_path / "found.json")}


def from_folder(folder, out, model, **arguments):
    find = partial(studies_in_folder, open_storage(str(folder)), max_films=CONFIG.max_files)
    return predict_studies(CONFIG, model=model, find=find, out=str(out), num_processes=1, **arguments)


def from_pacs(data, out, model, *, num_processes=1, **arguments):
    find = partial(studies_in_pacs, Pacs.of(data, where="data"))
    return predict_studies(CONFIG, model=model, find=find, out=str(out), num_processes=num_processes, **arguments)


def answers_of(table):
    """By study what is said of it; films are counted, as their names and order are others in a folder."""
    rows = {row.pop("study"): row for row in table.to_pylist()}
    for row in rows.values():
        row["films"], row["left_out"] = len(row["films"]), len(row["left_out"])
    return rows


def assert_equal(found, expected):
    """All of two rows, the numbers to the rounding of a batch."""
    numbers = {name for name, value in expected.items() if isinstance(value, float)}
    assert {n: v for n, v in found.items() if n not in numbers} == {
        n: v for n, v in expected.items() if n not in numbers
    }
    assert {n: found[n] for n in numbers} == pytest.approx({n: expected[n] for n in numbers}, abs=1e-6)


def assert_all_equal(found, expected):
    found, expected = answers_of(found), answers_of(expected)
    assert set(found) == set(expected)
    for study, row in expected.items():
        assert_equal(found[study], row)


@pytest.mark.orthanc
def test_the_answers_are_those_of_the_folder(orthanc, data, model, dicom_bytes, tmp_path, capsys):
    folder = tmp_path / "in"
    generate(folder, num_studies=6, settings=Settings(), size=64, syntax="jpeg-ls")
    put_studies(folder / "files", dicom_bytes, range(3), num_films=2, PatientAge="063Y", PatientSex="F")
    put_studies(folder / "files", dicom_bytes, range(3, 4), num_films=4)
    enlarge(folder / "files" / "0001" / "1.dcm")
    enlarge(folder / "files" / "0002" / "0.dcm")
    enlarge(folder / "files" / "0002" / "1.dcm")
    orthanc.fill(folder)
    expected = from_folder(folder / "files", tmp_path / "folder.parquet", model)
    capsys.readouterr()
    table = from_pacs(data, tmp_path / "pacs.parquet", model)
    assert_all_equal(table, expected)
    assert table.schema.metadata[b"bundle_hash"] == expected.schema.metadata[b"bundle_hash"]
    reasons = [row["reason"] for row in table.to_pylist()]
    assert (reasons.count(None), reasons.count("too-many-films"), reasons.count("no-usable-film")) == (8, 1, 1)
    assert "films left out: 3 film-too-large" in (said := "".join(capsys.readouterr()))
    for row in table.to_pylist():
        assert all(film.startswith(f"{row['study']}/") for film in row["films"] + row["left_out"])
        assert row["study"] not in said
    assert SECRET not in said
    assert orthanc.password not in said

    orthanc.clear()  # a table that is complete, and whose studies are known, asks nobody
    assert from_pacs(data, tmp_path / "pacs.parquet", model).equals(table)
    first = table["study"].to_pylist()[0]
    (tmp_path / "told.csv").write_text(f"study,text\n{first},cough\n")
    with pytest.raises(UserError, match="another table"):
        from_pacs(data, tmp_path / "pacs.parquet", model, table=str(tmp_path / "told.csv"))


@pytest.mark.orthanc
def test_a_table_tells_more_of_a_study_and_what_is_gone_costs_itself(orthanc, data, model, dicom_bytes, tmp_path):
    folder = tmp_path / "in"
    put_studies(folder, dicom_bytes, range(3), num_films=2)
    orthanc.fill(folder)
    films = [pydicom.dcmread(folder / f"{i:04}" / "0.dcm", stop_before_pixels=True) for i in range(3)]
    whole, in_part, gone = (str(film.StudyInstanceUID) for film in films)
    studies_in_pacs(Pacs.of(data, where="data"))
    orthanc.delete_study(gone)
    orthanc.delete_film(films[1].SOPInstanceUID)
    told = tmp_path / "told.csv"
    told.write_text(f"study,text,age_years,sex\n{whole},cough and fever,41,F\n{gone},cough and fever,41,F\n")
    rows = answers_of(from_pacs(data, tmp_path / "pacs.parquet", model, table=str(told)))
    vanished = ["film-vanished"]
    assert (rows[gone]["reason"], rows[gone]["left_out_reasons"]) == ("no-usable-film", 2 * vanished)
    assert (rows[in_part]["reason"], rows[in_part]["left_out_reasons"]) == (None, vanished)
    (folder / "0001" / "0.dcm").unlink()
    expected = answers_of(from_folder(folder, tmp_path / "folder.parquet", model, table=str(told)))
    assert rows[whole]["condition"] == "all"
    assert_equal(rows[whole], expected[whole])
    assert_equal(rows[in_part], expected[in_part] | {"left_out": 1, "left_out_reasons": vanished})


@pytest.mark.orthanc
def test_a_killed_command_goes_on_with_the_same_studies(
    orthanc, data, evaluated, model, dicom_bytes, tmp_path, monkeypatch, capsys
):
    put_studies(tmp_path / "in", dicom_bytes, range(96))
    orthanc.fill(tmp_path / "in")
    pacs, config, out = tmp_path / "pacs.yaml", tmp_path / "c.yaml", tmp_path / "out.parquet"
    pacs.write_text(yaml.safe_dump({"data": {**data, "server": {"url": "http://127.0.0.1:9"}, "split": "test"}}))
    config.write_text(yaml.safe_dump({"serve": SERVER_LIMITS, "data": {"adapter": "csv"}}))
    command = [sys.executable, "-m", "components.serve", "predict", "--pacs", str(pacs), "--config", str(config)]
    command += ["--set", f"data.server.url={data['server']['url']}", "--out", str(out)]
    command += ["--bundle", evaluated.bundle.uri, "--evaluation", evaluated.evaluation.uri]
    parts = tmp_path / "out.parquet.parts"
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.DEVNULL) as process:
        wait_for(lambda: len(list(parts.glob("0*.parquet"))) > 0, 300)
        process.send_signal(signal.SIGKILL)
    kept = len(list(parts.glob("0*.parquet")))
    assert 0 < kept < 6
    put_studies(tmp_path / "more", dicom_bytes, range(96, 97))
    orthanc.fill(tmp_path / "more")

    monkeypatch.setenv("CXRFLOW_PACS_PASSWORD", "geheim")
    with pytest.raises(UserError, match="the PACS refuses the credentials") as caught:
        from_pacs(data, out, model)
    assert "geheim" not in str(caught.value)
    assert len(list(parts.glob("0*.parquet"))) == kept
    monkeypatch.setenv("CXRFLOW_PACS_PASSWORD", orthanc.password)
    capsys.readouterr()
    from_pacs(data, out, model, num_processes=2)
    assert f"predict: goes on with {96 - 16 * kept} of 96 studies" in capsys.readouterr().out
    assert not parts.exists()
    assert_all_equal(pq.read_table(out), from_folder(tmp_path / "in", tmp_path / "folder.parquet", model))


@pytest.mark.orthanc
def test_what_cannot_be_searched_is_one_error_and_leaves_nothing(orthanc, data, model, tmp_path, monkeypatch):
    def refusal():
        with pytest.raises(UserError) as caught:
            from_pacs(data, tmp_path / "out.parquet", model)
        assert not [path for path in tmp_path.iterdir() if path.suffix != ".yaml"]
        assert "geheim" not in str(caught.value)
        return caught.value.code

    assert refusal() == "nothing-found"
    monkeypatch.setenv("CXRFLOW_PACS_PASSWORD", "geheim")
    assert refusal() == "pacs-refused"
    data["server"] = {"url": "http://127.0.0.1:9/dicom-web"}
    monkeypatch.setenv("CXRFLOW_DICOMWEB_DEADLINE_S", "1")
    assert refusal() == "pacs-fails"


def test_a_film_that_the_pacs_never_gives_costs_itself(peer, model, dicom_bytes, tmp_path, capsys):
    put_studies(tmp_path / "in", dicom_bytes, range(3), num_films=2)
    films = {}
    for path in sorted((tmp_path / "in").rglob("*.dcm")):
        film = pydicom.dcmread(path, stop_before_pixels=True)
        films[f"{film.StudyInstanceUID}/{film.SeriesInstanceUID}/{film.SOPInstanceUID}"] = path.read_bytes()
    studies = sorted({name.split("/")[0] for name in films})
    in_part, gone, whole = (sorted(name for name in films if name.startswith(f"{study}/")) for study in studies)
    peer.replies = holding(films, broken=dict.fromkeys([in_part[0], *gone], (500, "text/plain", b"")))
    data = {"adapter": "dicomweb", "server": {"url": peer.address.url}, "found": str(tmp_path / "found.json")}
    table = from_pacs(data, tmp_path / "out.parquet", model)
    rows = {row["study"]: (row["reason"], row["films"], row["left_out_reasons"]) for row in table.to_pylist()}
    assert rows == {
        studies[0]: (None, in_part[1:], ["film-damaged"]),
        studies[1]: ("no-usable-film", [], 2 * ["film-damaged"]),
        studies[2]: (None, whole, []),
    }
    said = "".join(capsys.readouterr())
    assert "films left out: 3 film-damaged" in said
    assert not any(study in said for study in studies)


def test_a_study_whose_films_are_not_listed_is_a_row_with_the_reason(peer, model, dicom_bytes, tmp_path, capsys):
    put_studies(tmp_path / "in", dicom_bytes, range(2))
    films = {}
    for path in sorted((tmp_path / "in").rglob("*.dcm")):
        film = pydicom.dcmread(path, stop_before_pixels=True)
        films[f"{film.StudyInstanceUID}/{film.SeriesInstanceUID}/{film.SOPInstanceUID}"] = path.read_bytes()
    bad, good = (name.split("/")[0] for name in films)
    peer.replies = holding(films, broken={bad: (400, "text/plain", b"")})
    data = {"adapter": "dicomweb", "server": {"url": peer.address.url}, "found": str(tmp_path / "found.json")}
    (tmp_path / "told.csv").write_text(f"study,text\n{bad},cough\n{good},cough\n")  # no answer from a text alone
    table = from_pacs(data, tmp_path / "out.parquet", model, table=str(tmp_path / "told.csv"))
    rows = {row["study"]: (row["reason"], row["condition"], len(row["films"])) for row in table.to_pylist()}
    assert rows == {bad: ("films-not-listed", None, 0), good: (None, "all", 1)}
    assert "studies without an answer: 1 films-not-listed" in (said := capsys.readouterr().out)
    assert bad not in said
    peer.replies = holding(films)
    Path(data["found"]).unlink()
    with pytest.raises(UserError, match="another table"):  # which has an answer more
        from_pacs(data, tmp_path / "out.parquet", model, table=str(tmp_path / "told.csv"))


@pytest.mark.parametrize(
    ("arguments", "data", "said"),
    [
        (["in", "--pacs", "p.yaml"], {}, "found both, expected a FOLDER"),
        ([], {}, "found neither, expected a FOLDER"),
        (["--pacs", "p.yaml", "--each-picture"], {}, "found --each-picture with --pacs"),
        (["--pacs", "p.yaml"], {"adapter": "csv"}, "this is no PACS: data.adapter; found csv, expected dicomweb"),
        (["--pacs", "p.yaml"], {"adapter": "dicomweb", "server": {"url": "http://a"}}, "data.found"),
        (
            ["--pacs", "p.yaml"],
            {"adapter": "dicomweb", "server": {"url": "http://a"}, "found": "f", "querry": 1},
            "data.querry",
        ),
        (["--pacs", "nowhere.yaml"], {}, "cannot read the pacs"),
    ],
)
def test_what_is_no_pacs_is_one_error(tmp_path, arguments, data, said):
    (tmp_path / "p.yaml").write_text(yaml.safe_dump({"data": data}))
    (tmp_path / "c.yaml").write_text("{}")
    command = [
        sys.executable,
        "-m",
        "components.serve",
        "predict",
        *arguments,
        "--config",
        "c.yaml",
        "--out",
        "o.parquet",
    ]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert said in line


def test_what_preprocess_reads_is_read_here():
    """A field of `data` that is neither of the PACS nor of data sets would be an unknown one here."""
    data = DicomwebData(server={"url": "http://pacs/dicom-web"}, found="found.json").model_dump(mode="json")
    assert Pacs.of(data, where="data").found == "found.json"
    config = yaml.safe_load((Path(REPOSITORY) / "pipeline/configs/dicomweb.yaml").read_text())
    assert json.loads(Pacs.of(config["data"], where="data").model_dump_json())["server"]["url"].startswith("https://")
