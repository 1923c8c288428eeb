"""`python benchmarks/synthetic_speed.py`: films per second that one core draws and writes as DICOM (CPU, median)."""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median

import cv2

from pipeline.synthetic.films.dicoms import describe_image, write_dicom
from pipeline.synthetic.films.films import render_film
from pipeline.synthetic.patients import draw_patients
from pipeline.synthetic.presets import Settings
from pipeline.synthetic.studies import draw_studies


def main() -> None:
    """Print milliseconds of CPU per film and films per second for each size."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 512, 3056])
    parser.add_argument("--studies", type=int, default=60)
    given = parser.parse_args()
    cv2.setNumThreads(1)
    settings = Settings(prevalence="floor")
    studies = [study for p, n in draw_patients(given.studies, settings=settings) for study in draw_studies(p, n)]
    for size in given.sizes:
        seconds = []
        with tempfile.TemporaryDirectory() as folder:
            for study in studies if size <= 1024 else studies[:8]:
                for image in range(len(study.views)):
                    started = time.process_time()
                    film = render_film(study, image, size=size)
                    rows, columns = film.pixels.shape
                    record = describe_image(study, image, rows=rows, columns=columns)
                    write_dicom(Path(folder) / "film.dcm", film, record, study, image)
                    seconds.append(time.process_time() - started)
        each = median(seconds)
        print(f"{size:5} px: {len(seconds)} films, median {1000 * each:.1f} ms of CPU, {1 / each:.1f} films/s")


if __name__ == "__main__":
    main()
