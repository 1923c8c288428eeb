"""The adapter of Open-i on made-up XML, and on the real reports where they are."""

from __future__ import annotations

import shutil
import tarfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from components.cxr.errors import UserError
from components.cxr.ids import IdKey
from components.cxr.labels import PATHOLOGIES
from components.cxr.shards import SPLITS, LoadedManifest, read_shard
from components.cxr.storage.storage import Root, open_storage
from components.preprocess.adapters.openi import film_key, read_openi
from components.preprocess.adapters.openi_terms import NO_PATHOLOGY, RULES, is_known, pathologies_of
from components.preprocess.collect import collect
from components.preprocess.config import OpeniData, PreprocessConfig, parse_data
from components.preprocess.preprocess import run_partition
from components.preprocess.records import Source, SourceStudy
from tests.components.preprocess.openi_set import TinyOpeni

KEY = IdKey(b"k" * 16)


@pytest.fixture
def openi(tmp_path: Path) -> TinyOpeni:
    """Six reports: normal, ill, no indexing, without films, with a film that is gone, and in another naming."""
    made = TinyOpeni(tmp_path / "ecgen-radiology", tmp_path / "png")
    made.add(
        1,
        films=["CXR1_1_IM-0001-3001", "CXR1_1_IM-0001-4001"],
        comparison="None.",
        indication="Cough. The lungs are clear.",
        findings="No OPACITY & <none>.",
    )
    terms = ["Cardiomegaly/mild", "Opacity/lung/base/left/round", "Thoracic Vertebrae/degenerative"]
    made.add(2, terms=terms, films=["CXR2_IM-0652-1001"], impression="Big heart.", indication="")
    made.add(3, terms=["No Indexing"], films=["CXR3_IM-1384-1001"], indication="pain")
    made.add(4, terms=["Pulmonary Edema"])
    made.add(5, terms=[], films=["CXR5_IM-2117-1001"], listed=["CXR5_IM-2117-1001", "CXR5_IM-2117-1002-0001"])
    made.add(6, terms=["Fractures, Bone/ribs"], films=["deep/CXR6_IM-2192-1001"], listed=["CXR6_IM-2192-1001"])
    return made


def read(openi: TinyOpeni, **data: object) -> tuple[Source, dict[str, SourceStudy]]:
    config = parse_data(openi.values(**data)["data"])
    assert isinstance(config, OpeniData)
    source = read_openi(config, key=KEY)
    return source, {study.study_id: study for study in source.studies}


def preprocess(values: dict[str, dict[str, Any]], root: Path, **changes: object) -> LoadedManifest:
    data = parse_data(values["data"])
    config = PreprocessConfig.parse(values["preprocess"] | changes, where="preprocess")
    run_partition(data, config, root=Root(root), partition=0, num_partitions=1)
    return collect(data, config, root=Root(root))


def states(study: SourceStudy) -> dict[str, int | None]:
    return {name: state for name, state in zip(PATHOLOGIES, study.labels, strict=True) if state is not None}


def test_labels_and_films(openi: TinyOpeni) -> None:
    source, studies = read(openi)
    assert source.pathologies == PATHOLOGIES
    assert len(studies) == 6
    assert states(studies["CXR1"]) == {"No Finding": 1}
    assert states(studies["CXR2"]) == {"Cardiomegaly": 1, "Lung Opacity": 1, "Lung Lesion": 1}
    assert states(studies["CXR6"]) == {"Fracture": 1}
    assert [name for name, study in studies.items() if not study.labeled] == ["CXR3", "CXR5"]
    assert not states(studies["CXR3"])
    assert studies["CXR4"].films == ()
    assert [film.exists for film in studies["CXR5"].films] == [True, False]
    assert studies["CXR6"].films[0].path == "deep/CXR6_IM-2192-1001.png"
    assert all(study.patient_id == study.study_id for study in source.studies)
    assert all(film.view_position is None for study in source.studies for film in study.films)


def test_not_mentioned_as_zero_leaves_unlabeled_reports_blank(openi: TinyOpeni) -> None:
    _, studies = read(openi, not_mentioned=0)
    assert Counter(studies["CXR2"].labels) == {1: 3, 0: 11}
    assert set(studies["CXR3"].labels) == {None}


def test_archive_and_folder_are_the_same_source(openi: TinyOpeni) -> None:
    source, _ = read(openi)
    from_archive, _ = read(openi, reports=str(openi.archive()))
    assert from_archive.hash == source.hash
    assert sorted(map(repr, from_archive.studies)) == sorted(map(repr, source.studies))
    openi.add(2, terms=["normal"], films=["CXR2_IM-0652-1001"])
    assert read(openi)[0].hash != source.hash


