"""The reader's words for each pathology and state; `reports.py` expands them.

`[a|b]` picks one, `{slot}` is filled from the finding, with a capital where the slot has one: `{a}`, `{is}`, `{s}`, `{ies}`
agree with one or both sides, `{lobe}` is a noun and `{lobar}` its adjective, `{see}` and `{change}` compare with the prior.
"""

# ruff: noqa: E501  (one template a line)

from __future__ import annotations

__all__ = ["NEGATIVE", "NORMAL_FINDINGS", "NORMAL_IMPRESSIONS", "POSITIVE", "SHORT", "UNCERTAIN"]

POSITIVE: dict[str, tuple[str, ...]] = {
    "Enlarged Cardiomediastinum": (
        "The [mediastinum|cardiomediastinal silhouette|superior mediastinum] is [{adverb} widened|{adverb} enlarged|prominent and widened].",
        "[Widening|Enlargement] of the [mediastinal contours|cardiomediastinal silhouette|upper mediastinum] is {change}.",
        "The mediastinal contours are widened[, accentuated by technique|, with a tortuous aorta|].",
    ),
    "Cardiomegaly": (
        "[The heart|Heart size|The cardiac silhouette|Cardiac silhouette] is [{adverb} enlarged|enlarged].",
        "[{Size} cardiomegaly is {change}.|There is {size} cardiomegaly.|Cardiomegaly is {size}.]",
        "[The heart is|Heart size is] [{change} and {adverb} enlarged|{adverb} enlarged, {change}].",
    ),
    "Lung Opacity": (
        "{see} {a}{size} {side} {zone} [opacit{ies}|hazy opacit{ies}|patchy opacit{ies}].",
        "[Patchy|Hazy|Ill-defined|Heterogeneous|Streaky] opacit{ies} in the {lobe} {is} {change}.",
        "[Increased opacity projects|Opacification projects|A hazy opacity projects] over the {lobe}.",
    ),
    "Lung Lesion": (
        "{see_one} a [nodule|nodular lesion|rounded lesion] in the {lobe}[, {change}|].",
        "[A|A {size}|A well-defined] [pulmonary nodule|mass|nodule|rounded lesion] projects over the {lobe}.",
        "[{Lobar} nodule is {change}.|A {lobar} mass is {change}.|Known {lobar} nodule is {change}.]",
    ),
    "Edema": (
        "[There is|Findings are consistent with|Appearances indicate] {size} [pulmonary edema|interstitial pulmonary edema|pulmonary vascular congestion and edema].",
        "[{Size} pulmonary edema is {change}.|Pulmonary edema, {size}, is {change}.|{Size} interstitial edema is {change}.]",
        "[Perihilar haze and indistinct vessels indicate|Engorged vessels and septal lines reflect] {size} pulmonary edema.",
    ),
    "Consolidation": (
        "{see} {a}{size} {side} {zone} consolidation{s}.",
        "[Dense|Confluent|Focal|Ill-defined] consolidation in the {lobe} is {change}.",
        "[The {lobe} {is} consolidated.|Consolidation of the {lobe} with air bronchograms is {change}.|Airspace consolidation occupies the {lobe}.]",
    ),
    "Pneumonia": (
        "[Findings are consistent with|Appearances are compatible with|Findings indicate] {lobar} pneumonia.",
        "[{Lobar} pneumonia is {change}.|There is {lobar} pneumonia.|{Size} {lobar} pneumonia is {change}.]",
        "[Multifocal patches|Patchy airspace disease] in the {lobe} [represents|is consistent with] pneumonia.",
    ),
    "Atelectasis": (
        "{see_one} {size} {side} [basilar|bibasilar|linear|subsegmental] atelectasis.",
        "[Linear|Plate-like|Streaky|Subsegmental] atelectasis at the {side} {base} is {change}.",
        "[Volume loss and|Elevated hemidiaphragm with] {side} basilar atelectasis [is noted|is {change}|persists].",
    ),
    "Pneumothorax": (
        "{see_one} a {size} {side} [apical|] pneumothorax.",
        "[{Size} {side} pneumothorax is {change}.|A {side} pneumothorax, {size}, is {change}.|A {size} {side} apical pneumothorax is {change}.]",
        "[A visceral pleural line|A thin pleural line|Lucency beyond a pleural line] [indicates|denotes] a {size} {side} pneumothorax.",
    ),
    "Pleural Effusion": (
        "{see} {a}{size} {side} pleural effusion{s}.",
        "[{Size} {side} pleural effusion{s} {is} {change}.|{Side} pleural effusion{s} {is} {size} and {change}.]",
        "[Blunting of the {side} costophrenic angle{s}|Obscuration of the {side} hemidiaphragm{s}] [reflects|indicates|represents] {a}{size} pleural effusion{s}.",
    ),
    "Pleural Other": (
        "{see_one} {size} {side} [apical|lateral|] pleural [thickening|scarring].",
        "[{Side} pleural thickening is {change}.|{Side} apical pleural scarring is {change}.|{Size} {side} pleural thickening.]",
        "[{Side} pleural plaques|{Side} pleural calcifications] are [noted|{change}|seen].",
    ),
    "Fracture": (
        "{see_one} a [displaced|nondisplaced|] fracture of a {side} {bone}.",
        "[{Side} {bone} fracture is {change}.|{Side} {bone} fractures are {change}.|A {side} {bone} fracture is seen.]",
        "[Old|Healing|Healed|Acute] {side} {bone} fractures [are noted|are seen|are {change}].",
    ),
    "Support Devices": (
        "[{Device} is in place.|{Device} is in standard position.|{Device} is {change}.|{Device} is seen.]",
        "[{Device} terminates appropriately.|{Device} remains in place.|The patient has {device}.]",
        "[Note is made of {device}.|There is {device} in unchanged position.]",
    ),
}

