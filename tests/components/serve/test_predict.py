"""A folder of studies in one table: the server's answers, whatever is killed or damaged."""

from __future__ import annotations

import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import httpx
import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from pydicom.uid import generate_uid

from components.cxr.errors import UserError
from components.cxr.films.pixels import encode_png
from components.cxr.seal import SEAL, load_seal
from components.cxr.self_check import SELF_CHECK
from components.cxr.storage.storage import ABSENT, open_storage
from components.serve import __main__ as commands
from components.serve import predict
from components.serve.config import ServeConfig
from components.serve.copies import make_copy
from components.serve.deployment import write_deployment
from components.serve.predict import predict_studies
from components.serve.predict_parts import Model
from components.serve.studies import studies_in_folder
from tests.components.processes import wait_for
from tests.components.serve.cluster import deployment_of
from tests.components.serve.conftest import SERVER_LIMITS

SECRET = "Doe^Jane 19999999"
REPOSITORY = Path(__file__).parents[3]


@pytest.fixture
def model(evaluated):
    return Model(evaluated.bundle.uri, evaluated.evaluation.uri, None, "3")


@pytest.fixture
def archive(tmp_path, dicom_bytes, study):
    """Eight studies, some of whose films cannot be used; by name, what the server would be sent."""
    folder, expected = tmp_path / f"archive of {SECRET}", {}
    stored = np.arange(60 * 48, dtype=np.uint16).reshape(60, 48)

    def put(name, data):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return data

    def dicom(name, uid, shift=0, **tags):
        uids = {"StudyInstanceUID": uid, "SOPInstanceUID": generate_uid(entropy_srcs=[name])}
        return put(name, dicom_bytes((stored + shift) % 4096, bits_stored=12, **uids, **tags))

    films = [encode_png(film) for film in study.films]
    two = f"pictures/{SECRET}"
    expected[two] = ([put(f"{two}/{i}.png", film) for i, film in enumerate(films)], study.text)
    put(f"{two}/note.txt", study.text.encode())
    expected["top.png"] = ([put("top.png", films[0])], "")
    uids = [str(generate_uid(entropy_srcs=[str(i)])) for i in range(4)]
    first = [dicom("1/IM1", uids[0], ViewPosition="PA", PatientAge="063Y"), dicom("2/IM9.dcm", uids[0], 900)]
    expected[uids[0]] = (first, "")
    for place in ("1", "2"):
        put(f"{place}/note.txt", b"INDICATION: of one of two folders")
    damaged = dicom("3/bad.dcm", uids[1])
    put("3/bad.dcm", damaged[:-300])
    expected[uids[1]] = ([dicom("3/good.dcm", uids[1], 7, PatientSex="F")], "")
    put("4/only.dcm", dicom("4/only.dcm", uids[2])[:-300])
    expected[uids[2]] = None
    put("5/a.png", b"\x89PNG\r\n\x1a\n" + SECRET.encode())
    put("5/report.txt", b"INDICATION: cough")
    expected["5"] = None
    put("6/empty.jpg", b"")
    expected["6"] = None
    for i in range(4):
        dicom(f"7/{i}.dcm", uids[3], i)
    expected[uids[3]] = None  # over the limit of films
    put("7/copy.dcm", (folder / "7/0.dcm").read_bytes())
    put("notes.doc", SECRET.encode())
    return folder, expected


def predicted(folder, out, model, *, each_picture=False, table=None):
    config, films = ServeConfig(**SERVER_LIMITS), open_storage(str(folder))
    find = partial(studies_in_folder, films, each_picture=each_picture, max_films=config.max_files)
    return predict_studies(config, model=model, find=find, out=str(out), num_processes=1, table=table)


