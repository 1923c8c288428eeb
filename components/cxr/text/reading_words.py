"""The words by which a sentence reads a film, and those by which it asks, recalls or presents a patient.

Each list holds phrases separated by commas; within a phrase `*` stands for any ending of a word and a blank for any
run of blanks. reader_language.py says what follows from them.
"""

from __future__ import annotations

import re

from components.cxr.text.phrases import one_of

__all__ = [
    "ADVICE", "ANATOMY", "CHANGES", "CLINICAL_STATEMENTS", "DEGREES", "DEVICES", "DIAGNOSES", "FINDINGS", "HEDGES",
    "HISTORY", "HISTORY_ENDS", "LOCATIONS", "NOT_HISTORY", "PAST", "PATIENT", "POSITIONS", "QUESTIONS", "REPORTED",
    "STATEMENTS", "STATES", "SYMPTOMS", "TRAILING_QUESTIONS", "any_of",
]  # fmt: skip

FINDINGS = """
    opacit*, opacification*, opacified, haziness, hazy, infiltrat*, consolidat*, air-space disease, airspace disease,
    air space disease, air-space process, airspace process, atelecta*, pleural effusion*, effusion, effusions,
    pleural fluid, loculated *, fissural *, minor fissure, major fissure, fluid in the *, pleural thickening,
    thickening, white-out, whiteout, white out, tree-in-bud, fluid collection*, fluid overload, volume overload,
    gynecomastia, foreign bod*, pulmonary vein*, pleural scar*, pleural plaque*, pleural air, pleural abnormalit*,
    layering, pneumothora*, hydropneumothora*, pneumomediastinum, pneumoperitoneum, free air, subcutaneous emphysema,
    cardiomegaly, cardiac enlargement, enlarged heart, mediastinal widening, vascular congestion,
    pulmonary congestion, venous congestion, pulmonary edema, interstitial edema, alveolar edema, perihilar edema,
    pulmonary vascular prominence, cephalization, kerley, nodular*, lung nodule*, pulmonary nodule*, nodule, nodules,
    granuloma*, calcification*, calcified lymph *, lymph node*, lung mass*, pulmonary mass*, cavitary, cavitation,
    ground-glass, ground glass, interstitial marking*, interstitial prominence, interstitial pattern,
    interstitial change*, interstitial disease, bronchovascular marking*, lung marking*, reticul*, honeycomb*,
    bronchiectasis, bronchial thickening, bronchial wall thickening, peribronchial cuffing, peribronchial thickening,
    perihilar thickening, lung scar*, scarring, scar, fibrotic, biapical *, hyperinflat*, hyperexpan*, hyperlucen*,
    hyperaerat*, hypoinflat*, hypoventilat*, underinflat*, emphysematous, flattening of the *, flattened diaphragm*,
    blunting, blunted, volume loss, tortuous, tortuosity, ectasia, ectatic, unfolded, unfolding, atheroscleros*,
    atherosclerotic, scoliosis, dextroscoliosis, levoscoliosis, kyphosis, osteophyte*, degenerative change*,
    degenerative disease, degenerative disc disease, degenerative spondylosis, degenerative joint disease,
    spondylosis, spurring, demineralization, osteopenia, osteopenic, wedging, compression deformit*, deformity,
    deformities, rib fracture*, fracture of the * rib*, fracture of the *, fracture deformit*, compression fracture*,
    hiatal hernia, hiatus hernia, eventration, lucency, lucencies, densit*, adenopathy, lymphadenopathy,
    mediastinal shift, tracheal deviation, silhouette, air bronchogram*, air-fluid level*, air fluid level*, crowding,
    lung volumes, aeration, collapse of the *, lobar collapse, lung collapse, shadow*, gas under *, dilated bowel,
    bowel gas, sternotomy wire*, surgical clip*, median sternotomy, midline sternotomy, postsurgical change*,
    postoperative change*, post-surgical change*, surgical change*, prominent pulmonary *, prominent hil*,
    hilar prominence, hilar fullness, hilar enlargement, fullness of *, retrocardiac *, reticulonodular, miliary,
    pneumonic, bullous, bullae, bulla, pneumatocele*, pneumatosis, hydrothora*, hemothora*, sulcus, sulci, tenting,
    sequela*, granulomatous disease, parenchymal disease, parenchymal change*, air trapping, cuffing, patchy, streaky,
    linear
"""
"""What is seen on films alone: stated as present, it was seen."""

