"""Why the film was asked for: symptoms weakly linked to the truth, and questions that depend on the symptoms alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.synthetic.keys import Stream, generator
from pipeline.synthetic.studies import Study

__all__ = ["MAX_SYMPTOMS", "SYMPTOMS", "Indication", "Symptom", "draw_indication"]


@dataclass(frozen=True, kw_only=True)
class Symptom:
    """A complaint: how often it comes without cause, what makes it likelier, what it makes people ask."""

    words: tuple[str, ...]
    base: float
    """Log-odds when none of the causes is present."""
    causes: dict[str, float]
    """Pathology to added log-odds."""
    questions: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Indication:
    """Symptoms by name, and the words of the section."""

    symptoms: tuple[str, ...]
    text: str


_GENERAL = ("acute process", "acute cardiopulmonary process", "interval change", "cardiopulmonary abnormality")
_INFECTION = ("acute process", "source of fever", "cause of symptoms", "acute cardiopulmonary process")
_FLUID = ("volume status", "acute process", "fluid status", "cause of symptoms")
_INJURY = ("traumatic injury", "acute injury", "acute process")
_ILL = ("interval change", "acute process", "cause of deterioration")
_TUMOR = ("interval change", "metastatic disease", "acute process")

SYMPTOMS: dict[str, Symptom] = {
    "cough": Symptom(
        words=("cough", "productive cough", "dry cough", "cough x ___ days"),
        base=-1.7,
        causes={"Pneumonia": 0.6, "Consolidation": 0.4, "Lung Lesion": 0.4, "Lung Opacity": 0.2},
        questions=_INFECTION,
    ),
    "fever": Symptom(
        words=("fever", "fevers", "fever and leukocytosis", "febrile neutropenia"),
        base=-2.3,
        causes={"Pneumonia": 0.8, "Consolidation": 0.7, "Lung Opacity": 0.1},
        questions=_INFECTION,
    ),
    "dyspnea": Symptom(
        words=("shortness of breath", "dyspnea", "SOB", "dyspnea on exertion"),
        base=-1.7,
        causes={"Pleural Effusion": 0.5, "Edema": 0.5, "Cardiomegaly": 0.3, "Pneumothorax": 0.3},
        questions=_FLUID,
    ),
    "chest pain": Symptom(
        words=("chest pain", "CP", "pleuritic chest pain", "chest pressure"),
        base=-1.6,
        causes={"Pneumothorax": 0.8, "Fracture": 0.4, "Enlarged Cardiomediastinum": 0.6},
        questions=_GENERAL,
    ),
    "hypoxia": Symptom(
        words=("hypoxia", "new oxygen requirement", "desaturation", "respiratory failure"),
        base=-2.8,
        causes={"Edema": 0.6, "Atelectasis": 0.5, "Support Devices": 0.5, "Pleural Effusion": 0.2},
        questions=_ILL,
    ),
    "heart failure": Symptom(
        words=("CHF", "history of heart failure", "leg swelling", "known cardiomyopathy"),
        base=-3.2,
        causes={"Cardiomegaly": 1.0, "Edema": 0.6, "Pleural Effusion": 0.3},
        questions=_FLUID,
    ),
    "trauma": Symptom(
        words=("s/p fall", "fall", "s/p MVC", "trauma"),
        base=-3.0,
        causes={"Fracture": 1.3, "Pneumothorax": 0.6},
        questions=_INJURY,
    ),
    "cancer": Symptom(
        words=("lung cancer", "weight loss", "hemoptysis", "history of malignancy", "smoker"),
        base=-3.0,
        causes={"Lung Lesion": 1.2, "Pleural Other": 0.4, "Enlarged Cardiomediastinum": 0.6},
        questions=_TUMOR,
    ),
    "postoperative": Symptom(
        words=("s/p surgery", "s/p CABG", "postoperative day ___", "s/p thoracotomy"),
        base=-3.0,
        causes={"Atelectasis": 0.7, "Support Devices": 0.6, "Pneumothorax": 0.4},
        questions=("interval change", "acute process"),
    ),
    "critical": Symptom(
        words=("ICU patient", "critically ill", "sepsis", "s/p cardiac arrest"),
        base=-3.3,
        causes={"Support Devices": 1.1, "Edema": 0.2},
        questions=_ILL,
    ),
    "exposure": Symptom(
        words=("asbestos exposure", "prior empyema", "prior tuberculosis", "positive PPD"),
        base=-3.6,
        causes={"Pleural Other": 1.4, "Lung Lesion": 0.3},
        questions=("interval change", "active disease"),
    ),
    "altered": Symptom(
        words=("altered mental status", "weakness", "syncope", "dizziness"),
        base=-1.9,
        causes={},
        questions=_GENERAL,
    ),
}
"""No word of it is a label's: a model must learn what goes with a symptom."""
_UNSPECIFIC = ("preoperative evaluation", "abdominal pain", "nausea and vomiting", "palpitations", "back pain")
MAX_SYMPTOMS = 3
"""More than these are not written down."""

_ASKING = ("// eval for {}", "// ?{}", "// r/o {}", "// please assess for {}", ", evaluate for {}.", "// {}?", ".")


def draw_indication(study: Study) -> Indication:
    """Draw up to three symptoms given the truth, and a question given the symptoms; the age is masked."""
    patient = study.patient
    rng = generator(patient.seed, Stream.INDICATION, patient.index, study.index)
    present = []
    for name, symptom in SYMPTOMS.items():
        logit = symptom.base + sum(weight for cause, weight in symptom.causes.items() if study.has(cause))
        if rng.random() < 1 / (1 + np.exp(-logit)):
            present.append(name)
    kept = [present[i] for i in sorted(rng.permutation(len(present))[:MAX_SYMPTOMS])]
    words = [str(rng.choice(SYMPTOMS[name].words)) for name in kept] or [str(rng.choice(_UNSPECIFIC))]
    asked = SYMPTOMS[kept[int(rng.integers(len(kept)))]].questions if kept else _GENERAL
    question = str(rng.choice(asked))
    noun = "woman" if patient.sex == "F" else "man"
    who = str(rng.choice([f"___ year old {noun}", f"___-year-old {noun}", f"___{patient.sex}", f"___ year old {noun}"]))
    story = words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
    ask = str(rng.choice(_ASKING)).format(question)
    text = f"{who} with {story}{'' if ask[0] in ',.' else '  '}{ask}"
    return Indication(symptoms=tuple(kept), text=text)