def test_reports_alone_are_enough_to_read_them(openi: TinyOpeni) -> None:
    source, studies = read(openi, image_dir=None)
    assert not any(film.exists for study in source.studies for film in study.films)
    text = studies["CXR1"].report_text
    assert text is not None
    assert text.startswith("\n COMPARISON:  None.\n\n INDICATION:  Cough.")


@pytest.mark.parametrize(
    "name",
    [
        *("CXR1_1_IM-0001-3001", "CXR1_1_IM-0001-3001.png", "1/1_IM-0001-3001.dcm"),
        *("1_IM-0001-3001.dcm.png", "x/CXR1_IM-0001-3001.JPG"),
    ],
)
def test_one_film_under_all_its_names(name: str) -> None:
    assert film_key(name) == "1_IM-0001-3001"


def test_names_of_other_films() -> None:
    assert film_key("CXR11_IM-0067-1001.png") == "11_IM-0067-1001"
    assert film_key("CXR10_IM-0002-1001-0001.png") == "10_IM-0002-1001-0001"
    assert film_key("readme.png") is None


def test_dicom_layout(openi: TinyOpeni, tmp_path: Path, dicom_bytes: Callable[..., bytes]) -> None:
    for study, film in (("1", "1_IM-0001-3001"), ("2", "2_IM-0652-1001")):
        path = tmp_path / "dcm" / study / f"{film}.dcm"
        path.parent.mkdir(parents=True)
        tags = {"ViewPosition": "PA", "PatientAge": "061Y", "PatientSex": "F"}
        path.write_bytes(dicom_bytes(np.arange(400, dtype=np.uint16).reshape(20, 20), **tags))
    image_dir = str(tmp_path / "dcm")
    _, studies = read(openi, image_dir=image_dir)
    assert [film.path for film in studies["CXR1"].films if film.exists] == ["1/1_IM-0001-3001.dcm"]
    assert studies["CXR2"].films[0].exists
    loaded = preprocess(openi.values(image_dir=image_dir), tmp_path / "root", max_reject_fraction=0.9)
    rows = [row for info in loaded.manifest.shards for row in read_shard(loaded.storage, info).to_pylist()]
    assert [(row["view_position"], row["age_years"], row["sex"]) for row in rows] == [("PA", 61.0, "F")] * 2


def test_in_a_bucket(openi: TinyOpeni, gcs_bucket: str) -> None:
    archive = openi.archive()
    bucket = open_storage(gcs_bucket)
    bucket.upload(archive, "openi/NLMCXR_reports.tgz")
    open_storage(f"{gcs_bucket}/openi/png").upload_folder(openi.image_dir)
    local, _ = read(openi)
    there, _ = read(openi, reports=f"{gcs_bucket}/openi/NLMCXR_reports.tgz", image_dir=f"{gcs_bucket}/openi/png")
    assert there.hash == local.hash
    assert there.films.uri == f"{gcs_bucket}/openi/png"
    with pytest.raises(UserError, match="reports are missing: gs://"):
        read(openi, reports=f"{gcs_bucket}/openi/none.tgz")


def test_shards(openi: TinyOpeni, tmp_path: Path) -> None:
    """From XML and films to rows: the lost film is a reject, the study without films has no row."""
    loaded = preprocess(openi.values(), tmp_path / "root")
    manifest = loaded.manifest
    assert manifest.num_rejects == 1
    assert manifest.section_reader == "strict"
    assert sum(manifest.counts[split].images for split in SPLITS) == 6
    assert sum(manifest.counts[split].studies for split in SPLITS) == 5
    assert sum(manifest.counts[split].labeled_studies for split in SPLITS) == 3
    rows = [row for info in manifest.shards for row in read_shard(loaded.storage, info).to_pylist()]
    texts = {row["text_indication"]: row for row in rows}
    assert set(texts) == {"Cough.", "pain", None}
    assert texts["Cough."]["text_findings"] == "No OPACITY & <none>."
    assert texts["Cough."]["text_other"] == "The lungs are clear."
    assert texts["pain"]["labeled"] is False
    assert not any("CXR" in str(value) for row in rows for value in row.values())


