"""From one study of the source to its rows: read films and report, replace ids; runs in worker processes."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field

from components.cxr.films.isolated import FilmReader
from components.cxr.films.pixel_preset import PixelPreset
from components.cxr.films.pixels import FilmError
from components.cxr.ids import IdKey, hash_id
from components.cxr.shard_writer import ImageRow
from components.cxr.storage.storage import DamagedFileError, cannot_read
from components.cxr.text.text import SectionReader, clean_sections, decode_report, parse_report, unescape_column
from components.preprocess.records import FilmFiles, FilmRef, Folder, SourceStudy

__all__ = ["Reject", "StudyReader", "StudyRows", "read_sections"]

_VIEW_WORDS = {
    "AP", "PA", "LL", "RL", "LLD", "RLD", "LLO", "RLO", "LAO", "RAO", "LPO", "RPO", "LATERAL", "LEFT", "RIGHT",
    "AXIAL", "OBLIQUE", "LORDOTIC", "DECUBITUS", "XTABLE", "SWIMMERS",
}  # fmt: skip
"""What a view position may say, alone or together (AP AXIAL); anybody can have typed anything else there."""


@dataclass(frozen=True)
class Reject:
    """A film that was left out, and why."""

    image_id: str
    source_hash: str
    code: str
    """Short reason for statistics, e.g. `missing` or `truncated`."""
    reason: str


@dataclass(frozen=True)
class StudyRows:
    """One study's readable films as rows, and the rest."""

    rows: list[ImageRow] = field(repr=False)
    rejects: list[Reject]
    num_bad_ages: int = 0
    """Films whose header has an age that is none, and whose table has none either."""


@dataclass(frozen=True)
class StudyReader:
    """What a worker needs to read studies."""

    films: FilmFiles
    pathologies: tuple[str, ...]
    preset: PixelPreset
    reader: FilmReader
    ids: IdKey
    section_reader: SectionReader

    def __call__(self, study: SourceStudy) -> StudyRows:
        """Rows ordered by image hash; without any film the study has none."""
        rows: list[ImageRow] = []
        rejects: list[Reject] = []
        num_bad_ages = 0
        films = self.films if study.folder is None else _opened(study.folder)
        text = read_sections(study, films, reader=self.section_reader)
        for ref in study.films:
            image_id = hash_id("image", ref.image_id, self.ids)
            source_hash = hash_id("path", ref.path, self.ids)
            try:
                film = self.reader.read(_bytes(films, ref), preset=self.preset)
            except FilmError as error:
                rejects.append(Reject(image_id, source_hash, error.code, error.reason))
                continue
            num_bad_ages += film.refused_age and study.age_years is None
            rows.append(
                ImageRow(
                    study_id=hash_id("study", study.study_id, self.ids),
                    patient_id=hash_id("patient", study.patient_id, self.ids),
                    image_id=image_id,
                    split=study.split,
                    view_position=_known_view(ref.view_position or film.view_position),
                    pixels=film.pixels,
                    text=text,
                    labels=dict(zip(self.pathologies, study.labels, strict=True)),
                    labeled=study.labeled,
                    age_years=film.age_years if study.age_years is None else study.age_years,
                    sex=study.sex or film.sex,
                    race=study.race,
                    insurance=study.insurance,
                    source_hash=source_hash,
                )
            )
        rows.sort(key=lambda row: row.image_id)
        rejects.sort(key=lambda reject: reject.image_id)
        return StudyRows(rows, rejects, num_bad_ages)


def read_sections(study: SourceStudy, films: FilmFiles, *, reader: SectionReader) -> dict[str, str]:
    """The sections of a study's report, from its file, its text or the source's columns; empty without any.

    Args:
        films: the opened `films` of the study's source.

    Raises:
        UserError: the report cannot be read.
    """
    if study.report is not None:
        try:
            data = _read(films, study.report)
        except OSError as error:
            raise cannot_read("reports", films.uri, error) from None
        text = unescape_column([decode_report(data)])[0]
        return parse_report(text, reader=reader)
    if study.report_text is not None:
        return parse_report(study.report_text, reader=reader)
    return clean_sections(study.text, reader=reader)


@functools.cache
def _opened(folder: Folder) -> FilmFiles:
    return folder.open()


def _bytes(films: FilmFiles, ref: FilmRef) -> bytes:
    if not ref.exists:
        raise FilmError("missing", "listed in the table, but there is no such file")
    try:
        return _read(films, ref.path)
    except FileNotFoundError:
        raise FilmError("vanished", "gone since the films were listed") from None
    except (IsADirectoryError, PermissionError) as error:
        raise FilmError("unreadable", error.strerror or "the file cannot be read") from None
    except DamagedFileError as error:
        raise FilmError("damaged", f"{error.what}: {error.found}") from None


def _known_view(position: str | None) -> str | None:
    return position if position and _VIEW_WORDS.issuperset(position.split()) else None


def _read(storage: FilmFiles, name: str) -> bytes:
    """Bytes of a file.

    Raises:
        UserError: the disk or network fails, which says nothing about the file: it is not to be left out for that.
    """
    local = storage.local_path(name)
    try:
        return local.read_bytes() if local is not None else storage.read(name).data
    except OSError as error:
        if isinstance(error, FileNotFoundError | IsADirectoryError | PermissionError):
            raise
        remedy = "Check the disk or the mount and run the same command again; finished shards are kept."
        raise cannot_read("films", storage.uri, error, remedy=remedy) from None
