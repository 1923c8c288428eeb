"""Made-up first sentences of readings, and made-up indications: words were added for those that were missed first.

held_out_readings.txt and held_out_indications.txt are others, after which no word was chosen.
"""

from __future__ import annotations

__all__ = ["INDICATIONS", "READINGS"]

READINGS = """\
Patchy airspace opacity at the left lung base is new since yesterday.
There has been interval extubation.
Right internal jugular line ends in the mid SVC.
Small bilateral effusions with adjacent compressive atelectasis.
The lungs are hyperexpanded but free of consolidation.
Heart is top normal in size.
Unchanged cardiomegaly.
No pneumothorax.
No focal consolidation, effusion or pneumothorax.
Clear lungs.
Normal chest.
Cardiac size cannot be evaluated.
Left chest wall port with tip at the cavoatrial junction.
Nasogastric tube courses below the diaphragm.
Endotracheal tube tip terminates 4.2 cm above the carina.
Healed fractures of the right posterior ribs.
Mild interstitial edema.
Large left pneumothorax with rightward mediastinal shift.
Peribronchial thickening in a perihilar distribution.
Hyperinflation with flattened diaphragms.
Calcified granuloma in the right apex.
Aortic knob calcifications.
Stable postoperative appearance of the chest.
Increased retrocardiac density.
Enlargement of the cardiac silhouette.
Mediastinum is widened.
Single portable AP view shows clear lungs.
Frontal and lateral radiographs of the chest demonstrate well expanded lungs.
As compared to the previous radiograph, the monitoring devices are unchanged.
In comparison with the study of ___, there is little change.
Subtle nodular density projecting over the left upper lung.
Two new nodules in the right lung.
Complete white-out of the left hemithorax.
Blunting of both costophrenic angles.
Degenerative changes of the thoracic spine.
S-shaped scoliosis.
Right middle lobe pneumonia.
Bilateral lower lobe infiltrates consistent with aspiration.
Pulmonary vasculature is engorged.
Thickening of the minor fissure.
A nodule projects over the right sixth anterior rib.
Free air under the right hemidiaphragm.
Old granulomatous disease.
Lingular scarring.
Apical pleural thickening, right more than left.
Dual lead pacer in satisfactory position.
Tracheostomy tube in place.
Surgical clips in the right axilla.
Loculated fluid in the right major fissure.
Coarse reticular markings at both bases.
Suboptimal inspiratory effort.
Patient rotated to the left.
CHEST IS CLEAR.
NO ACUTE DISEASE.
BIBASILAR ATELECTASIS.
cardiac silhouette mildly enlarged
lungs clear
right pleural effusion has increased
Bronchovascular crowding.
Possible early infiltrate in the right lower lobe.
Interval worsening of diffuse bilateral airspace disease.
PICC removed.
Findings suggest mild fluid overload.
Cavitary lesion in the left upper lobe.
""".splitlines()
"""One per line; each belongs behind the read."""

INDICATIONS = """\
___ year old woman with cough and fever // eval for pneumonia
___F with SOB, h/o CHF // r/o effusion
___ year old man with right pleural effusion s/p thoracentesis // interval change, ptx?
___ year old man intubated // ETT placement
___ year old man with new PICC // 45 cm left PICC, thanks
___M s/p MVC // fx?
72 yo F, hypoxia, evaluate for pulmonary edema.
New oxygen requirement.
Fever, neutropenia. Rule out infiltrate.
Cough x 3 weeks, smoker.
Chest pain radiating to left arm.
Known lung cancer, on chemotherapy.
History of pulmonary nodules, follow up.
Follow-up pneumonia.
f/u RLL pneumonia
Status post CABG, check lines and tubes.
Post chest tube removal. Evaluate for pneumothorax.
? pneumothorax
Pneumonia?
r/o TB, positive PPD
Positive quantiferon, asymptomatic.
Preoperative clearance.
Pre-op hip replacement
COPD exacerbation.
CHF exacerbation, increasing leg swelling.
Left rib pain after fall from ladder, ? fracture.
Suspected aspiration during meal.
Concern for foreign body ingestion.
Rib injury. Concern for pneumothorax.
Difficulty breathing since last night.
Asthma, wheezing, not responding to albuterol.
Crackles at the right base.
Decreased breath sounds on the left.
Fall, left shoulder pain.
Trauma
Altered mental status, fever of unknown origin
Hemoptysis for two days in patient with prior tuberculosis.
Dyspnea on exertion. History of atrial fibrillation and heart failure.
Was treated for pneumonia three weeks ago, persistent cough.
Had a left pneumothorax last year.
NG tube placement
Line placement
Evaluate endotracheal tube position.
Check central line, rule out pneumothorax.
Weight loss, night sweats.
Dialysis patient with missed session.
Sickle cell crisis, chest pain.
Status post lung transplant with fever.
Stroke, failed swallow evaluation.
Abnormal lung exam.
Annual physical, hypertension.
Breast cancer, staging.
Immigration screening.
COUGH AND CONGESTION
SHORTNESS OF BREATH, R/O PNA
CHEST PAIN, HX OF MI
5-month-old with fever and tachypnea. Evaluate for infiltrate.
Cough; fever; evaluate for consolidation, effusion, or edema.
Productive cough with clear sputum, no fever.
Patient with known cardiomegaly, worsening dyspnea.
Pain on inspiration, question of pulmonary embolism.
Interval change in effusion?
Assess for interval resolution of pneumonia.
Sepsis, unclear source. Please assess for pneumonia.
""".splitlines()
"""One per line; each was written before the read and comes through whole."""
