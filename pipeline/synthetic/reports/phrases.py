"""The reader's words for each pathology and state; `reports.py` expands them.

`[a|b]` picks one, `{slot}` is filled from the finding, with a capital where the slot has one: `{a}`, `{is}`, `{s}`, `{ies}`
agree with one or both sides, `{lobe}` is a noun and `{lobar}` its adjective, `{see}` and `{change}` compare with the prior.
"""

# ruff: noqa: E501  (one template a line)

from __future__ import annotations

__all__ = [
    "NEGATIVE", "NORMAL_FINDINGS", "NORMAL_IMPRESSIONS", "OTHER_NORMAL_IMPRESSION", "POSITIVE", "SHORT", "UNCERTAIN",
]  # fmt: skip

POSITIVE: dict[str, tuple[str, ...]] = {
    "Enlarged Cardiomediastinum": (
        "[The mediastinum|The cardiomediastinal silhouette|The superior mediastinum|The upper mediastinum] is [{adverb} widened|{adverb} enlarged|widened and {change}|prominent and widened].",
        "[Widening|Enlargement] of the [mediastinal contours|cardiomediastinal silhouette|upper mediastinum|mediastinum] is [{change}|again noted|demonstrated].",
        "The mediastinal contours are [widened|enlarged|abnormally wide][, accentuated by technique|, with a tortuous aorta||, similar to the prior film].",
        "{see_one} [mediastinal widening|widening of the mediastinum|an enlarged cardiomediastinal silhouette].",
    ),
    "Cardiomegaly": (
        "[The heart|Heart size|The cardiac silhouette|Cardiac silhouette] is [{adverb} enlarged|enlarged|{change} and {adverb} enlarged|{adverb} enlarged, {change}].",
        "[{Size} cardiomegaly is {change}.|There is {size} cardiomegaly.|Cardiomegaly is {size}.|Cardiomegaly, {size}, is {change}.|{Size} cardiomegaly persists.|Cardiomegaly is again seen, {size}.]",
        "[Enlargement of the|{Adverb} increased size of the] [heart|cardiac silhouette|cardiac shadow] is [{change}|noted|redemonstrated].",
        "[Cardiac enlargement|Enlarged heart|Enlarged cardiac silhouette] is [{change}|noted|seen].",
    ),
    "Lung Opacity": (
        "{see} {a}{size} {side} {zone} [opacit{ies}|hazy opacit{ies}|patchy opacit{ies}|ill-defined opacit{ies}].",
        "[Patchy|Hazy|Ill-defined|Heterogeneous|Streaky|Ground-glass|Vague] opacit{ies} in the {lobe} {is} [{change}|noted|again seen].",
        "[Increased opacity projects|Opacification projects|A hazy opacity projects|Subtle opacification projects|Airspace opacity projects] over the {lobe}[, {change}|].",
        "[Increased|Asymmetric|Focal] [opacification|opacity] of the {lobe} [is noted|is {change}|is demonstrated].",
    ),
    "Lung Lesion": (
        "{see_one} a [nodule|nodular lesion|rounded lesion|spiculated nodule|well-circumscribed nodule] in the {lobe}[, {change}|].",
        "[A|A {size}|A well-defined|A solitary|A dense] [pulmonary nodule|mass|nodule|rounded lesion] projects over the {lobe}[, {change}|].",
        "[{Lobar} nodule is {change}.|A {lobar} mass is {change}.|Known {lobar} nodule is {change}.|{Lobar} pulmonary mass is {change}.|The {lobar} lesion is {change}.]",
        "[Nodular lesion|Pulmonary nodule|Round mass|Discrete nodule] in the {lobe} is [{change}|concerning|demonstrated].",
    ),
    "Edema": (
        "[There is|Findings are consistent with|Appearances indicate|Findings reflect|The appearance is that of] {size} [pulmonary edema|interstitial pulmonary edema|pulmonary vascular congestion and edema|interstitial edema].",
        "[{Size} pulmonary edema is {change}.|Pulmonary edema, {size}, is {change}.|{Size} interstitial edema is {change}.|{Size} alveolar edema is {change}.|Pulmonary edema is {size} and {change}.]",
        "[Perihilar haze and indistinct vessels indicate|Engorged vessels and septal lines reflect|Cephalization and perihilar haze indicate|Kerley lines and hilar haze reflect] {size} [pulmonary edema|edema|interstitial edema].",
        "[Fluid overload|Volume overload] with {size} [pulmonary edema|interstitial edema] is [{change}|noted|seen].",
        "[Vascular engorgement with Kerley lines is {change}.|Pulmonary vascular congestion is {change}.|Vascular congestion is {size}.]",
    ),
    "Consolidation": (
        "{see} {a}{size} {side} {zone} [consolidation{s}|airspace consolidation{s}|confluent consolidation{s}].",
        "[Dense|Confluent|Focal|Ill-defined|Extensive|Lobar] consolidation in the {lobe} is [{change}|noted|demonstrated|again seen].",
        "[The {lobe} {is} consolidated.|Consolidation of the {lobe} with air bronchograms is {change}.|Airspace consolidation occupies the {lobe}.|Consolidation with air bronchograms fills the {lobe}.|There is consolidation throughout the {lobe}.]",
        "[Consolidation|Airspace consolidation|A consolidation|Dense consolidation] [involves|occupies|is seen in|projects over] the {lobe}[, {change}|].",
    ),
    "Pneumonia": (
        "[Findings are consistent with|Appearances are compatible with|Findings indicate|The appearance is typical of|Findings represent] {lobar} [pneumonia|lobar pneumonia|bronchopneumonia].",
        "[{Lobar} pneumonia is {change}.|There is {lobar} pneumonia.|{Size} {lobar} pneumonia is {change}.|Known {lobar} pneumonia is {change}.|{Lobar} pneumonia persists.]",
        "[Multifocal patches|Patchy densities|Confluent patches|Ill-defined patches|Clustered patches] in the {lobe} [represent|are consistent with|indicate|reflect] [pneumonia|an infectious process|multifocal pneumonia].",
        "[Pneumonia|Infectious infiltrate|Acute pneumonia] in the {lobe} is [{change}|noted|demonstrated|redemonstrated].",
    ),
    "Atelectasis": (
        "{see_one} {size} {side} [basilar|bibasilar|linear|subsegmental|dependent] atelectasis.",
        "[Linear|Plate-like|Streaky|Subsegmental|Discoid|Compressive] atelectasis at the {side} {base} is [{change}|noted|again seen|demonstrated].",
        "[Volume loss and|Elevated hemidiaphragm with|Low volumes with|Crowding and] {side} basilar atelectasis [is noted|is {change}|persists|is seen].",
        "[{Side} basilar atelectasis is {change}.|{Size} {side} atelectasis is {change}.|Atelectasis at the {side} {base} persists.|Atelectatic changes at the {side} {base} are {change}.]",
    ),
    "Pneumothorax": (
        "{see_one} a {size} {side} [apical|apicolateral||lateral] pneumothorax.",
        "[{Size} {side} pneumothorax is {change}.|A {side} pneumothorax, {size}, is {change}.|A {size} {side} apical pneumothorax is {change}.|{Side} apical pneumothorax is {change}.|{Side} pneumothorax persists, {size}.]",
        "[A visceral pleural line|A thin pleural line|Lucency beyond a pleural line|A sharp pleural edge|Absent lung markings at the apex] [indicates|denotes|reflects|represents] a {size} {side} pneumothorax.",
        "[A {size}|The {size}|A residual {size}|A known {size}] {side} [pneumothorax|apical pneumothorax] is [{change}|noted|again demonstrated].",
    ),
    "Pleural Effusion": (
        "{see} {a}{size} {side} [pleural effusion{s}|effusion{s}|layering pleural effusion{s}].",
        "[{Size} {side} pleural effusion{s} {is} {change}.|{Side} pleural effusion{s} {is} {size} and {change}.|{Size} {side} effusion{s} persist.|{Size} {side} pleural fluid collection{s} {is} {change}.|{Side} pleural effusion{s}, {size}, {is} {change}.]",
        "[Blunting of the {side} costophrenic angle{s}|Obscuration of the {side} hemidiaphragm{s}|Layering density at the {side} {base}|A meniscus at the {side} {base}|Opacification of the {side} {base}] [reflects|indicates|represents|is compatible with] {a}{size} [pleural effusion{s}|effusion{s}].",
        "[Blunting of the {side} costophrenic angle{s} is {change}.|Blunting of the {side} costophrenic angle{s} is {size}.]",
    ),
    "Pleural Other": (
        "{see_one} {size} {side} [apical|lateral||basal] pleural [thickening|scarring|fibrosis].",
        "[{Side} pleural thickening is {change}.|{Side} apical pleural scarring is {change}.|{Size} {side} pleural thickening.|{Side} pleural scarring persists.|{Side} pleural parenchymal scarring is {change}.]",
        "[{Side} pleural plaques|{Side} pleural calcifications|Calcified {side} pleural plaques|Scattered {side} pleural plaques] are [noted|{change}|seen|redemonstrated].",
        "[Thickening|Scarring|Irregular thickening|Chronic thickening|Smooth thickening] of the {side} pleura is [{change}|noted|again seen].",
    ),
    "Fracture": (
        "{see_one} a [displaced|nondisplaced||minimally displaced|healing] fracture of a {side} {bone}.",
        "[{Side} {bone} fracture is {change}.|{Side} {bone} fractures are {change}.|A {side} {bone} fracture is seen.|Fracture of the {side} {bone} is {change}.]",
        "[Old|Healing|Healed|Acute|Subacute|Chronic|Multiple] {side} {bone} fractures [are noted|are seen|are {change}|are redemonstrated].",
        "[Deformity of a {side} {bone} reflects a fracture.|Cortical step-off of a {side} {bone} indicates a fracture.|Callus marks a healing {side} {bone} fracture.]",
    ),
    "Support Devices": (
        "[{Device} is in place.|{Device} is in standard position.|{Device} is {change}.|{Device} is seen.|{Device} projects in expected position.|{Device} is appropriately positioned.]",
        "[{Device} terminates appropriately.|{Device} remains in place.|The patient has {device}.|{Device} has been placed.|{Device} ends in standard position.]",
        "[Note is made of|There is|The patient is status post placement of|Again seen is|Interval placement of|Redemonstrated is] {device}[ in unchanged position| in satisfactory position||, tip in good position].",
        "[Position of|Course of|Tip of] {device} is [{change}|satisfactory|appropriate|as expected].",
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
    "Lung Lesion": ("[There is no|No] [suspicious|discrete|focal|] [pulmonary nodule|mass|nodule or mass].",),
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
        "[There is no|No|No evidence of|No acute] [displaced fracture|rib fracture|fracture|displaced rib fracture].",
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
        "[Possible|Probable|Questionable|Equivocal] {side} [pleural thickening|pleural scarring|apical pleural thickening].",
    ),
    "Fracture": (
        "[Possible|Questionable|Equivocal|Suspected] [nondisplaced|subtle] {side} {bone} fracture[, correlate clinically|].",
    ),
    "Support Devices": (
        "[A catheter|A line|A tube] [may be|is possibly] [external to the patient|in place|overlying the patient].",
    ),
}