def test_the_table_has_the_servers_answers_and_says_what_was_left_out(archive, model, server, tmp_path, capsys):
    folder, expected = archive
    table = predicted(folder, tmp_path / "out" / "predictions.parquet", model)
    assert pq.read_table(tmp_path / "out" / "predictions.parquet").equals(table)
    assert list((tmp_path / "out").iterdir()) == [tmp_path / "out" / "predictions.parquet"]
    rows = {row["study"]: row for row in table.to_pylist()}
    assert set(rows) == set(expected)
    for name, sent in expected.items():
        row = rows[name]
        if sent is None:
            assert row["reason"] in ("no-usable-film", "too-many-films")
            assert row["condition"] is None
            assert row["probability/Edema"] is None
            continue
        films, text = sent
        files = [("files", ("f", film)) for film in films]
        reply = httpx.post(f"{server.address}/v1/predict", data={"text": text}, files=files, trust_env=False).json()
        assert row["reason"] is None
        assert (row["condition"], row["overall"]) == (reply["condition"], reply["overall"])
        assert row["in_distribution"] == reply["in_distribution"]
        assert row["warnings"] == [warning["code"] for warning in reply["warnings"]]
        assert len(row["films"]) == len(films)
        for pathology, answer in reply["answers"].items():
            assert row[f"probability/{pathology}"] == pytest.approx(answer["probability"], abs=1e-6)
            assert row[f"uncertain/{pathology}"] == pytest.approx(answer["uncertain"], abs=1e-6)
            assert row[f"state/{pathology}"] == answer["state"]
    conditions = [row["condition"] for row in rows.values()]
    assert {"all", "image", "image+meta"} <= set(conditions)
    damaged = next(row for row in rows.values() if row["films"] == ["3/good.dcm"])
    assert (damaged["left_out"], damaged["left_out_reasons"]) == (["3/bad.dcm"], ["film-truncated"])
    metadata = table.schema.metadata
    assert (metadata[b"model_version"], len(metadata[b"bundle_hash"])) == (b"3", 64)
    said = capsys.readouterr()
    for word in SECRET.split():
        assert word not in (said.out + said.err).replace(str(tmp_path), "")
    assert "predict: 4 of 8 studies answered" in said.out
    assert "predict: studies without an answer: 3 no-usable-film" in said.out
    assert "predict: studies without an answer: 1 too-many-films" in said.out
    assert "predict: films left out: 3 film-truncated" in said.out
    assert "predict: left out: 1 copies of a film" in said.out
    assert "predict: left out: 1 files that are no film" in said.out
    assert "predict: 8/8 studies" in said.err


def test_a_table_tells_texts_ages_and_sexes(archive, model, server, study, tmp_path):
    folder, expected = archive
    uid = next(name for name, sent in expected.items() if sent and name[0].isdigit() and len(sent[0]) == 2)
    two = next(name for name in expected if name.startswith("pictures/"))
    told = tmp_path / "told.csv"
    told.write_text(f"study,text,age_years,sex\n{uid},cough,41,F\ntop.png,,12,NaN\n{two},,,M\n5,fever,200,\n")
    table = predicted(folder, tmp_path / "told.parquet", model, table=str(told))
    rows = {row["study"]: row for row in table.to_pylist()}
    given = {
        uid: {"text": "cough", "age_years": "41", "sex": "F"},
        "top.png": {"age_years": "12"},
        two: {"text": study.text, "sex": "M"},
    }
    for name, fields in given.items():
        files = [("files", ("f", film)) for film in expected[name][0]]
        reply = httpx.post(f"{server.address}/v1/predict", data=fields, files=files, trust_env=False).json()
        assert rows[name]["condition"] == reply["condition"]
        for pathology, answer in reply["answers"].items():
            assert rows[name][f"probability/{pathology}"] == pytest.approx(answer["probability"], abs=1e-6)
    again = told.with_name("again.csv")
    again.write_text(told.read_text().replace("41", "42"))
    with pytest.raises(UserError, match="another table"):
        predicted(folder, tmp_path / "told.parquet", model, table=str(again))


def test_an_age_that_makes_no_sense_is_its_studys_reason(model, png, tmp_path):
    folder = tmp_path / "films"
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True)
        (folder / name / "film.png").write_bytes(png)
    (tmp_path / "told.csv").write_text("study,age_years,sex\na,200,\nb,,woman\n")
    table = predicted(folder, tmp_path / "out.parquet", model, table=str(tmp_path / "told.csv"))
    assert table["reason"].to_pylist() == ["bad-age", "bad-sex"]


def test_a_model_without_synthetic_studies_is_told_before_it_answers(world, png, tmp_path, capsys):
    seal = load_seal(world.evaluation)
    files = {name: value for name, value in seal.files.items() if name != SELF_CHECK}
    folder = tmp_path / "films"
    folder.mkdir()
    (folder / "film.png").write_bytes(png)
    model = Model(world.bundle.uri, world.evaluation.uri, None, "3")
    predicted(folder, tmp_path / "checked.parquet", model)
    assert "not checked" not in capsys.readouterr().out
    world.evaluation.write(SEAL, seal.model_copy(update={"files": files}).model_dump_json().encode())
    predicted(folder, tmp_path / "unchecked.parquet", model)
    out = capsys.readouterr().out
    assert out.index("predict: not checked by synthetic studies: ") < out.index("1 of 1 studies answered")


