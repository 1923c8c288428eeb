"""Why the film was asked for: symptoms weakly linked to the truth, and questions that depend on the symptoms alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.synthetic.keys import Stream, generator
from pipeline.synthetic.studies import Study

__all__ = ["SYMPTOMS", "Indication", "Symptom", "draw_indication"]


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


_INFECTION = ("pneumonia", "infiltrate", "infection", "PNA", "consolidation")
_FLUID = ("edema", "CHF", "effusion", "volume overload", "pulmonary edema")
_GENERAL = ("acute process", "acute cardiopulmonary process", "interval change", "cardiopulmonary abnormality")
_INJURY = ("fracture", "pneumothorax", "traumatic injury", "rib fracture", "PTX")
_LINES = ("line placement", "tube position", "ETT placement", "interval change", "PTX")
_TUMOR = ("mass", "malignancy", "nodule", "metastases", "interval change")

SYMPTOMS: dict[str, Symptom] = {
    "cough": Symptom(
        words=("cough", "productive cough", "dry cough", "cough x ___ days"),
        base=-1.5,
        causes={"Pneumonia": 0.8, "Consolidation": 0.5, "Lung Lesion": 0.5, "Atelectasis": 0.2},
        questions=_INFECTION,
    ),
    "fever": Symptom(
        words=("fever", "fevers", "fever and leukocytosis", "febrile neutropenia"),
        base=-2.0,
        causes={"Pneumonia": 1.0, "Consolidation": 0.9},
        questions=_INFECTION,
    ),
    "dyspnea": Symptom(
        words=("shortness of breath", "dyspnea", "SOB", "dyspnea on exertion"),
        base=-1.4,
        causes={"Pleural Effusion": 0.6, "Edema": 0.5, "Cardiomegaly": 0.4, "Pneumothorax": 0.3},
        questions=(*_FLUID, "acute process", "pneumonia"),
    ),
    "chest pain": Symptom(
        words=("chest pain", "CP", "pleuritic chest pain", "chest pressure"),
        base=-1.3,
        causes={"Pneumothorax": 0.7, "Fracture": 0.4, "Enlarged Cardiomediastinum": 0.5},
        questions=(*_GENERAL, "pneumothorax", "widened mediastinum"),
    ),
    "hypoxia": Symptom(
        words=("hypoxia", "new oxygen requirement", "desaturation", "respiratory failure"),
        base=-2.7,
        causes={"Edema": 0.6, "Atelectasis": 0.6, "Support Devices": 0.5, "Pleural Effusion": 0.3},
        questions=(*_FLUID, "pneumonia", "acute process"),
    ),
    "heart failure": Symptom(
        words=("CHF", "history of heart failure", "leg swelling", "known cardiomyopathy"),
        base=-2.9,
        causes={"Cardiomegaly": 1.1, "Edema": 0.6, "Pleural Effusion": 0.5},
        questions=_FLUID,
    ),
    "trauma": Symptom(
        words=("s/p fall", "fall", "s/p MVC", "trauma"),
        base=-2.8,
        causes={"Fracture": 1.2, "Pneumothorax": 0.8},
        questions=_INJURY,
    ),
    "cancer": Symptom(
        words=("lung cancer", "weight loss", "hemoptysis", "history of malignancy", "smoker"),
        base=-2.8,
        causes={"Lung Lesion": 1.2, "Pleural Other": 0.8, "Enlarged Cardiomediastinum": 0.6},
        questions=_TUMOR,
    ),
    "postoperative": Symptom(
        words=("s/p surgery", "s/p CABG", "postoperative day ___", "s/p thoracotomy"),
        base=-2.7,
        causes={"Atelectasis": 0.8, "Support Devices": 0.6, "Pneumothorax": 0.6},
        questions=("interval change", "effusion", "PTX", "atelectasis"),
    ),
    "line": Symptom(
        words=("intubated", "s/p line placement", "new line", "ICU patient"),
        base=-3.2,
        causes={"Support Devices": 1.5},
        questions=_LINES,
    ),
    "asbestos": Symptom(
        words=("asbestos exposure", "prior empyema", "prior tuberculosis", "positive PPD"),
        base=-3.6,
        causes={"Pleural Other": 1.5, "Lung Lesion": 0.4},
        questions=("interval change", "active disease", "pleural disease"),
    ),
    "altered": Symptom(
        words=("altered mental status", "weakness", "syncope", "dizziness"),
        base=-1.9,
        causes={},
        questions=("pneumonia", *_GENERAL),
    ),
}
_UNSPECIFIC = ("preoperative evaluation", "abdominal pain", "nausea and vomiting", "palpitations", "back pain")

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
    kept = [present[i] for i in sorted(rng.permutation(len(present))[:3])]
    words = [str(rng.choice(SYMPTOMS[name].words)) for name in kept] or [str(rng.choice(_UNSPECIFIC))]
    asked = SYMPTOMS[kept[int(rng.integers(len(kept)))]].questions if kept else _GENERAL
    question = str(rng.choice(asked))
    noun = "woman" if patient.sex == "F" else "man"
    who = str(rng.choice([f"___ year old {noun}", f"___-year-old {noun}", f"___{patient.sex}", f"___ year old {noun}"]))
    story = words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
    ask = str(rng.choice(_ASKING)).format(question)
    text = f"{who} with {story}{'' if ask[0] in ',.' else '  '}{ask}"
    return Indication(symptoms=tuple(kept), text=text)
