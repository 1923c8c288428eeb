"""The studies in a folder of films or in a PACS, for prediction: DICOMs by StudyInstanceUID, pictures by folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import PurePosixPath
from typing import NamedTuple

from components.cxr.errors import UserError
from components.cxr.films.dicom_headers import film_headers
from components.cxr.pacs import Pacs
from components.cxr.pacs_search import PacsFilms, search_pacs
from components.cxr.storage.storage import Storage, open_storage

__all__ = ["FilmFiles", "FoundStudies", "StudyFiles", "studies_in_folder", "studies_in_pacs"]

FilmFiles = Storage | PacsFilms
"""Where films are read by name."""

_PICTURES = (".png", ".jpg", ".jpeg")
_TEXT = ".txt"


class StudyFiles(NamedTuple):
    """One study's files, by their names in the folder or the PACS."""

    name: str
    """StudyInstanceUID; else the folder of its pictures (with a slash behind it, where that is also a UID here), or the
    path of its only film."""
    films: tuple[str, ...]
    text: str | None
    """The one text file beside its films, where they share their folder with no other study's."""
    reason: str | None = None
    """Why there can be no answer; None where there may be one."""


class FoundStudies(NamedTuple):
    """What there is to predict."""

    where: str
    """The folder's URI, or the PACS's address."""
    open_files: Callable[[], FilmFiles]
    """Opens it; another process can call it, too."""
    studies: tuple[StudyFiles, ...]
    """By name."""
    sizes: Mapping[str, int]
    """Bytes of every file in the folder; none of a PACS's, which tells no sizes."""
    left_out: Counter[str]
    """Files that are no film of their own, by reason."""


def studies_in_folder(storage: Storage, *, each_picture: bool = False, max_films: int) -> FoundStudies:
    """Group the films in a folder and all folders in it.

    DICOMs with the same StudyInstanceUID (0020,000D) are one study, one without is a study of its own. PNGs and JPEGs
    in the same subfolder are one study, and each in the folder itself is its own. Counted as left out are files
    that are no film, DICOM objects without an image, and further copies of a film (equal SOPInstanceUID).

    Args:
        each_picture: every PNG and JPEG is a study of its own, wherever it lies.
        max_films: that a study may have; a folder with more pictures is none.

    Raises:
        UserError: no film, or more pictures in one subfolder than a study may have.
    """
    sizes = storage.sizes()
    pictures = [name for name in sizes if _suffix(name) in _PICTURES]
    others = {name: size for name, size in sizes.items() if _suffix(name) not in (*_PICTURES, _TEXT)}
    films: dict[str, list[str]] = {}
    left_out: Counter[str] = Counter()
    for name, header in film_headers(storage, others, left_out, unread="files that are no film"):
        films.setdefault(header.study_id or name, []).append(name)
    uids = set(films)
    in_folder = Counter(_folder(name) for name in pictures)
    for name in pictures:
        folder = _folder(name)
        if folder and not each_picture and in_folder[folder] > max_films:
            raise UserError(
                "too-many-pictures",
                "a subfolder has more PNGs or JPEGs than a study has films",
                where=storage.uri,
                found=in_folder[folder],
                expected=f"at most {max_films} (serve.max_files)",
                remedy="If each is a study of its own, add --each-picture.",
            )
        together = f"{folder}/" if folder in uids else folder
        films.setdefault(name if each_picture or not folder else together, []).append(name)
    if not films:
        found = ", ".join(f"{count} {reason}" for reason, count in left_out.items()) or "no file"
        raise UserError(
            "no-films", "folder has no films", where=storage.uri, found=found, expected="DICOMs, PNGs or JPEGs"
        )
    texts = _texts(sizes, films)
    studies = (StudyFiles(name, tuple(films[name]), texts.get(name)) for name in sorted(films))
    return FoundStudies(storage.uri, partial(open_storage, storage.uri), tuple(studies), sizes, left_out)


def studies_in_pacs(pacs: Pacs) -> FoundStudies:
    """Search a PACS, or take what an earlier search found; films are retrieved when they are read.

    Raises:
        UserError: as search_pacs.
    """
    studies = (
        StudyFiles(found.study, found.films, None, None if found.unlisted is None else "films-not-listed")
        for found in search_pacs(pacs)
    )
    return FoundStudies(pacs.server.url, partial(PacsFilms, pacs.server), tuple(studies), {}, Counter())


def _texts(sizes: Mapping[str, int], films: Mapping[str, list[str]]) -> dict[str, str]:
    """By study its text: the only one in a folder whose films are all this study's, and hold all of them."""
    found: dict[str, list[str]] = {}
    for name in sizes:
        if _suffix(name) == _TEXT:
            found.setdefault(_folder(name), []).append(name)
    studies_in: dict[str, set[str]] = {}
    for study, names in films.items():
        for name in names:
            studies_in.setdefault(_folder(name), set()).add(study)
    texts = {}
    for study, names in films.items():
        folders = {_folder(name) for name in names}
        beside = found.get(next(iter(folders)), []) if len(folders) == 1 else []
        if len(beside) == 1 and studies_in[_folder(names[0])] == {study}:
            texts[study] = beside[0]
    return texts


def _folder(name: str) -> str:
    return name.rpartition("/")[0]


def _suffix(name: str) -> str:
    return PurePosixPath(name).suffix.lower()