def test_another_evaluation_of_the_deployed_model_has_a_seal_of_its_own(world, png, tmp_path, monkeypatch):
    copy = world.root.deployed().child("copy")
    seal = make_copy(world.bundle, world.evaluation, copy).hash
    deployed = deployment_of(world.report.bundle_hash).model_copy(update={"bundle": copy.uri, "seal": seal})
    write_deployment(world.root, deployed, over=ABSENT)
    (tmp_path / "films").mkdir()
    (tmp_path / "films" / "a.png").write_bytes(png)
    config, out = tmp_path / "config.yaml", tmp_path / "p.parquet"
    config.write_text(yaml.safe_dump({"root": world.root.uri, "serve": {}}))
    monkeypatch.setattr(commands, "terminate_cleanly", lambda: None)
    commands.predict(config, str(out), [], str(tmp_path / "films"), evaluation=world.evaluation.uri)
    assert pq.read_table(out)["reason"].to_pylist() == [None]


def test_films_that_vanish_or_are_none_cost_themselves(model, png, tmp_path):
    folder = tmp_path / "films"
    for name in ("a/0.png", "a/1.png", "b/0.png", *(f"c/{i}.png" for i in range(5))):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(png if name[0] != "c" or name in ("c/1.png", "c/4.png") else b"no film")

    def find():
        found = studies_in_folder(open_storage(folder), max_films=5)
        for name in ("a/0.png", "b/0.png"):
            (folder / name).unlink()
        return found

    config = ServeConfig(**SERVER_LIMITS)  # three films
    table = predict_studies(config, model=model, find=find, out=str(tmp_path / "out.parquet"), num_processes=1)
    rows = {row["study"]: (row["reason"], row["films"], row["left_out_reasons"]) for row in table.to_pylist()}
    assert rows == {
        "a": (None, ["a/1.png"], ["film-vanished"]),
        "b": ("no-usable-film", [], ["film-vanished"]),
        "c": (None, ["c/1.png", "c/4.png"], 3 * ["film-unknown-format"]),
    }


@pytest.mark.parametrize("place", ["", "patient/"])
def test_pictures_in_a_folder_named_by_a_study_are_no_films_of_it(tmp_path, dicom_bytes, png, place):
    uid = "1.2.3.4"
    folder = tmp_path / place / uid
    folder.mkdir(parents=True)
    (folder / "film.dcm").write_bytes(dicom_bytes(np.zeros((8, 8), np.uint16), StudyInstanceUID=uid))
    (folder / "preview.png").write_bytes(png)
    found = {study.name: study.films for study in studies_in_folder(open_storage(tmp_path), max_films=5).studies}
    pictures = f"{place}{uid}" if place else f"{uid}/"
    assert found == {uid: (f"{place}{uid}/film.dcm",), pictures: (f"{place}{uid}/preview.png",)}


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("study,age\na,63\n", "unknown-column"),
        ("age_years\n63\n", "missing-column"),
        ("study\na\n", "missing-column"),
        (f"study,sex\na,F\n{SECRET},F\n", "unknown-study"),
        ("study,sex\na,F\na,M\n", "duplicate-study"),
        ("study,sex\n,F\n", "missing-id"),
        (None, "missing-table"),
    ],
)
def test_a_table_that_cannot_be_right_is_one_error(model, png, tmp_path, text, code):
    folder = tmp_path / "films" / "a"
    folder.mkdir(parents=True)
    (folder / "film.png").write_bytes(png)
    if text is not None:
        (tmp_path / "told.csv").write_text(text)
    with pytest.raises(UserError) as caught:
        predicted(folder.parent, tmp_path / "out.parquet", model, table=str(tmp_path / "told.csv"))
    assert caught.value.code == code
    assert SECRET not in str(caught.value)
    assert not (tmp_path / "out.parquet").exists()


def test_a_finished_table_is_kept_and_another_is_in_the_way(archive, model, tmp_path, capsys):
    folder, _ = archive
    out = tmp_path / "predictions.parquet"
    table = predicted(folder, out, model)
    assert predicted(folder, out, model).equals(table)
    assert "is complete already" in capsys.readouterr().out
    (folder / "new.png").write_bytes((folder / "top.png").read_bytes())
    with pytest.raises(UserError, match="there is another table already") as caught:
        predicted(folder, out, model)
    assert "Jane" not in str(caught.value).replace(str(tmp_path), "")
    out.write_bytes(b"no table")
    with pytest.raises(UserError, match="there is another table already"):
        predicted(folder, out, model)
    with pytest.raises(UserError, match=r"no Parquet file: --out; found .*x\.csv"):
        predicted(folder, tmp_path / "x.csv", model)


def test_pictures_of_many_studies_in_one_subfolder_are_no_study(model, tmp_path, png):
    (tmp_path / "in" / "images").mkdir(parents=True)
    for i in range(4):
        (tmp_path / "in" / "images" / f"{i}.png").write_bytes(png)
    with pytest.raises(UserError, match=r"found 4, expected at most 3 .*--each-picture"):
        predicted(tmp_path / "in", tmp_path / "out.parquet", model)
    table = predicted(tmp_path / "in", tmp_path / "out.parquet", model, each_picture=True)
    assert table["study"].to_pylist() == [f"images/{i}.png" for i in range(4)]
    with pytest.raises(UserError, match="folder has no films"):
        predicted(tmp_path / "nowhere", tmp_path / "other.parquet", model)


