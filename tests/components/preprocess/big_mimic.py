"""MIMIC-CXR's and MIMIC-IV's tables at their real size, with made-up rows and empty files.

`python -m tests.components.preprocess.big_mimic FOLDER` writes them, reads them and prints how long that took.
"""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from components.cxr.labels import PATHOLOGIES

NUM_FILMS, NUM_STUDIES, NUM_PATIENTS = 377_110, 227_835, 65_379
NUM_IV_PATIENTS, NUM_ADMISSIONS = 364_627, 546_028
NUM_UNLABELED = 8

READ = """
import json, re, sys, time
from pathlib import Path
from components.cxr.ids import IdKey
from components.preprocess.adapters import read_source
from components.preprocess.config import MimicCxrData
start = time.perf_counter()
source = read_source(MimicCxrData(dir=sys.argv[1], mimic_iv_dir=sys.argv[1] + "/iv"), key=IdKey(None))
print(json.dumps({
    "seconds": time.perf_counter() - start,
    "cpu_seconds": time.process_time(),
    # ru_maxrss would begin with the peak of the process that started this one.
    "peak_mb": int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024,
    "films": sum(len(study.films) for study in source.studies),
    "studies": len(source.studies),
    "unlabeled": sum(not study.labeled for study in source.studies),
    "reports": sum(study.report is not None for study in source.studies),
    "aged": sum(study.age_years is not None for study in source.studies),
}))
"""


def read_big_mimic(folder: Path) -> dict[str, Any]:
    """Read it all in a process of its own: seconds by the clock and of CPU, peak memory in MB, and what was found."""
    done = subprocess.run([sys.executable, "-c", READ, str(folder)], check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def write_big_mimic(folder: Path, *, with_files: bool) -> None:
    """Write all tables to `folder` and `folder/iv/hosp`, and an empty file for each film and report."""
    rng = np.random.default_rng(0)
    study_of = np.concatenate([np.arange(NUM_STUDIES), rng.integers(0, NUM_STUDIES, NUM_FILMS - NUM_STUDIES)])
    study_of.sort()
    patient_of = np.sort(
        np.concatenate([np.arange(NUM_PATIENTS), rng.integers(0, NUM_PATIENTS, NUM_STUDIES - NUM_PATIENTS)])
    )
    words = rng.integers(0, 2**32, (NUM_FILMS, 5), dtype=np.uint64)
    images = ["-".join(f"{word:08x}" for word in row) for row in words.tolist()]
    patients = [f"{10_000_000 + 151 * p}" for p in patient_of.tolist()]
    studies = [f"{50_000_000 + 41 * s}" for s in range(NUM_STUDIES)]
    folders = [f"files/p{p[:2]}/p{p}/s{s}" for p, s in zip(patients, studies, strict=True)]
    splits = ["test" if p % 200 == 0 else "validate" if p % 130 == 0 else "train" for p in patient_of.tolist()]
    films = [(image, s) for image, s in zip(images, study_of.tolist(), strict=True)]
    paths = [f"{folders[s]}/{image}.dcm" for image, s in films]
    _write(
        folder / "cxr-record-list.csv.gz",
        "subject_id,study_id,dicom_id,path",
        (f"{patients[s]},{studies[s]},{image},{path}" for (image, s), path in zip(films, paths, strict=True)),
    )
    _write(
        folder / "cxr-study-list.csv.gz",
        "subject_id,study_id,path",
        (f"{patients[s]},{studies[s]},{folders[s]}.txt" for s in range(NUM_STUDIES)),
    )
    _write(
        folder / "mimic-cxr-2.0.0-split.csv.gz",
        "dicom_id,study_id,subject_id,split",
        (f"{image},{studies[s]},{patients[s]},{splits[s]}" for image, s in films),
    )
    views = ("AP", "PA", "LATERAL", "LL", "")
    _write(
        folder / "mimic-cxr-2.0.0-metadata.csv.gz",
        "dicom_id,subject_id,study_id,PerformedProcedureStepDescription,ViewPosition,Rows,Columns,StudyDate,StudyTime,"
        "ProcedureCodeSequence_CodeMeaning,ViewCodeSequence_CodeMeaning,PatientOrientationCodeSequence_CodeMeaning",
        (
            f"{image},{patients[s]},{studies[s]},CHEST (PORTABLE AP),{views[i % 5]},3056,2544,"
            f"{21_100_101 + 10_000 * (s % 80)},{i % 235_959}.{i % 1000:03},CHEST (PORTABLE AP),antero-posterior,Erect"
            for i, (image, s) in enumerate(films)
        ),
    )
    # A fifth of the cells is filled, as in the labelers' tables.
    states = np.array(["", "1.0", "0.0", "-1.0"])[rng.choice(4, (NUM_STUDIES, 14), p=[0.8, 0.1, 0.07, 0.03])].tolist()
    _write(
        folder / "mimic-cxr-2.0.0-chexpert.csv.gz",
        ",".join(["subject_id", "study_id", *PATHOLOGIES]),
        (f"{patients[s]},{studies[s]},{','.join(states[s])}" for s in range(NUM_STUDIES - NUM_UNLABELED)),
    )
    _write(
        folder / "iv" / "hosp" / "patients.csv.gz",
        "subject_id,gender,anchor_age,anchor_year,anchor_year_group,dod",
        (
            f"{10_000_000 + 151 * p},{'FM'[p % 2]},{18 + p % 70},{2110 + p % 90},2014 - 2016,"
            for p in range(NUM_IV_PATIENTS)
        ),
    )
    payers = ("Medicare", "Private", "")
    races = ("WHITE", "BLACK/AFRICAN AMERICAN", "ASIAN", "UNKNOWN", "")
    _write(
        folder / "iv" / "hosp" / "admissions.csv.gz",
        "subject_id,hadm_id,admittime,dischtime,deathtime,admission_type,admit_provider_id,admission_location,"
        "discharge_location,insurance,language,marital_status,race,edregtime,edouttime,hospital_expire_flag",
        (
            f"{10_000_000 + 151 * (a % NUM_IV_PATIENTS)},{20_000_000 + a},{2110 + a % 80}-05-06 22:23:00,"
            f"{2110 + a % 80}-05-07 17:15:00,,URGENT,P49AFC,TRANSFER FROM HOSPITAL,HOME,{payers[a % 3]},"
            f"English,WIDOWED,{races[a % 5]},2180-05-06 19:17:00,2180-05-06 23:30:00,0"
            for a in range(NUM_ADMISSIONS)
        ),
    )
    if with_files:
        for place in folders:
            (folder / place).mkdir(parents=True)
            (folder / f"{place}.txt").touch()
        for path in paths:
            (folder / path).touch()


def _write(path: Path, header: str, lines: Iterator[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(path, "wt", compresslevel=1) as file:
        file.write(f"{header}\n")
        file.writelines(f"{line}\n" for line in lines)


if __name__ == "__main__":
    write_big_mimic(Path(sys.argv[1]), with_files=True)
    print(json.dumps(read_big_mimic(Path(sys.argv[1]))))