NEGATIVE: dict[str, tuple[str, ...]] = {
    "Enlarged Cardiomediastinum": (
        "[The mediastinal|Mediastinal|Cardiomediastinal|The cardiomediastinal] [contours are|silhouette is] [normal|unremarkable|within normal limits|stable and not widened].",
    ),
    "Cardiomegaly": (
        "[Heart size is|The heart is|Cardiac size is|The cardiac silhouette is] [normal|within normal limits|not enlarged|normal in size].",
    ),
    "Lung Opacity": (
        "[There is no|No] [focal|new|suspicious|discrete] [opacity|airspace opacity|pulmonary opacity].",
        "The lungs are [free of opacity|without focal opacity].",
    ),
    "Lung Lesion": (
        "[There is no|No] [suspicious|discrete|focal|] [pulmonary nodule|mass|nodule or mass] [is seen|is identified|].",
    ),
    "Edema": (
        "[There is no|No|No evidence of|There is no evidence of] [pulmonary edema|overt pulmonary edema|interstitial edema|frank edema].",
    ),
    "Consolidation": (
        "[There is no|No|No evidence of|The lungs are clear without] [focal consolidation|consolidation|lobar consolidation].",
    ),
    "Pneumonia": (
        "[There is no|No|No evidence of|No radiographic evidence of] [pneumonia|acute pneumonia|focal pneumonia].",
    ),
    "Atelectasis": (
        "[There is no|No|No evidence of|No significant] [atelectasis|focal atelectasis|volume loss or atelectasis].",
    ),
    "Pneumothorax": (
        "[There is no|No|No evidence of|No discernible] [pneumothorax|apical pneumothorax|visible pneumothorax].",
    ),
    "Pleural Effusion": (
        "[There is no|No|No evidence of|No appreciable] [pleural effusion|large pleural effusion|effusion].",
    ),
    "Pleural Other": (
        "[There is no|No|No evidence of|No significant] [pleural thickening|pleural scarring|pleural plaque].",
    ),
    "Fracture": (
        "[There is no|No|No evidence of|No acute] [displaced fracture|rib fracture|fracture] [is seen|is identified|].",
    ),
    "Support Devices": (
        "[The previously seen|Previously seen|The prior] [central line|endotracheal tube|support tubes and lines|catheter] [has|have] been removed.",
    ),
}

_MAY = "[may represent|could represent|possibly reflects|is concerning for|could reflect]"

