"""Words by which reports name the 14 pathologies."""

from __future__ import annotations

import re

__all__ = ["TERMS"]

_TABLE: dict[str, str] = {
    "No Finding": r"""
        no acute (?:cardiopulmonary|cardiac|pulmonary|intrathoracic) (?:abnormalit(?:y|ies)|disease|process(?:es)?
        |findings?|changes?|pathology) | lungs (?:are|remain) (?:grossly )?clear
        | (?:normal|negative|unremarkable) (?:chest|radiographs?|examination of the chest)""",
    "Enlarged Cardiomediastinum": r"""
        (?:widened|enlarged|prominent|wide) (?:superior )?(?:cardio)?mediastin(?:um|al (?:contours?|silhouette))
        | mediastinal (?:widening|enlargement|prominence) | mediastinum is (?:widened|enlarged|prominent)""",
    "Cardiomegaly": r"""
        cardiomegaly | cardiac enlargement | enlarged (?:heart|cardiac (?:silhouette|contour|shadow|size))
        | enlargement of the (?:heart|cardiac (?:silhouette|contour|shadow))
        | (?:heart(?: size)?|cardiac (?:silhouette|contour|shadow)) (?:is|are|remains|appears)
        (?:mildly |moderately |severely |slightly |minimally |markedly |borderline )?enlarged""",
    "Lung Opacity": r"""
        opacit(?:y|ies) | opacification | infiltrates? | air-?space disease | interstitial (?:markings?|pattern
        |prominence|disease|changes) | (?:lung|pulmonary|parenchymal|apical|basilar|bibasilar) scar(?:s|ring)?""",
    "Lung Lesion": r"""
        nodul(?:e|es|ar) | mass(?:es)?(?! index) | (?:lung|pulmonary) (?:lesions?|cancer|carcinoma|tumou?rs?
        |metastas[ei]s) | cavitary lesions? | neoplasms?""",
    "Edema": r"""
        (?:pulmonary|interstitial|alveolar|cardiogenic|perihilar|airspace|lung) edema
        | (?:vascular|pulmonary|venous) congestion | (?:congestive )?heart failure | chf | congestive failure""",
    "Consolidation": r"consolidat(?:ion|ions|ive)",
    "Pneumonia": r"(?:broncho)?pneumonias? | pna | infectious process",
    "Atelectasis": r"atelecta(?:sis|tic|ses) | (?:lung|lobar|lobe) collapse | collapsed lung",
    "Pneumothorax": r"(?:hydro|hemo)?pneumothora(?:x|ces) | ptx",
    "Pleural Effusion": r"""
        (?<!pericardial )(?<!joint )(?<!knee )effusions? | pleural fluid | hydropneumothorax | hydrothorax
        | hemothorax""",
    "Pleural Other": r"pleural (?:thickening|plaques?|scar(?:s|ring)?|calcifications?) | fibrothorax",
    "Fracture": r"(?<!hip )(?<!leg )(?<!femur )(?<!ankle )(?<!wrist )(?<!arm )(?:fractures? | fractured | fx)",
    "Support Devices": r"""
        pacemakers? | pacer | picc | catheters? | (?:endotracheal|et|ng|nasogastric|enteric|feeding|chest|thoracostomy
        |tracheostomy) tubes? | port-?a-?cath | mediport | defibrillator | icd(?![ -]*\d) | sternotomy wires
        | sternal wires | (?:central|picc|ij|jugular|subclavian|arterial) (?:venous )?lines?
        | (?:prosthetic|mechanical) (?:aortic |mitral |heart )?valve""",
}


def _compiled(pattern: str) -> re.Pattern[str]:
    words = (
        " ".join(pattern.split())
        .replace("| ", "|")
        .replace(" |", "|")
        .replace(" ", r"\s+")
        .replace(r"[\s+-]", r"[\s-]")
    )
    words = re.sub(r"\(\?<!(\w+)\\s\+\)", r"(?<!\1\\s)", words)  # a look-behind has a fixed width
    return re.compile(rf"(?<![\w-])(?:{words})(?!\w)", re.IGNORECASE)


TERMS: dict[str, re.Pattern[str]] = {name: _compiled(pattern) for name, pattern in _TABLE.items()}
"""By pathology; a match is the term in the report's own spelling."""