def test_a_bucket_gets_the_same_table_as_a_folder(archive, model, tmp_path, gcs_bucket):
    folder, _ = archive
    open_storage(f"{gcs_bucket}/films").upload_folder(folder)
    table = predicted(f"{gcs_bucket}/films", f"{gcs_bucket}/out/predictions.parquet", model)
    local = predicted(folder, tmp_path / "predictions.parquet", model)
    assert table.to_pylist() == local.to_pylist()
    assert set(open_storage(f"{gcs_bucket}/out").sizes()) == {"predictions.parquet"}


@pytest.mark.slow
def test_a_killed_command_goes_on_where_it_was(evaluated, model, make_png, tmp_path):
    for i in range(96):
        path = tmp_path / "in" / f"{i:03}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(make_png(400 + i, 300))
    config, out = tmp_path / "c.yaml", tmp_path / "out.parquet"
    config.write_text(yaml.safe_dump({"serve": SERVER_LIMITS}))
    command = [sys.executable, "-m", "components.serve", "predict", str(tmp_path / "in"), "--config", str(config)]
    command += ["--out", str(out), "--bundle", evaluated.bundle.uri, "--evaluation", evaluated.evaluation.uri]
    parts = tmp_path / "out.parquet.parts"
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.DEVNULL) as process:
        wait_for(lambda: len(list(parts.glob("0*.parquet"))) > 0, 300)
        process.send_signal(signal.SIGKILL)
    kept = {path.name: path.stat().st_mtime_ns for path in parts.glob("0*.parquet")}
    assert 0 < len(kept) < 6
    assert not out.exists()
    command += ["--processes", "2"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    left = 96 - 16 * len(kept)
    assert f"predict: goes on with {left} of 96 studies" in done.stdout
    assert f"predict: {left}/{left} studies" in done.stderr
    assert not parts.exists()
    whole = predicted(tmp_path / "in", tmp_path / "whole.parquet", model._replace(version=None))
    assert pq.read_table(out).to_pylist() == whole.to_pylist()


def test_parts_of_other_films_are_not_gone_on_with(model, png, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(png)
    storage = open_storage(tmp_path / "out.parquet.parts")
    storage.write("started", b"of others")
    storage.write("000000.parquet", b"of others")
    assert predicted(tmp_path / "in", tmp_path / "out.parquet", model).num_rows == 1


@pytest.mark.parametrize("same", [True, False], ids=["same-table", "other-films"])
def test_two_commands_at_one_table_never_mix(model, png, tmp_path, monkeypatch, same):
    folder, out = tmp_path / "in", tmp_path / "out.parquet"
    folder.mkdir()
    for i in range(40):  # three parts
        (folder / f"{i:02}.png").write_bytes(png)
    other = folder if same else tmp_path / "other"
    other.mkdir(exist_ok=True)
    (other / "00.png").write_bytes(png)
    whole, parts_of = [], predict.predicted_parts

    def meanwhile(*arguments, **options):
        for i, part in parts_of(*arguments, **options):
            if i == 1 and not whole:
                whole.append(None)
                whole[0] = predicted(other, out, model)
            yield i, part

    monkeypatch.setattr(predict, "predicted_parts", meanwhile)
    if same:
        assert predicted(folder, out, model).equals(whole[0])
    else:
        with pytest.raises(UserError, match="there is another table already"):
            predicted(folder, out, model)
    assert pq.read_table(out).num_rows == (40 if same else 1)
    assert not (tmp_path / "out.parquet.parts").exists()


def test_a_command_stops_where_another_has_begun_another_table(model, png, tmp_path, monkeypatch):
    folder, out = tmp_path / "in", tmp_path / "out.parquet"
    folder.mkdir()
    for i in range(20):
        (folder / f"{i:02}.png").write_bytes(png)
    parts, parts_of = open_storage(tmp_path / "out.parquet.parts"), predict.predicted_parts

    def meanwhile(*arguments, **options):
        for i, part in parts_of(*arguments, **options):
            if i == 1:
                parts.delete_all()
                parts.write("started", b"of others")
            yield i, part

    monkeypatch.setattr(predict, "predicted_parts", meanwhile)
    with pytest.raises(UserError, match="another process has begun a table of other films"):
        predicted(folder, out, model)
    assert sorted(parts.sizes()) == ["started"]
    assert not out.exists()
