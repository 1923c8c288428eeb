"""Films of a PACS without labels: searched for once, and retrieved by the workers that read them."""

from __future__ import annotations

from dataclasses import dataclass

from components.cxr.dicomweb_server import DicomwebServer
from components.cxr.ids import IdKey
from components.cxr.pacs_search import PacsFilms, search_pacs
from components.preprocess.adapters.unlabeled_study import unlabeled_study
from components.preprocess.config import DicomwebData
from components.preprocess.records import FilmFiles, FilmRef, Folder, Source, hash_source

__all__ = ["PacsFolder", "read_dicomweb"]


@dataclass(frozen=True)
class PacsFolder(Folder):
    """A PACS that another process can ask for itself."""

    server: DicomwebServer

    def open(self) -> FilmFiles:
        """Its films."""
        return PacsFilms(self.server)


def read_dicomweb(config: DicomwebData, *, key: IdKey) -> Source:
    """Search once, and remember what was found in `data.found`; films are retrieved when they are read.

    A study without PatientID is a patient of its own; one whose films the PACS did not list is left out. View, age and
    sex come from the film's header.

    Raises:
        UserError: no server, refused credentials, no DICOMweb, nothing found, or a file of another search.
    """
    found = search_pacs(config)
    studies = [
        unlabeled_study(each.study, each.patient, tuple(map(_film, each.films)), config=config, key=key)
        for each in found
        if each.unlisted is None
    ]
    unlisted = len(found) - len(studies)
    return Source(
        where=config.server.url,
        films=PacsFolder(config.server.url, None, config.server),
        pathologies=config.pathologies,
        studies=tuple(studies),
        hash=hash_source([], ((f"{film.path}\0{study.patient_id}", None) for study in studies for film in study.films)),
        left_out={"studies whose films the PACS did not list": unlisted} if unlisted else {},
    )


def _film(path: str) -> FilmRef:
    return FilmRef(image_id=path.rpartition("/")[2], path=path, exists=True, view_position=None)