DIAGNOSES = """
    pneumonia*, bronchopneumonia, pna, pneumonitis, chf, heart failure, congestive failure, failure, edema, oedema,
    copd, emphysema, fibrosis, tuberculosis, tb, cancer, carcinoma, neoplasm*, malignan*, metasta*, mass, masses,
    lesion*, tumor*, fracture*, aspiration, infection, infectious process, bronchitis, bronchiolitis, airways disease,
    airway disease, collapse, hernia, pulmonary hypertension, venous hypertension, lung disease, disease, cyst, cysts,
    sarcoidosis, contusion*, dislocation, empyema, pericardial effusion
"""
"""What clinicians name as well: a reading where it is located or graded."""

LOCATIONS = """
    right upper lobe, right middle lobe, right lower lobe, left upper lobe, left lower lobe, rul, rml, rll, lul, lll,
    upper lobe*, lower lobe*, middle lobe*, upper lung, lower lung, mid lung, midlung, lingula*, perihilar, basilar,
    bibasilar, bibasal, basal, retrocardiac, apical, biapical, suprahilar, infrahilar, hilar, multifocal, multilobar,
    lobar, lung base*, right base, left base, both bases, at the base*, lung zone*, right lung, left lung, both lungs,
    hemithorax, costophrenic, right chest, left chest, hemithoraces, interstitial, pulmonary vascular, left perihilar,
    right perihilar, the left * rib*, the right * rib*, left * rib*, right * rib*, nondisplaced, non-displaced,
    displaced, mediastin*, bilateral lungs, subsegmental, segmental, posterior rib*, lateral rib*, vertebral
"""

DEGREES = """
    mild, mildly, moderate, moderately, severe, severely, minimal, minimally, slight, small, large, trace, tiny,
    diffuse, extensive, scattered, focal, multifocal, subtle, vague, faint, widespread, marked, prominent, multiple,
    numerous, bilateral, dense, developing, evolving, early, probable, moderate-sized, borderline, gross, calcified
"""

CHANGES = """
    stable, unchanged, unaltered, interval, persistent, persisting, increased, increasing, decreased, decreasing,
    worsened, worsening, improved, improving, resolved, resolving, new, redemonstrat*, similar, progressed,
    progressive, residual, smaller, larger, less, cleared, clearing, enlarging
"""

ANATOMY = """
    lung, lungs, lung fields, lung bases, lung apices, heart, heart size, cardiac size, cardiac silhouette,
    cardiac contour*, cardiac shadow, cardiac and mediastinal *, cardiomediastinal *, cardio-mediastinal *,
    cardiomediastinum, mediastinum, mediastinal *, hila, hilum, hilar *, pleura, pleural space*, pleural surface*,
    pulmonary vascul*, pulmonary vessel*, vasculature, vascularity, pulmonary arter*, aorta, aortic knob, aortic arch,
    thoracic aorta, trachea, airway, airways, diaphragm*, hemidiaphragm*, costophrenic *, cp angle*, bony structure*,
    osseous structure*, bony thorax, bones, osseous *, skeletal structure*, visualized *, soft tissue*,
    thoracic spine, rib cage, ribs, clavicles, chest x-ray, chest xray, chest radiograph*, chest film*, chest, cxr,
    cardiac, ventricle, atrium, stomach bubble, interstitium, upper abdomen, aortic valve, fissure*, exam,
    examination, study, radiograph*, chest x-xxxx, silhouette, contour*, structures
"""

