"""What the network takes, its answers, and the studies that it is shown."""

from tests.mutants.mutant import Mutant

PREDICTOR = "tests/components/cxr/model/test_predictor.py"
DATASET = "tests/components/cxr/model/test_dataset.py"

MUTANTS = [
    Mutant(
        "metadata-is-seen-where-films-alone-are-shown",
        file="components/cxr/model/predictor.py",
        old='meta_B=condition in ("all", "image+meta", "meta"),',
        new='meta_B=condition != "text",',
        test=f"{PREDICTOR}::test_a_condition_hides_the_rest",
    ),
    Mutant(
        "the-view-stays-when-the-metadata-falls",
        file="components/cxr/model/batch.py",
        old="            view_BV=self.view_BV * meta_B[:, None],\n",
        new="",
        test=f"{PREDICTOR}::test_a_condition_hides_the_rest",
    ),
    Mutant(
        "padding-films-are-attended-to",
        file="components/cxr/model/batch.py",
        old="            film_mask_BV[b, v] = True\n",
        new="            film_mask_BV[b] = True\n",
        test=f"{PREDICTOR}::test_an_answer_does_not_depend_on_its_neighbors",
    ),
    Mutant(
        "an-absent-text-is-attended-to",
        file="components/cxr/model/batch.py",
        old='encoded["attention_mask"].bool() & has_text_B[:, None],',
        new='encoded["attention_mask"].bool(),',
        test=f"{PREDICTOR}::test_hidden_is_the_same_as_absent",
    ),
    Mutant(
        "the-score-is-the-raw-probability-of-positive",
        file="components/cxr/model/network.py",
        old="    return logits_BP3[..., 2] - logits_BP3[..., 0]\n",
        new="    return logits_BP3[..., 2] - logits_BP3[..., :2].logsumexp(dim=-1)\n",
        test="tests/components/train/objectives/test_losses.py"
        "::test_consistency_ignores_the_uncertain_logit_and_masked_entries",
    ),
    Mutant(
        "the-threshold-is-on-the-uncalibrated-probability",
        file="components/cxr/model/predictor.py",
        old="int(probability >= point.threshold)",
        new="int(calibrated(score, slope=1.0, intercept=0.0) >= point.threshold)",
        test=f"{PREDICTOR}::test_answers_are_calibrated_and_cut",
    ),
    Mutant(
        "an-answer-is-never-uncertain",
        file="components/cxr/model/predictor.py",
        old="state = -1 if uncertain > certain else int",
        new="state = int",
        test=f"{PREDICTOR}::test_answers_are_calibrated_and_cut",
    ),
    Mutant(
        "labels-are-those-of-another-study",
        file="components/cxr/model/dataset.py",
        old="states.append(label_states(table, manifest.pathologies))",
        new="states.append(np.roll(label_states(table, manifest.pathologies), 1, axis=0))",
        test=f"{DATASET}::test_studies_are_those_of_the_shards",
    ),
    Mutant(
        "films-are-those-of-another-study",
        file="components/cxr/model/dataset.py",
        old="films=list(self._pixels[self._shard_S[index]][row : row + last - first]),",
        new="films=list(self._pixels[self._shard_S[index]][max(row - 1, 0) :][: last - first]),",
        test=f"{DATASET}::test_studies_are_those_of_the_shards",
    ),
    Mutant(
        "no-findings-0-is-not-derived",
        file="components/cxr/model/dataset.py",
        old="self.states_SP = derive_no_finding(state_SP, pathologies=manifest.pathologies)",
        new="self.states_SP = state_SP",
        test=f"{DATASET}::test_studies_are_those_of_the_shards",
    ),
    Mutant(
        "a-data-set-holds-every-split",
        file="components/cxr/model/dataset.py",
        old="for split in splits for shard in manifest.shards_of(split)]",
        new='for split in ("train", "validate", "test") for shard in manifest.shards_of(split)]',
        test=f"{DATASET}::test_studies_are_those_of_the_shards",
    ),
    Mutant(
        "every-film-is-taken-whatever-max-views-says",
        file="components/cxr/model/dataset.py",
        old="kept_S = count_S if max_views is None else np.minimum(count_S, max_views)",
        new="kept_S = count_S",
        test=f"{DATASET}::test_max_views_leaves_out_later_films",
    ),
]
