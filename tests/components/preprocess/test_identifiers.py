"""No value of a header outside the allow-list, no path and no cell of a table comes out, whatever goes wrong."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pydicom
import pytest
import yaml
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import UID

from tests.components.preprocess.conftest import write_csv
from tests.components.preprocess.steps import command

DicomWriter = Callable[..., bytes]

REPOSITORY = Path(__file__).parents[3]
MARK = "ZQX"
"""In every text that must not come out; numbers and dates are long enough not to occur by chance."""
TEXTS = {
    "AE": "ZQXAE", "CS": "ZQXCS", "LO": "ZQXLO^DOE", "LT": "ZQXLT long", "PN": "ZQXPN^JANE", "SH": "ZQXSH",
    "ST": "ZQXST", "UC": "ZQXUC", "UR": "http://ZQXUR", "UT": "ZQXUT", "UN": b"ZQXUN ", "OB": b"ZQXOB ",
    "DA": "19371123", "DT": "19371123101112", "TM": "101112.9173", "DS": "91827.364554", "IS": "918273645",
    "UI": "1.2.840.918273645.1",
}  # fmt: skip
SECRETS = [MARK, "19371123", "101112.9173", "91827.3645", "918273645", "1918273", "5918273", "DOE", "JANE"]
NAMED = {
    "PatientName": "ZQX^NAME", "PatientID": "1918273", "PatientBirthDate": "19371123", "AccessionNumber": "5918273",
    "InstitutionName": "ZQX HOSPITAL", "ReferringPhysicianName": "ZQX^DOCTOR", "StudyDate": "19371123",
    "StudyDescription": "ZQX STUDY", "PatientComments": "ZQX COMMENT", "PatientAddress": "ZQX STREET",
    "ViewPosition": "ZQX DOE", "PatientSex": "ZQX", "OperatorsName": "ZQX^OPERATOR", "ImageComments": "ZQX",
    "StudyInstanceUID": "1.2.840.918273645.2", "SOPInstanceUID": "1.2.840.918273645.3", "StationName": "ZQX",
    "DeviceSerialNumber": "918273645",
}  # fmt: skip


def stuffed(data: bytes, number: int) -> Dataset:
    """The film with a secret in every text VR: as itself, in private tags, and in sequences within sequences."""
    dataset = pydicom.dcmread(io.BytesIO(data))
    for keyword, value in NAMED.items():
        setattr(dataset, keyword, value)
    dataset.StudyInstanceUID += f".{number}"
    dataset.SOPInstanceUID += f".{number}"
    item = Dataset()
    for i, (vr, value) in enumerate(TEXTS.items()):
        item.add_new(0x00091010 + i, vr, value)
    item.CodeMeaning, item.CodeValue = "ZQXMEANING", "ZQXVALUE"
    for i, (vr, value) in enumerate(TEXTS.items()):
        dataset.add_new(0x00191010 + i, vr, value)
    for owner in (item, dataset):
        owner.add_new(0x00090010, "LO", "ZQXCREATOR")
    dataset.add_new(0x00190010, "LO", "ZQXCREATOR")
    outer = Dataset()
    outer.OtherPatientIDsSequence = Sequence([item])
    for keyword in ("RequestAttributesSequence", "ViewCodeSequence", "AnatomicRegionSequence"):
        setattr(dataset, keyword, Sequence([outer if keyword.startswith("Request") else item]))
    dataset.file_meta.ImplementationVersionName, dataset.file_meta.SourceApplicationEntityTitle = "ZQXIMPL", "ZQXAET"
    return dataset


def damage(dataset: Dataset, number: int) -> None:
    """One way a film, its tags still full of secrets, can fail; reasons may name frames and transfer syntax."""
    match number:
        case 1:
            dataset.PhotometricInterpretation = "ZQXGRAY"
        case 2:
            dataset.NumberOfFrames = 7
        case 3:
            dataset.BurnedInAnnotation = "YES"
        case 4:
            del dataset.PixelData
        case 5:
            dataset.PixelData = dataset.PixelData[:100]
        case 6:
            dataset.file_meta.TransferSyntaxUID = UID("1.2.3.4")
        case 7:
            dataset.WindowCenter, dataset.WindowWidth = "91827.3645", "-91827.3645"
        case 8:
            dataset.BitsStored = 99


def written(dataset: Dataset) -> bytes:
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, dataset, implicit_vr=False, little_endian=True)
    return buffer.getvalue()


def write_config(data: dict[str, Any], step: dict[str, Any], tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    preprocess = {"pixels": {"size": 16}, "num_workers": 0} | step
    path.write_text(yaml.safe_dump({"data": data, "preprocess": preprocess, "root": str(tmp_path / "root")}))
    return path


def everything(root: Path) -> dict[str, str]:
    """Every file under root by name: its bytes, and every value of every Parquet column, which are compressed."""
    texts = {}
    for path in sorted(root.rglob("*")):
        if path.is_file():
            text = path.read_bytes().decode("latin-1")
            if path.suffix == ".parquet":
                table = pq.read_table(path)
                text += "".join(str(value) for column in table.columns for value in column.to_pylist())
                text += str(table.schema.metadata)
            texts[str(path.relative_to(root))] = text
    return texts


def check(texts: dict[str, str]) -> None:
    for name, text in texts.items():
        found = [secret for secret in SECRETS if secret in text + name]
        assert not found, f"{found} in {name}"


def test_nothing_but_the_allow_list_comes_out_of_films(tmp_path: Path, dicom_bytes: DicomWriter) -> None:
    rng = np.random.default_rng(0)
    archive = tmp_path / "archive" / "ZQX^DOE"
    archive.mkdir(parents=True)
    for number in range(12):
        plain = dicom_bytes(rng.integers(0, 4096, (30, 20)).astype(np.uint16), bits_stored=12, PatientAge="061Y")
        dataset = stuffed(plain, number)
        damage(dataset, number)
        (archive / f"JANE{number}.dcm").write_bytes(written(dataset))
    garbage = (archive / "JANE0.dcm").read_bytes()
    (archive / "JANE20.dcm").write_bytes(garbage[:600])
    (archive / "JANE21.dcm").write_bytes(garbage[:300] + b"\xff" * 40 + garbage[340:])
    data = {"adapter": "dicom-folder", "dir": str(tmp_path / "archive")}
    config = write_config(data, {"num_workers": 2, "max_reject_fraction": 1.0}, tmp_path)
    call = [sys.executable, "-W", "default", "-m", "components.preprocess", "--config", str(config)]
    done = subprocess.run(call, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    texts = everything(tmp_path / "root")
    check(texts | {"stdout": done.stdout, "stderr": done.stderr})
    codes = pq.read_table(next((tmp_path / "root").rglob("rejects.parquet"))).column("code").to_pylist()
    assert {"burned-in", "multi-frame", "no-pixels", "truncated"} <= set(codes)
    shard = pq.read_table(next((tmp_path / "root").rglob("shards/*.parquet")))
    assert shard.num_rows >= 4
    assert set(shard.column("age_years").to_pylist()) == {61.0}
    assert set(shard.column("view_position").to_pylist()) == set(shard.column("sex").to_pylist()) == {None}

    code, out, err = command("--config", write_config(data, {"images_per_shard": 3}, tmp_path))
    assert code == 2
    assert "too many films cannot be used" in err
    check({"stderr": err, "stdout": out})


def test_the_search_finds_what_it_looks_for(tmp_path: Path) -> None:
    """Compressed columns are searched too."""
    pq.write_table(pa.table({"sex": ["ZQX"] * 1000}), tmp_path / "x.parquet", compression="zstd")
    with pytest.raises(AssertionError, match="ZQX"):
        check(everything(tmp_path))


HEADER = ["image", "patient_id", "split", "age", "Edema"]
ROWS = [["ZQX1.png", "1918273", "train", "60", "1"], ["ZQX2.png", "1918274", "test", "61", "0"]]


@pytest.mark.parametrize(
    ("row", "column", "cell", "what"),
    [
        (1, 4, "ZQX DOE", "bad label"),
        (1, 2, "ZQX DOE", "unknown split"),
        (1, 3, "ZQX DOE", "bad age"),
        (1, 1, "1918273", "a patient is in two splits"),
        (1, 0, "ZQX1.png", "film is listed twice"),
        (1, 0, "ZQX3.png", "too many films"),
        (0, 0, 'ZQX"1.png', "too many films"),
        (1, 4, '0",ZQX DOE,"', "table has a broken row"),
        (0, 0, "ZQX", "table has no header"),
    ],
)
def test_nothing_comes_out_of_bad_tables(tmp_path: Path, row: int, column: int, cell: str, what: str) -> None:
    rows = [list(values) for values in ROWS]
    rows[row][column] = cell
    write_csv(tmp_path / "t.csv", HEADER, rows)
    if what == "table has no header":
        (tmp_path / "t.csv").write_text((tmp_path / "t.csv").read_text().partition("\n")[2])
    if what == "table has a broken row":
        (tmp_path / "t.csv").write_text((tmp_path / "t.csv").read_text().replace('"', ""))
    for name in ("ZQX1.png", "ZQX2.png"):
        (tmp_path / "films").mkdir(exist_ok=True)
        (tmp_path / "films" / name).write_bytes(b"no film of ZQX DOE" if what == "too many films" else b"")
    data = {"adapter": "csv", "table": str(tmp_path / "t.csv"), "image_dir": str(tmp_path / "films")}
    data |= {"columns": {"split": "split", "age_years": "age"}, "pathologies": ["Edema"]}
    code, out, err = command("--config", write_config(data, {}, tmp_path))
    assert code == 2
    assert err.splitlines()[-1].startswith(f"error: {what}")
    check({"stderr": err, "stdout": out} | everything(tmp_path / "root"))