STATES = """
    normal, clear, unremarkable, enlarged, stable, unchanged, intact, midline, within normal limits, wnl,
    not enlarged, normal in size, upper limits, upper normal, top normal, hyper*, hypo*, under*, well expanded,
    expanded, inflated, well aerated, elevated, elevation, tortuous, calcified, uncoiled, ectatic, unfolded, dilated,
    prominent, widened, blunted, sharp, free of *, negative, preserved, maintained, flattened, deviated, displaced,
    low, reduced, decreased, increased, mildly enlarged, borderline, appropriate, limited, rotated, suboptimal,
    sclerotic, osteopenic, thickened, full, congested, engorged, indistinct, obscured, hazy, grossly, abnormal,
    without, noncontributory, collapsed, degenerat*, uncomplicated, satisfactory, underexpand*, shifted
"""

DEVICES = """
    tube, tubes, catheter*, line, lines, picc, pacemaker*, pacer, aicd, icd, defibrillator*, lead, leads, port,
    port-a-cath, mediport, portacath, wire, wires, clip, clips, stent*, prosthe*, valve, ett, ngt, cvl, cvc, dobhoff,
    drain, hardware, sternotomy, device, generator, electrode*, swan-ganz, balloon pump, iabp, stimulator, ivc filter,
    sutures
"""

POSITIONS = """
    tip, tips, terminat*, project*, overl*, carina, above the *, in place, in situ, svc, cavoatrial, atrium, atrial,
    ventric*, in position, in good *, in stable *, in satisfactory *, in standard *, in appropriate *, in expected *,
    unchanged, intact, remain*, present, noted, seen, identified, stable, in the region *, courses, coursing,
    in unchanged *, is in *, are in *, redemonstrat*, as expected, mid trachea, brachiocephalic, below the *,
    has been *, removed, in adequate *, in proper *, withdrawn, advanced, side port, over the *, at the level *,
    with the *, enters
"""

REPORTED = """
    is noted, are noted, noted, is seen, are seen, seen, is present, are present, is demonstrated, demonstrate*,
    is identified, are identified, is again *, are again *, again *, visualized, visible, is evident, are evident,
    shows, show, reveals, reveal, suggest*, consistent with, compatible with, may represent, might represent,
    could represent, likely represent*, may be due to, may be secondary to, could be due to, most compatible,
    in keeping with, indicative of, reflecting, reflects, representing, represents, obscures, obscuring, measuring,
    measures, projecting, projects, superimposed, versus, correlate, correlation, recommend*, is suspected,
    not excluded, cannot exclude, cannot be excluded, cannot be entirely *, remain, remains, appears, appear,
    has developed, has increased, has decreased, has resolved, has improved, has worsened, overlying
"""

