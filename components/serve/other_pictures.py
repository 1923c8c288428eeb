"""Pictures beside a study's chest films, such as a hand or a screenshot: left out where nobody is there to do it.

The server leaves nothing out: it names every such picture, and whoever asked may take it out and ask again. The router
and `predict`, which answer for whole archives, do so by the one rule here.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["NO_CHEST_FILM", "to_leave_out"]

NO_CHEST_FILM = "not-a-chest-film"
"""Why such a picture is left out."""


def to_leave_out(are_chest_films: Sequence[bool]) -> list[int]:
    """The places, from 0, of the pictures without which a study is answered; none is a chest film, and another is.

    Of a study with chest films none of them is left out, and of one without any nothing: its answer says what it is.
    """
    others = [place for place, is_chest_film in enumerate(are_chest_films) if not is_chest_film]
    return others if len(others) < len(are_chest_films) else []
