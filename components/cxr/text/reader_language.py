"""Where an indication turns into a reading of the film.

Radiologists dictate findings into the paragraph that began with the indication. No rule tells the two apart for sure,
so the text ends before the first sentence that sounds like a reading: losing some of an indication costs little, a
finding in it costs the experiment.
"""

from __future__ import annotations

import re

__all__ = ["reading_starts"]

_ORGAN = r"""(?:
    lungs?(?:\s+(?:fields?|volumes?|zones?|apices|bases?|parenchyma))?
    | heart(?!\s+(?:failure|disease|murmurs?|attack|transplant|rate|block|valve|surgery|cath\w*|problems?))
    | cardiac\s+(?:silhouette|contours?|size|shadow)
    | cardio-?mediastinal\s+(?:silhouette|contours?|structures) | cardiomediastinum
    | mediastin(?:um|al\s+(?:contours?|silhouette|structures|and\s+hilar\s+contours))
    | hil(?:a|um|ar\s+(?:contours?|structures)) | pleural\s+(?:spaces?|surfaces?) | pleura
    | (?:pulmonary\s+)?vascul(?:ature|arity) | pulmonary\s+vessels | (?:the\s+)?(?:osseous|bony)\s+(?:structures|thorax)
    | bones | soft\s+tissues | trachea | aorta | (?:hemi)?diaphragms? | costophrenic\s+(?:angles?|sulc\w+)
)"""
_STATES = r"""(?:(?:is|are|was|were|remains?|appears?|demonstrates?|shows?|has|have)\b | (?:normal|clear|unremarkable
    | enlarged | stable | unchanged | hyper\w+ | within\s+normal\s+limits | grossly\s+clear | well\s+expanded)\b)"""
_ABSENT = r"""(?:focal|pleural|pneumothorax|pneumothoraces|effusions?|consolidations?|infiltrates?|airspace|lobar|edema
    | pulmonary | cardiomegaly | adenopathy | lymphadenopathy | displaced | rib\s+fractures? | fractures? | nodules?
    | pneumonia | acute\s+(?!(?:distress|complaints?|symptoms?|illness|events?|injur\w+)\b)
    | active\s+(?:disease|cardio\w+|pulmonary|tuberculosis\s+is) | free\s+(?:air|intraperitoneal)
    | evidence\s+(?:of|for)\s+(?:acute|active|focal|pneumothorax|effusion|pleural|consolidation|infiltrate|edema
        |pulmonary|failure|chf|congest\w+|pneumonia|free)
    | (?:significant|interval|definite|large|new|suspicious)\s+(?:interval\s+|pulmonary\s+)?(?:change|effusion|focal
        |consolidation|infiltrate|opacit\w+|pneumothorax|airspace|acute|pleural|nodules?|mass\w*|lung)
    )\b"""
_VIEWS = r"""(?:
    (?:single|two|2|three|3|frontal|portable|pa|ap|upright|supine|semi-?upright|lateral|chest|the|a|an|one|and|of|view|views
        |projections?|x-?rays?|radiographs?|films?|images?|examination|study|exam|xxxx|___)\s+){1,10}
    (?:is|are|was|were|shows?|demonstrates?|reveals?|obtained|submitted|presented|performed|reviewed
        |consists?)\b"""
_NOT_CLINICAL = r"""(?!\s*(?:an?\s+|no\s+)?(?:clinical|known|concern|suspicion|question|history|family|fever|cough|pain
    |symptom))"""