STATEMENTS = """
    lungs are, lungs remain, lungs appear, lungs and *, lung fields are, lungs clear, lungs were, clear lungs,
    lungs grossly clear, heart size, heart is, heart appears, heart remains, heart and *, heart normal,
    cardiac silhouette *, cardiomediastinal silhouette, cardiomediastinal contour*, mediastinal contour*,
    cardiac contour*, cardiac size, mediastinum is, mediastinum and *, hila are, osseous structures are,
    bony structures are, bones are, within normal limits, there is no *, there are no *, there is an *, there is a *,
    there is mild, there is moderate, there is minimal, there is bilateral, there is left, there is right,
    there is diffuse, there are bilateral, there are low, there are small, there are multiple, there is evidence *,
    there has been *, no acute *, no active *, no radiographic *, no focal *, no pneumothora*, no pleural *,
    no evidence of acute, no evidence of active, no evidence of pneumo*, no evidence of focal, no large *,
    no suspicious *, no visible *, no airspace *, no consolidat*, no infiltrat*, no effusion*, no cardiopulmonary *,
    no cardiomegaly, no edema, no interval change, no significant change, no significant interval *, no change,
    no change from *, no comparison, no prior *, no definite *, no displaced *, no free air, no lobar *,
    no pulmonary *, no nodul*, no opacit*, no rib fracture*, no fracture*, no bony *, no osseous *, no lung *,
    no adenopathy, no abnormal*, no mass*, no metasta*, no mediastinal *, no detectable *, no obvious *,
    no significant abnormal*, no significant pulmonary *, no acute fracture*, no pneumonia, no overt *,
    no congestive *, no chf, no evidence of *, compared to *, compared with *, in comparison *, as compared *,
    comparison is *, comparison with *, comparison to *, in the interval, since the prior, since the previous,
    from prior, than on prior, from the prior, than prior, unchanged from *, cardiopulmonary abnormalit*, as above,
    as described, patient is rotated, patient rotated, rotated to *, patient's chin *, patient rotation,
    poor inspiration, suboptimal inspiration, shallow inspiration, low inspiratory *, inspiratory effort,
    expiratory *, low lung volumes, diminished lung volumes, evaluation is limited, limited evaluation,
    exam is limited, exam limited, examination limited, exam quality, study is limited, limited study, limited exam*,
    limited by *, technical factors, technically *, rotated examination, artifact*, stable exam*, unremarkable *,
    negative chest, negative for acute, negative exam*, negative radiograph*, negative study, normal chest,
    normal exam*, normal study, normal radiograph*, normal heart size, normal cardio*, normal lungs,
    normal lung volumes, normal pulmonary *, normal mediastin*, normal heart, stable chest, stable position,
    stable appearance *, stable appearing *, stable radiograph*, clear chest, findings of *, findings consistent *,
    findings suggest*, findings most *, findings are *, findings compatible *, chronic changes, chronic lung changes,
    age-related *, senescent *, clear bilaterally, are clear, is clear, is unremarkable, are unremarkable,
    not significantly changed, heart not *, heart mildly *, normal size and *, normal in size, interval placement,
    interval removal, interval resolution, interval performance, interval development, interval increase,
    interval decrease, interval improvement, interval worsening, interval clearing, interval extubation,
    interval intubation, examination was *, examination is *, examination consists *, examination demonstrates,
    exam was *, study was *, study demonstrates, without acute *, without evidence *, without focal *,
    without pneumothora*, without effusion*, without pleural *, without consolidat*, lung fields clear, lungs well *,
    lungs hyper*, lungs free *, chest clear, clear of *
"""
"""Formulas that are a reading in any sentence that does not end in a question mark."""