SHORT: dict[str, tuple[str, ...]] = {
    "Enlarged Cardiomediastinum": (
        "[Widened mediastinum|Enlarged cardiomediastinal silhouette|Mediastinal widening|Widened mediastinal contours|Enlarged mediastinum|Wide upper mediastinum|Enlargement of the mediastinal silhouette|Mediastinal enlargement]{trend}.",
    ),
    "Cardiomegaly": (
        "[{Size} cardiomegaly|Cardiomegaly|Enlarged heart|{Adverb} enlarged heart|Cardiac enlargement|{Size} cardiac enlargement|Enlarged cardiac silhouette|{Adverb} enlarged cardiac silhouette]{trend}.",
    ),
    "Lung Opacity": (
        "[{Lobar} opacity|Opacity in the {lobe}|Patchy {lobar} opacity|Hazy {lobar} opacity|{Lobar} airspace opacity|{Zone} opacification, {side}|Ill-defined {lobar} opacity|New focus of opacity in the {lobe}]{trend}.",
    ),
    "Lung Lesion": (
        "[{Lobar} nodule|Nodular lesion in the {lobe}|{Lobar} pulmonary nodule|{Lobar} mass|Nodule in the {lobe}|Rounded {lobar} lesion|Mass in the {lobe}|Discrete {lobar} nodule]{trend}.",
    ),
    "Edema": (
        "[{Size} pulmonary edema|Pulmonary edema|{Size} interstitial edema|{Size} edema|Fluid overload with {size} edema|Interstitial edema|Vascular congestion with {size} edema|{Size} vascular congestion]{trend}.",
    ),
    "Consolidation": (
        "[{Lobar} consolidation|Consolidation in the {lobe}|{Size} {lobar} consolidation|Airspace consolidation in the {lobe}|Focal {lobar} consolidation|Dense consolidation, {lobar}|{Lobar} airspace consolidation|Confluent {lobar} consolidation]{trend}.",
    ),
    "Pneumonia": (
        "[{Lobar} pneumonia|Pneumonia in the {lobe}|Findings of {lobar} pneumonia|Acute {lobar} pneumonia|{Lobar} bronchopneumonia|{Size} {lobar} pneumonia|Infectious process in the {lobe}|Pneumonia, {lobar}]{trend}.",
    ),
    "Atelectasis": (
        "[{Side} basilar atelectasis|{Size} {side} atelectasis|Atelectasis at the {side} {base}|{Side} subsegmental atelectasis|{Size} {side} basilar atelectasis|Linear atelectasis at the {side} {base}|{Side} atelectatic changes|Plate-like atelectasis at the {side} {base}]{trend}.",
    ),
    "Pneumothorax": (
        "[{Size} {side} pneumothorax|{Side} pneumothorax|{Side} apical pneumothorax|{Size} {side} apical pneumothorax|Pneumothorax on the {side}, {size}|{Size} pneumothorax, {side}|{Side} apicolateral pneumothorax|Known {side} pneumothorax]{trend}.",
    ),
    "Pleural Effusion": (
        "[{Size} {side} pleural effusion{s}|{Side} pleural effusion{s}|{Size} {side} effusion{s}|{Side} pleural fluid|{Size} {side} layering effusion{s}|Pleural effusion{s}, {side}, {size}|{Side} effusion{s}|{Size} pleural effusion{s}, {side}]{trend}.",
    ),
    "Pleural Other": (
        "[{Side} pleural thickening|{Size} {side} pleural scarring|{Side} pleural scarring|{Side} pleural plaques|{Side} apical pleural scarring|Thickening of the {side} pleura|{Side} pleural fibrosis|Chronic {side} pleural thickening]{trend}.",
    ),
    "Fracture": (
        "[{Side} {bone} fracture|Fracture of a {side} {bone}|{Side} {bone} fractures|Healing {side} {bone} fracture|Fractures of {side} {bone}s|Displaced {side} {bone} fracture|Old {side} {bone} fracture|Nondisplaced {side} {bone} fracture]{trend}.",
    ),
    "Support Devices": (
        "[{Device} in place|Support devices as described|{Device} in standard position|Lines and tubes as described|{Device}, satisfactory position|{Device} as described|Satisfactory position of {device}|{Device} remains in place]{trend}.",
    ),
}
"""The impression's noun phrases."""