def test_the_reader_of_sections_is_part_of_the_data_set(openi: TinyOpeni, tmp_path: Path) -> None:
    texts = {}
    for reader in ("strict", "mimic"):
        loaded = preprocess(openi.values(), tmp_path / "root", section_reader=reader)
        assert loaded.manifest.section_reader == reader
        rows = [row for info in loaded.manifest.shards for row in read_shard(loaded.storage, info).to_pylist()]
        texts[reader] = {row["text_indication"] for row in rows} - {None}
    assert texts == {"strict": {"Cough.", "pain"}, "mimic": {"Cough. The lungs are clear.", "pain"}}


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda o: shutil.rmtree(o.reports), r"reports are missing: .*NLMCXR_reports\.tgz itself"),
        (
            lambda o: (o.reports / "2.xml").write_text("<a>"),
            "report is not XML: .*path hash [0-9a-f]{20}; found line 1",
        ),
        (lambda o: (o.reports / "2.xml").write_text("<eCitation/>"), "report has no id"),
        (lambda o: shutil.copy(o.reports / "2.xml", o.reports / "7.xml"), "a study is there twice"),
        (lambda o: shutil.rmtree(o.image_dir), "no films here: .*data.image_dir"),
        (lambda o: shutil.copytree(o.image_dir, o.image_dir / "copy"), "a film is there twice"),
        (lambda o: o.add(7, listed=["CXR1_1_IM-0001-3001"]), "a film is in two reports"),
    ],
)
def test_each_mistake_has_its_error(openi: TinyOpeni, change: Callable[[TinyOpeni], object], match: str) -> None:
    change(openi)
    with pytest.raises(UserError, match=match) as caught:
        read(openi)
    assert "CXR" not in str(caught.value).replace("NLMCXR", "")


def test_archives_that_are_missing_or_broken(openi: TinyOpeni, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="reports are missing"):
        read(openi, reports=str(tmp_path / "none.tgz"))
    (tmp_path / "folder.tgz").mkdir()
    with pytest.raises(UserError, match=r"cannot read reports: .*folder\.tgz; found Is a directory"):
        read(openi, reports=str(tmp_path / "folder.tgz"))
    path = openi.archive()
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(UserError, match="archive is not readable"):
        read(openi, reports=str(path))


def test_preprocess_without_films_says_so_at_once(openi: TinyOpeni, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no film is there"):
        preprocess(openi.values(image_dir=None), tmp_path / "root")


@pytest.mark.parametrize(
    ("term", "pathologies"),
    [
        ("normal", {"No Finding"}),
        ("Cardiomegaly/borderline", {"Cardiomegaly"}),
        ("Cardiac Shadow/enlarged", {"Cardiomegaly"}),
        ("Cardiac Shadow/obscured", set()),
        ("Opacity/lung/base", {"Lung Opacity"}),
        ("Density/lung/round", {"Lung Opacity", "Lung Lesion"}),
        ("Density/mediastinum", {"Enlarged Cardiomediastinum"}),
        ("Mediastinum/prominent", {"Enlarged Cardiomediastinum"}),
        ("Mediastinum/lymph nodes/enlarged", set()),
        ("Mass/breast/large", set()),
        ("Thickening/pleura/apex", {"Pleural Other"}),
        ("Thickening/bronchi", set()),
        ("Hydropneumothorax", {"Pneumothorax", "Pleural Effusion"}),
        ("Subcutaneous  Emphysema", set()),
        ("Lung/hypoinflation", set()),
        ("never seen", set()),
    ],
)
def test_terms(term: str, pathologies: set[str]) -> None:
    assert pathologies_of(term) == pathologies
    assert is_known(term) == (term != "never seen")


def test_every_pathology_has_a_rule() -> None:
    assert {rule.pathology for rule in RULES} == set(PATHOLOGIES)
    for rule in RULES:
        assert rule.having or rule.heading not in NO_PATHOLOGY or rule.without, rule


def test_real_reports(real_data: Path) -> None:
    """Every file parses, and no common term is unknown to the table."""
    archive = real_data / "openi-reports" / "ecgen-radiology-half.tgz"
    source = read_openi(OpeniData(reports=str(archive)), key=KEY)
    assert len(source.studies) == 2019
    assert sum(len(study.films) for study in source.studies) == 3817
    assert sum(study.labeled for study in source.studies) == 2019 - 47
    assert all(film_key(film.image_id) for study in source.studies for film in study.films)
    counts = {name: sum(study.labels[i] == 1 for study in source.studies) for i, name in enumerate(PATHOLOGIES)}
    assert counts["No Finding"] == 710
    assert min(counts.values()) >= 10
    splits = Counter(study.split for study in source.studies)
    assert all(abs(splits[split] / 2019 - share) < 0.04 for split, share in zip(SPLITS, (0.7, 0.1, 0.2), strict=True))
    headings: Counter[str] = Counter()
    with tarfile.open(archive) as files:
        for member in files:
            file = files.extractfile(member)
            if file is not None:
                headings.update(
                    (term.text or "").split("/")[0] for term in ElementTree.parse(file).iterfind("MeSH/major")
                )
    assert [heading for heading, count in headings.items() if count > 5 and not is_known(heading)] == []


def test_few_films_are_warned_about(openi: TinyOpeni) -> None:
    assert read(openi)[0].warnings == ()
    openi.add(7, listed=[f"CXR7_IM-0001-{1000 + i}" for i in range(7)])
    (warning,) = read(openi)[0].warnings
    assert "under half of the films match" in warning
    assert "found 6 of 14 films" in warning
