"""Which films of which PACS: the fields of a configuration; pacs_search.py looks for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from pydantic import Field, model_validator

from components.cxr.config import Config
from components.cxr.dicomweb_server import DicomwebServer
from components.cxr.errors import UserError

__all__ = ["Pacs", "PacsQuery"]

_OF_DATA_SETS = ("pathologies", "split", "fractions")
"""Fields of `data` that say nothing of a PACS."""


class PacsQuery(Config):
    """What is searched for; everything that is set has to match."""

    modalities: tuple[str, ...] = Field(("DX", "CR"), min_length=1)
    """Modality (0008,0060) of a series, one of these."""
    body_parts: tuple[str, ...] = ()
    """BodyPartExamined (0018,0015) of a series, one of these in any capitals; empty for all, as many leave it out."""
    study_dates: str | None = Field(
        None, pattern=r"^(\d{8})?(-(\d{8})?)?$", min_length=8, coerce_numbers_to_str=True
    )  # YAML reads a day as a number
    """A day or a range of StudyDate, such as 20240101-20241231; either end may be missing."""
    accession_numbers: str | None = None
    """File with one AccessionNumber a line: those studies alone; local or gs://."""
    study_uids: str | None = None
    """File with one StudyInstanceUID a line: those studies alone; local or gs://."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.accession_numbers is not None and self.study_uids is not None:
            raise ValueError("either accession_numbers or study_uids")
        return self


class Pacs(Config):
    """A PACS and what is searched for in it."""

    server: DicomwebServer
    """Where it answers, and which environment variables hold the credentials."""
    query: PacsQuery = PacsQuery()
    """What is searched for."""
    found: str
    """JSON file that the first run writes with what the search found, patients' ids and all, and later ones read: what
    comes into the PACS meanwhile changes nothing. Delete it to search anew. Local or gs://."""

    @classmethod
    def of(cls, data: Mapping[str, Any], *, where: str) -> Self:
        """The PACS of a section `data`, without what it says of labels and splits.

        Raises:
            UserError: another adapter than dicomweb, or a field that is wrong, by its dotted path.
        """
        if data.get("adapter") != "dicomweb":
            raise UserError(
                "no-pacs", "this is no PACS", where=f"{where}.adapter", found=data.get("adapter"), expected="dicomweb"
            )
        values = {name: value for name, value in data.items() if name not in ("adapter", *_OF_DATA_SETS)}
        return cls.parse(values, where=where)