UNCERTAIN: dict[str, tuple[str, ...]] = {
    "Enlarged Cardiomediastinum": (
        "[Apparent|Possible|Mild apparent|Questionable] [widening of the mediastinum|mediastinal enlargement] may be [projectional|due to technique].",
    ),
    "Cardiomegaly": (
        "[Heart size is|The heart is|The cardiac silhouette is] [borderline enlarged|possibly enlarged|probably top-normal to mildly enlarged|likely exaggerated but may be enlarged].",
    ),
    "Lung Opacity": (
        "[Possible|Questionable|Equivocal|A possible] [faint|subtle] opacity in the {lobe}[ may be due to overlap|].",
    ),
    "Lung Lesion": (
        "[A possible|A questionable|An equivocal] [nodule|nodular density] in the {lobe} [may be a nipple shadow|could be a vessel on end|cannot be excluded].",
    ),
    "Edema": (
        "[Mild edema is possible.|Possible mild pulmonary edema.|Mild interstitial edema cannot be excluded.|Prominent vessels may reflect early edema.]",
        "[Vascular indistinctness|Interstitial prominence] " + _MAY + " mild edema.",
    ),
    "Consolidation": (
        "[Possible|Questionable|Subtle possible] consolidation in the {lobe}.",
        "[Increased density|Vague density] in the {lobe} " + _MAY + " consolidation.",
    ),
    "Pneumonia": (
        "[Superimposed pneumonia|Early pneumonia|Developing infection|Pneumonia] [cannot be excluded|is possible|is not excluded].",
        "[Finding|This|Patchy density] in the {lobe} " + _MAY + " pneumonia.",
    ),
    "Atelectasis": (
        "[Minimal density|Streaky density|Density] at the {side} {base} [likely represents|probably reflects|may represent] atelectasis.",
        "[Possible|Probable] {side} basilar atelectasis.",
    ),
    "Pneumothorax": (
        "[A tiny|A small|A minimal] {side} [apical|] pneumothorax [is possible|cannot be excluded|is not excluded].",
    ),
    "Pleural Effusion": (
        "[A trace|A small|A tiny] {one_side} pleural effusion [is possible|cannot be excluded|may be present].",
        "[Possible|Probable] small {side} pleural effusion{s}.",
    ),
    "Pleural Other": (
        "[Possible|Probable|Questionable] {side} [pleural thickening|pleural scarring|apical pleural thickening].",
    ),
    "Fracture": (
        "[Possible|Questionable|Equivocal|Suspected] [nondisplaced|subtle] {side} {bone} fracture[, correlate clinically|].",
    ),
    "Support Devices": (
        "[A catheter|A line|A tube] [may be|is possibly] [external to the patient|in place|overlying the patient].",
    ),
}

SHORT: dict[str, str] = {
    "Enlarged Cardiomediastinum": "[Widened mediastinum|Enlarged cardiomediastinal silhouette|Mediastinal widening]",
    "Cardiomegaly": "[{Size} cardiomegaly|Cardiomegaly|Enlarged heart]",
    "Lung Opacity": "[{Lobar} opacity|Opacity in the {lobe}|Patchy {lobar} opacity]",
    "Lung Lesion": "[{Lobar} nodule|Nodular lesion in the {lobe}|{Lobar} pulmonary nodule]",
    "Edema": "[{Size} pulmonary edema|Pulmonary edema|{Size} interstitial edema]",
    "Consolidation": "[{Lobar} consolidation|Consolidation in the {lobe}|{Size} {lobar} consolidation]",
    "Pneumonia": "[{Lobar} pneumonia|Pneumonia in the {lobe}|Findings of {lobar} pneumonia]",
    "Atelectasis": "[{Side} basilar atelectasis|{Size} {side} atelectasis|Atelectasis at the {side} {base}]",
    "Pneumothorax": "[{Size} {side} pneumothorax|{Side} pneumothorax|{Side} apical pneumothorax]",
    "Pleural Effusion": "[{Size} {side} pleural effusion{s}|{Side} pleural effusion{s}]",
    "Pleural Other": "[{Side} pleural thickening|{Size} {side} pleural scarring]",
    "Fracture": "[{Side} {bone} fracture|Fracture of a {side} {bone}]",
    "Support Devices": "[{Device} in place|Support devices as described|{Device} in standard position]",
}

NORMAL_FINDINGS: tuple[str, ...] = (
    "[The lungs are clear|Lungs are clear|The lungs are well expanded and clear|The lungs are clear of focal consolidation]. There is no [pleural effusion or pneumothorax|effusion or pneumothorax]. The cardiomediastinal silhouette is [normal|within normal limits]. [No acute osseous abnormality is identified.|]",
    "There is no focal consolidation, pleural effusion or pneumothorax. [Bilateral nodular opacities that most likely represent nipple shadows.|] The cardiomediastinal silhouette is normal. [Imaged osseous structures are intact.|] [No free air below the right hemidiaphragm is seen.|]",
    "[PA and lateral views of the chest were provided.|] The heart is normal in size. The mediastinal and hilar contours appear within normal limits. There is no pleural effusion or pneumothorax. The lungs appear clear.",
    "Cardiac, mediastinal and hilar contours are normal. [Pulmonary vasculature is normal.|The pulmonary vasculature is normal.] Lungs are clear. No pleural effusion or pneumothorax is [present|seen]. There are no acute osseous abnormalities.",
)

NORMAL_IMPRESSIONS: tuple[str, ...] = (
    "No acute cardiopulmonary [process|abnormality|disease].",
    "No acute intrathoracic process.",
    "[Normal chest radiograph.|No evidence of acute cardiopulmonary disease.|No acute findings in the chest.]",
    "No [radiographic evidence of|evidence of] pneumonia.",
)