CLINICAL_STATEMENTS = """
    heart failure, heart murmur*, heart disease, heart attack, heart transplant, heart rate, heart block,
    heart valve*, heart surgery, heart cath*, heart problem*, heart condition*, lung sounds, breath sounds,
    heart sounds, lung cancer, lung condition*, lung transplant*, lung problem*, lung surgery, lung biopsy,
    lung exam*, lungs on auscultation, on auscultation, no fever, no chest pain, no prior history, no history *,
    no known *, no hx *, no h/o *, no pulmonary complaint*, no pulmonary symptom*, no previous *, no recent *,
    no chest complaint*, no cardiac history, no prior surger*, no pulmonary history, no lung condition*,
    no lung problem*, no lung history, no lung disease history, no prior lung *, no prior heart *,
    no acute complaint*, no acute distress, no acute symptom*, no acute illness*, no acute event*, no acute injur*,
    no acute trauma, no active complaint*, no active bleed*, no active symptom*, no active tb symptom*,
    no active cough*, no active chest *, normal exam otherwise, there is no fever, there is no history *,
    there is a history *, there is a concern *, there is concern *, there is no known *, there is a question *,
    there is a family *, there is no trauma, there is a known *, there is a clinical *, abnormal breath *,
    breath sounds *, no evidence of disease, coarse breath *, chest tube*, chest pain, chest wall, chest tightness,
    chest pressure, chest discomfort, chest congestion, chest trauma, chest injury, chest x-ray for *, chest surgery,
    line placement, tube placement, picc placement, port placement, pacemaker placement, nasal congestion,
    sinus congestion, leg edema, lower extremity edema, pedal edema, peripheral edema, extremity edema,
    no change in *, no prior episode*, no change with *, linear accelerator, interval change, mass index,
    shadow boxing, normal pressure hydrocephalus, normal vital*, normal stress *, stable angina, unstable angina,
    aortic aneurysm, abdominal aortic *, aortic dissection, aorta repair, aortic repair, aortic stenosis,
    joint effusion*, knee effusion*, hip fracture*, leg fracture*, ankle fracture*, wrist fracture*, arm fracture*,
    forearm fracture*, femur fracture*, femoral fracture*, humerus fracture*, facial fracture*, scar tissue,
    nodular thyroid, thyroid nodule*, breast mass*, pelvic mass*, neck mass*, abdominal mass*, renal mass*,
    brain mass*, breast nodule*, thyroid mass*, low back, clear sputum, clear phlegm, productive of clear,
    clear nasal, clear rhinorrhea, clear mucus, clear for *, clearance, kidney failure, renal failure, liver failure,
    respiratory failure, end-stage *, feeding tube placement, lines and tubes placement, heart healthy, bones pain,
    abnormal chest x-*, abnormal chest radiograph*, abnormal cxr, abnormal chest ct, heart palpitation*, low blood *,
    low oxygen, low sat*, low-grade *, elevated wbc, elevated white *, elevated blood *, elevated temperature,
    elevated troponin*, elevated d-dimer, crackles, rhonchi, wheez*, rales, decreased breath *, diminished breath *,
    decreased bs, decreased lung sounds, diminished lung sounds, decreased air *, normal ekg, normal ecg,
    right lung resection, partial lung resection, lung resection
"""
"""Look like readings and speak of the patient: taken out before the rest is looked for."""

QUESTIONS = """
    r/o, ro, rule out, rule-out, rules out, r / o, eval for, eval, evaluate, evaluate for, evaluation for,
    evaluation of, evaluate *, eval *, evals for, assess, assess for, assessment for, assessment of, check, check for,
    checking for, please *, pls, look for, looking for, screen for, screening for, screen, question of, question,
    questionable, query, concern for, concern of, concerned for, concern about, concerned about, concerns for,
    worried about, worry for, worrisome symptoms *, if there is, whether, exclude, to exclude, confirm,
    confirm placement, verify, any evidence of, any signs of, any sign of, any, looking at, is there, are there,
    monitor, monitoring, follow-up of, followup of, follow up of, f/u of, f/u, follow-up for, follow up for,
    followup for, follow-up, followup, follow up, fu, re-evaluate, reevaluate, reassess, re-assess, re-check, recheck,
    interval change in, interval changes in, change in, progression of, resolution of, search for, clear for *,
    suspicion for, suspicion of, clinical suspicion *, risk of, at risk *, monitoring for, surveillance of,
    surveillance for, surveillance, determine, status of, position of, for placement of, placement of, work up *,
    workup *, work-up *, needs clearance *, preop, pre-op, preoperative, pre-operative, pre op, scheduled for
"""
"""Asks: governs what follows in the sentence."""

HEDGES = """
    possible, poss, suspect, suspected, suspecting, suspicious, probable, presumed, likely, ddx, differential, versus,
    vs
"""
"""Doubts: a question where no place is named; readers doubt what they see in a place."""

TRAILING_QUESTIONS = """
    evaluate, eval, please evaluate, please eval, please assess, assess, rule out, r/o, follow up, follow-up,
    followup, f/u, for follow up, reassess, re-evaluate, reevaluate, interval change, for evaluation, recheck, check
"""
"""Asks about what stands before it when the sentence ends there or soon after."""

ADVICE = """
    recommend*, suggest*, advis*, should be, could be, would be, may be, is limited, are limited, limited,
    not excluded, ct
"""
"""A reader's advice to follow up, or his excuse: no question."""