_START = re.compile(
    rf"""(?: (?:the\s+|both\s+|bilateral\s+|visuali[sz]ed\s+|left\s+|right\s+)*{_ORGAN}\b[^.;:!?\n]{{0,60}}?[ ]{_STATES}
    | there\s+(?:is|are|has\s+been|have\s+been|appears?|was|were|may\s+be)\b {_NOT_CLINICAL}
    | no\s+{_ABSENT}
    | (?:stable|unchanged|interval|persistent|again|redemonstrat\w+)\s+(?:mild\s+|moderate\s+|severe\s+|seen\s+|noted\s+
        |is\s+|are\s+)*(?:cardiomegaly|appearance|heart|cardio\w+|lungs?|lines?|position|placement|removal|increase|decrease
        |improvement|resolution|development|opacit\w+|effusions?|atelectasis|elevation|seen|noted|the)\b
    | normal\s+(?:heart|cardiac|cardio\w+|mediastin\w+|chest|lungs?|exam|study|pulmonary|radiographic)\b
    | (?:compared|in\s+comparison|as\s+compared|comparison\s+is)\s+(?:to|with|made)\b
    | no\s+(?:visible|evidence\s+of\s+airspace)\b | in\s+the\s+interval\b | redemonstration\s+of\b | clear\s+lungs\b
    | (?:stable|normal)(?:,|\s+and)?\s+(?:stable|normal)\b
    | (?:this|limited|the)\s+(?:exam|examination|study)\s+(?:is|as)\b
    | (?:calcified|degenerative|postsurgical|post-?operative|emphysematous)\s+(?:granuloma|changes|nodules?|hilar|lymph)
    | sequelae\s+of\b | \d\s+(?:views?|images?)\b | apical\s+lordotic\b | enlarged\s+cardio\w+ | sternotomy\s+wires
    | (?:[\w-]+\s+){{0,5}}(?:catheter|tube|line|pacemaker|port|leads?|picc|icd|device)(?:\s+[\w-]+){{0,4}}\s+
        (?:tip|terminates?|remains?|projects?|overlying|overlies|in\s+(?:stable|place)|is\s+(?:seen|noted|in|present))\b
    | cardiomegaly\s+(?:is|has|again)\b | the\s+patient\s+is\s+rotated
    | the\s+(?:cardio(?:mediastinal|pulmonary)|cardiac|opacity|nodules?|effusions?)
    | (?:consolidation|opacity|opacities)\s+(?:is|are|has)\b | a\s+(?:large|small|moderate|patchy|focal|vague)\b
    | (?:[\w-]+\s+){{0,4}}(?:opacit(?:y|ies)|atelectasis)\.
    | negative\s+for\b | low\s+lung\s+volumes
    | (?:mild\w*|moderate\w*|minimal\w*|severe\w*|small|large|trace|tiny|patchy|streaky|scattered|bibasilar|bibasal
        |increased|decreased|worsening|improv\w+|borderline|enlarged|hyper\w+)\s+(?:[\w-]+\s+){{0,4}}
        (?:opacit\w+|atelecta\w+|effusions?|cardiomegaly|edema|congestion|heart|cardiac|lungs?|infiltrates?
        |consolidations?|thickening|markings|densit\w+|nodules?|granuloma\w*|enlargement)\b
    | {_VIEWS}
    )""",
    re.IGNORECASE | re.VERBOSE,
)
"""What a sentence of a reading begins with."""
_ANYWHERE = re.compile(
    rf"""\b(?: lungs\s+(?:are|remain|appear)\b | heart\s+size\s+(?:is|appears?|normal|within|upper)
    | (?:cardio-?mediastinal|cardiac)\s+silhouette\s+{_STATES}
    | there\s+(?:is|are)\b{_NOT_CLINICAL}
    | (?:opacit\w+|nodules?|granulomas?|consolidation|airspace\s+disease|effusions?|scarring|calcifications?
        |atelectasis)\s+(?:[\w-]+\s+){{0,6}}?(?:is|are)\s+(?:again\s+)?(?:noted|seen|present|demonstrated|identified|stable|unchanged)
    | no\s+(?:evidence\s+of\s+)?(?:pneumothorax|pleural\s+effusions?|focal\s+(?:consolidation|airspace|infiltrate
        |opacity) |acute\s+(?:cardio\w+|pulmonary|osseous|bony|intrathoracic)) | within\s+normal\s+limits )""",
    re.IGNORECASE | re.VERBOSE,
)
"""What only a reading holds: where it stands, the whole sentence goes."""
_CAPITALS = re.compile(r"(?:FINDINGS?|IMPRESSIONS?|CONCLUSION)\b")
_SENTENCE = re.compile(r"(?:^|[.!?;:]\s|//|\n)\s*(?:\d{1,2}[.)]\s*|[-*•]\s*)*(?=\S)")


def reading_starts(text: str) -> int:
    """Position of the first sentence that sounds like a reading of the film; the text's length when none does."""
    clue = _ANYWHERE.search(text)
    limit = clue.start() if clue is not None else len(text)
    last = 0
    for sentence in _SENTENCE.finditer(text):
        start = sentence.end()
        if start > limit:
            break
        last = start
        if _START.match(text, start) or _CAPITALS.match(text, start):
            return start
    return last if clue is not None else len(text)
