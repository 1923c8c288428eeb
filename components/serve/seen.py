"""What became of a request's parts: which of them were input, which not and why, and what a reader should know."""

from __future__ import annotations

from collections.abc import Iterator

from components.cxr.film_check import is_chest_film
from components.cxr.films.pixels import Film
from components.cxr.labels import NO_FINDING, POSITIVE, SUPPORT_DEVICES, UNCERTAIN
from components.cxr.model.batch import VIEW_INDEX
from components.cxr.model.predictor import Answer
from components.cxr.text.text import unread_sections
from components.serve.fields import StudyForm
from components.serve.predictor import Prediction, StudyPredictor
from components.serve.schemas import Caution, FilmScore, InputUse, Overall, Seen

__all__ = ["cautions", "film_scores", "inputs", "overall", "seen"]


def overall(answers: dict[str, Answer], *, in_distribution: bool | None = None) -> Overall:
    """One statement of the whole study, in which No Finding contradicts no finding.

    The states are evaluation's, each by the threshold of its own pathology, so No Finding may be positive beside a
    finding. Here a finding counts first: `findings` where one is positive; `no-finding` where none is positive or
    uncertain and No Finding is positive (or is none of the model's pathologies); else `open`. Support Devices are no
    finding, as in CheXpert's labels (Irvin et al. 2019). Of a study with another picture there is nothing to state.
    """
    if in_distribution is False:
        return "not-a-chest-film"
    states = [answer.state for name, answer in answers.items() if name not in (NO_FINDING, SUPPORT_DEVICES)]
    if POSITIVE in states:
        return "findings"
    is_clear = NO_FINDING not in answers or answers[NO_FINDING].state == POSITIVE
    return "no-finding" if is_clear and UNCERTAIN not in states else "open"


def seen(found: Prediction) -> Seen:
    """The model's input in short."""
    study = found.study
    return Seen(
        films=len(study.films),
        view_positions=tuple(study.view_positions),
        text=bool(study.text),
        age_years=study.age_years,
        sex=study.sex,
    )


def film_scores(found: Prediction) -> tuple[FilmScore, ...]:
    """How each film stands to those that the model was trained on; empty where nothing tells."""
    return tuple(
        FilmScore(film=i, in_distribution=is_chest_film(score), score=round(score, 4))
        for i, score in enumerate(found.foreign or (), start=1)
    )


def inputs(form: StudyForm, found: Prediction) -> tuple[InputUse, ...]:
    """Every part that a request can have, in its order."""
    study, films = found.study, found.films
    uses = []
    given_views = form.view_positions or [None] * len(films)
    for i, (given, view) in enumerate(zip(given_views, study.view_positions, strict=True), start=1):
        uses.append(InputUse(name="film", film=i, used=True, source="request"))
        known = view in VIEW_INDEX
        why = None if known else "The model knows PA, AP and lateral views." if view else "Not given."
        source = "request" if given else "header" if view else None
        uses.append(InputUse(name="view_position", film=i, used=known, source=source, why=why))
    why = None if study.text else "Nothing of it is in a section that the model reads." if form.text else "Not given."
    source = "request" if form.text else None
    uses.append(InputUse(name="text", used=bool(study.text), source=source, why=why))
    bad_age = study.age_years is None and any(film.refused_age for film in films)
    why = "The DICOM header's is none from 0 to 130 years." if bad_age else None
    uses.append(_metadata("age_years", study.age_years, form.age_years, why))
    uses.append(_metadata("sex", study.sex, form.sex, None))
    return tuple(uses)


def _metadata(name: str, used: object, given: object, why: str | None) -> InputUse:
    if used is None and given is not None:
        return InputUse(name=name, used=False, source="request", why="Without a film the model reads the text alone.")
    if used is None:
        return InputUse(name=name, used=False, source="header" if why else None, why=why or "Not given.")
    return InputUse(name=name, used=True, source="header" if given is None else "request")


def cautions(form: StudyForm, found: Prediction, predictor: StudyPredictor) -> tuple[Caution, ...]:
    """What about this request makes its answer less sure; nothing of its text or ids."""
    return tuple(Caution(code=code, message=message) for code, message in _cautions(form, found, predictor))


def _cautions(form: StudyForm, found: Prediction, predictor: StudyPredictor) -> Iterator[tuple[str, str]]:
    films, study, info = found.films, found.study, predictor.bundle.info
    for i, (film, view) in enumerate(zip(films, study.view_positions, strict=True), start=1):
        name = "The film" if len(films) == 1 else f"Film {i}"
        if found.foreign is not None and found.foreign[i - 1] > 0:
            yield "not-a-chest-film", f"{name} looks unlike a chest film: another picture, turned or inverted?"
        if film.burned_in:
            yield "burned-in", f"{name} is marked as having text burned into its pixels."
        if view is not None and view not in VIEW_INDEX:
            yield "unusual-view", f"{name} has a view position that the model was not trained on."
        if (
            view in VIEW_INDEX
            and film.view_position in VIEW_INDEX
            and VIEW_INDEX[view] != VIEW_INDEX[film.view_position]
        ):
            yield "view-differs", f"{name} has another view position in its DICOM header."
    yield from _differing(form, films)
    if form.text and (unread := unread_sections(form.text, config=info.text, reader=info.section_reader)):
        yield "text-left-out", f"The model does not read this part of the text: {', '.join(unread)}."
    most = info.architecture.max_tokens
    if (
        study.text
        and len(predictor.own_tokenizer(study.text, truncation=True, max_length=most + 1)["input_ids"]) > most
    ):
        yield "text-cut", f"The model reads the first {most} tokens of the text."


def _differing(form: StudyForm, films: tuple[Film, ...]) -> Iterator[tuple[str, str]]:
    ages, sexes = {film.age_years for film in films} - {None}, {film.sex for film in films} - {None}
    if len(ages) > 1 or len(sexes) > 1:
        yield "films-differ", "The films' DICOM headers differ in age or sex: are they of one study?"
    if form.age_years is not None and ages and form.age_years not in ages:
        yield "age-differs", "The age is not that of the DICOM header."
    if form.sex is not None and sexes and form.sex not in sexes:
        yield "sex-differs", "The sex is not that of the DICOM header."
