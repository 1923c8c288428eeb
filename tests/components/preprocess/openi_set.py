"""A made-up Open-i set: XML in its layout, PNG films in its names."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np

from components.cxr.films.pixels import encode_png


@dataclass(frozen=True)
class TinyOpeni:
    """Where the set lies."""

    reports: Path
    image_dir: Path

    def values(self, **data: Any) -> dict[str, dict[str, Any]]:
        """Sections data and preprocess of a configuration."""
        source = {"adapter": "openi", "reports": str(self.reports), "image_dir": str(self.image_dir)}
        step = {"pixels": {"size": 16}, "num_workers": 0, "images_per_shard": 4, "max_reject_fraction": 0.5}
        return {"data": source | data, "preprocess": step}

    def add(
        self,
        number: int,
        *,
        terms: Sequence[str] = ("normal",),
        films: Sequence[str] = (),
        listed: Sequence[str] | None = None,
        **sections: str,
    ) -> None:
        """Write a report and its films; `listed` are the ids in the XML where they differ from the films'."""
        self.reports.mkdir(parents=True, exist_ok=True)
        (self.reports / f"{number}.xml").write_text(
            xml(number, terms=terms, films=films if listed is None else listed, **sections)
        )
        for film in films:
            pixels = np.full((20, 16), number % 256, np.uint8)
            pixels[:8] = 200
            path = self.image_dir / f"{film}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encode_png(pixels))

    def archive(self) -> Path:
        """The same reports as one .tgz, among other files that such archives hold."""
        path = self.reports.parent / "NLMCXR_reports.tgz"
        with tarfile.open(path, "w:gz") as archive:
            archive.add(self.reports, "ecgen-radiology")
            junk = tarfile.TarInfo("ecgen-radiology/._1.xml")
            junk.size = 4
            archive.addfile(junk, io.BytesIO(b"junk"))
        return path


def xml(number: int, *, terms: Sequence[str], films: Sequence[str], **sections: str) -> str:
    """One report as Open-i writes it."""
    parts = "".join(
        f'<AbstractText Label="{name.upper()}">{escape(text)}</AbstractText>\n' for name, text in sections.items()
    )
    majors = "".join(f"<major>{escape(term)}</major>\n" for term in terms)
    images = "".join(
        f'<parentImage id="{film}"><figureId>F{i}</figureId><panel type="single"><url>/x/{film}.jpg</url></panel>'
        "</parentImage>\n"
        for i, film in enumerate(films, start=1)
    )
    return (
        f'<?xml version="1.0" encoding="utf-8"?>\n<eCitation>\n<uId id="CXR{number}"/>\n<MedlineCitation><Article>'
        f"<Abstract>\n{parts}</Abstract></Article></MedlineCitation>\n"
        f"<MeSH>\n{majors}<automatic>Edema</automatic></MeSH>\n{images}</eCitation>\n"
    )