HISTORY = """
    history of, history, hx of, hx, h/o, ho, pmh, pmhx, phx, known, previously diagnosed, previous, previously, prior,
    s/p, sp, status post, status-post, recent, recently, past, past medical *, diagnosed with, diagnosis of, dx of,
    dx, dx with, treated for, treatment for, admitted for, admitted with, being treated for, underwent, post, old,
    remote, longstanding, long-standing, chronic, familial, family history of, recovering from, recurrent history of,
    positive for, abnormal outside *, outside ct, ct showed, ct shows, cxr showed, seen on *, found on *,
    found to have, prior ct, xray showed, x-ray showed, told of, told she has, told he has, carries *,
    transferred with, transferred for, referred for, referred with, complication of, suffers from, since, after,
    because of, due to, re:, secondary to, presented with
"""
"""Recalls: governs what follows in the sentence."""

NOT_HISTORY = """
    previously identified, previously seen, previously noted, previously described, previously demonstrated,
    prior study, prior exam*, prior film*, prior radiograph*, prior chest*, prior ct, previous exam*, previous study,
    previous film*, previous radiograph*, previous chest*, prior granulomatous *, old granulomatous *,
    chronic interstitial *, chronic lung *, chronic appearing *, old healed *, remote granulomatous *,
    previous granulomatous *, prior median *, prior sternotomy, prior cabg with *, chronic changes,
    chronic obstructive changes, chronic emphysematous *, old rib *, old left *, old right *, chronic left *,
    chronic right *, chronic bibas*, chronic bilateral *, chronic elevation *, chronic blunting, remote left *,
    remote right *, remote rib *, prior left rib *, since the *, after the *, post-surgical *, known *lateral view,
    from prior, previous granul*, old fracture*, chronic scarring, prior rib *, due to patient *, due to overlying *,
    due to technique, secondary to low *, since prior, chronic inflammatory *, chronic deform*, chronic fibro*
"""
"""Look like a recollection and describe a film."""

HISTORY_ENDS = """
    with, now, but, however, shows, demonstrates, is, are, there, currently, today, which, although, new
"""
"""Ends what a recollection governs; a procedure's ends at a comma too."""

PAST = """
    ago, last week, last month, last year, last night, yesterday, had, was diagnosed, was treated, was found,
    was told, was admitted, was seen, was discharged, in the past, years prior, weeks prior, months prior, days prior,
    as a child, in childhood
"""
"""Tells of an earlier time: the sentence is no reading of this film."""

PATIENT = """
    year old, year-old, years old, year-olds, yr old, yr-old, y/o, yo, y.o., m with, f with, male, female, man, woman,
    boy, girl, gentleman, lady, patient with, patient has, patient had, pt with, pt has, pt had, patient presents,
    presents, presenting, complains, complaining, c/o, infant, child, baby, newborn, neonate, smoker, nonsmoker,
    mother, father, she, he, her, his, pt, patient, p/w
"""
"""Presents a patient: what follows is why the film was asked for."""

SYMPTOMS = """
    pain, cough*, fever*, dyspnea, sob, shortness of breath, wheez*, hemoptysis, trauma, fall, injury, mva, mvc,
    syncope, weakness, symptom*, tachycardia, hypoxia, chills, nausea, vomiting, dizz*, palpitation*, weight loss,
    fatigue, sputum
"""


def any_of(*lists: str) -> re.Pattern[str]:
    """A pattern that finds any phrase of the lists as whole words, the longest first, whatever the case.

    >>> any_of("opacit*, rule out").findall("Rule  out opacities")
    ['Rule  out', 'opacities']
    """
    phrases = {" ".join(phrase.split()) for words in lists for phrase in words.split(",") if phrase.strip()}
    # A whole word is a sign of its own, so that what it stands for is one token.
    signed = (re.sub(r"(?<!\S)\*(?!\S)", "\0", phrase) for phrase in sorted(phrases))
    body = one_of(signed, tokens={" ": r"\s+", "\0": r"[\w'’/.-]*\w", "*": r"[\w-]*"})
    return re.compile(rf"(?<![\w/])(?:{body})(?![\w/])")