NORMAL_IMPRESSIONS: tuple[tuple[str, float], ...] = (
    ("No acute cardiopulmonary process.", 0.34),
    ("No acute cardiopulmonary abnormality.", 0.12),
    ("No acute intrathoracic process.", 0.10),
    ("Normal chest radiograph.", 0.06),
    ("No evidence of acute cardiopulmonary disease.", 0.05),
    ("No acute cardiopulmonary disease.", 0.05),
    ("No radiographic evidence of pneumonia.", 0.04),
    ("No evidence of pneumonia.", 0.04),
    ("No acute findings in the chest.", 0.03),
    ("Normal chest.", 0.02),
)
"""Ten impressions that most normal reports share, in all splits, with the share of normal reports of each."""

OTHER_NORMAL_IMPRESSION = "[No acute|No significant|No active|No new|No concerning] [chest|thoracic|pulmonary|cardiopulmonary] [abnormality|disease|finding|findings|process] [identified|is seen|on this study|on today's film|demonstrated|compared with the prior film]."

NORMAL_FINDINGS: tuple[str, ...] = (
    "[The lungs are clear|Lungs are clear|The lungs are well expanded and clear|The lungs are clear of focal consolidation]. There is no [pleural effusion or pneumothorax|effusion or pneumothorax]. The cardiomediastinal silhouette is [normal|within normal limits]. [No acute osseous abnormality is identified.|]",
    "There is no focal consolidation, pleural effusion or pneumothorax. [Bilateral nodular opacities that most likely represent nipple shadows.|] The cardiomediastinal silhouette is normal. [Imaged osseous structures are intact.|] [No free air below the right hemidiaphragm is seen.|]",
    "[PA and lateral views of the chest were provided.|] The heart is normal in size. The mediastinal and hilar contours appear within normal limits. There is no pleural effusion or pneumothorax. The lungs appear clear.",
    "Cardiac, mediastinal and hilar contours are normal. [Pulmonary vasculature is normal.|The pulmonary vasculature is normal.] Lungs are clear. No pleural effusion or pneumothorax is [present|seen]. There are no acute osseous abnormalities.",
)
