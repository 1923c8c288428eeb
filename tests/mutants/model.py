"""What the network takes, its answers, and the studies that it is shown."""

from tests.mutants.mutant import Mutant

PREDICTOR = "tests/components/cxr/model/test_predictor.py"
GATHERED = "tests/components/cxr/model/test_study_batches.py"
DROPOUT = "tests/components/cxr/model/test_dropout.py"
FUSION = "tests/components/cxr/model/test_fusion.py"
DATASET = "tests/components/cxr/model/test_dataset.py"
BATCH = "tests/components/cxr/model/test_batch.py"
MODEL = "tests/components/cxr/model/test_model.py"

MUTANTS = [
    Mutant(
        "a-part-of-a-batch-keeps-the-places-of-the-whole",
        file="components/cxr/model/batch.py",
        old='for name, value in vars(self).items() if name != "present_N"}',
        new="for name, value in vars(self).items()}",
        test=f"{BATCH}::test_rows_find_their_own_films",
    ),
    Mutant(
        "films-that-are-hidden-are-still-among-those-present",
        file="components/cxr/model/batch.py",
        old="            present_N=None,  # type: ignore[arg-type]\n",
        new="",
        test=f"{BATCH}::test_what_is_kept_is_a_studys_own",
    ),
    Mutant(
        "an-unknown-sex-is-attended-to",
        file="components/cxr/model/network.py",
        old="torch.stack([known_B, batch.sex_B > 0], dim=1)",
        new="torch.stack([known_B, batch.sex_B >= 0], dim=1)",
        test=f"{MODEL}::test_age_and_sex_count_where_they_are_known",
    ),
    Mutant(
        "a-checkpoint-without-what-is-never-read-is-refused",
        file="components/train/pretrained_vision.py",
        old="if name in read and not may_be_missing(name)]",
        new="if not may_be_missing(name)]",
        test="tests/components/train/test_pretrained_vision.py::test_a_classifiers_checkpoint_gives_its_encoder",
    ),
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
        "a-gathered-batch-shows-the-film-before",
        file="components/cxr/model/dataset.py",
        old="self._pixels[shard][row : row + count]",
        new="self._pixels[shard][row - 1 : row - 1 + count]",
        test=f"{GATHERED}::test_a_batch_equals_the_collated_studies",
    ),
    Mutant(
        "a-place-without-a-film-is-what-memory-held",
        file="components/cxr/model/dataset.py",
        old="                into[b, count:] = 0\n",
        new="                into[b, count:] = 1\n",
        test=f"{GATHERED}::test_a_batch_equals_the_collated_studies",
    ),
    Mutant(
        "a-gathered-view-is-that-of-the-first-film",
        file="components/cxr/model/study_batches.py",
        old="np.where(there_BV, first_B[:, None] + place_V, 0)",
        new="np.where(there_BV, first_B[:, None], 0)",
        test=f"{GATHERED}::test_a_batch_equals_the_collated_studies",
    ),
    Mutant(
        "a-gathered-text-that-is-absent-is-attended-to",
        file="components/cxr/model/study_batches.py",
        old="token_there_BT & self._has_text_S[chosen_B][:, None]",
        new="token_there_BT",
        test=f"{GATHERED}::test_a_batch_equals_the_collated_studies",
    ),
    Mutant(
        "tokens-of-one-tokenizer-serve-another",
        file="components/cxr/model/tokens.py",
        old="json.dumps(settings, sort_keys=True), ",
        new="",
        test="tests/components/cxr/model/test_tokens.py::test_ids_are_made_once_for_one_tokenizer_texts_and_length",
    ),
    Mutant(
        "tokens-of-one-length-serve-another",
        file="components/cxr/model/tokens.py",
        old="json.dumps(settings, sort_keys=True), str(max_tokens))",
        new="json.dumps(settings, sort_keys=True))",
        test="tests/components/cxr/model/test_tokens.py::test_ids_are_made_once_for_one_tokenizer_texts_and_length",
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
    Mutant(
        "dropout-of-text-depends-on-the-films-beside-it",
        file="components/cxr/model/network.py",
        old="tokens = 4 * torch.arange(num_tokens, device=device) + 1",
        new="tokens = 4 * (num_cells + torch.arange(num_tokens, device=device)) + 1",
        test=f"{DROPOUT}::test_a_study_in_training_answers_alone_as_beside_longer_texts_and_more_films",
    ),
    Mutant(
        "a-films-key-depends-on-how-many-there-could-be",
        file="components/cxr/model/dropout.py",
        old="keys_B[:, None] + 1 + torch.arange",
        new="keys_B[:, None] + num_views + torch.arange",
        test=f"{DROPOUT}::test_a_film_keeps_its_key_however_many_places_there_are",
    ),
    Mutant(
        "the-student-answers-in-full-precision-always",
        file="components/train/objectives/network.py",
        old="        with self._autocast:\n            experts",
        new="        if self._autocast:\n            experts",
        test="tests/components/train/objectives/test_network.py::test_losses_are_float32_in_half_precision_too",
    ),
    Mutant(
        "an-absent-text-adds-something",
        file="components/cxr/model/fusion.py",
        old="ratio_BP3.masked_fill(num_tokens_B1[..., None] == 0, 0.0)",
        new="ratio_BP3",
        test=f"{FUSION}::test_an_absent_text_adds_exactly_nothing",
    ),
    Mutant(
        "a-longer-text-counts-more",
        file="components/cxr/model/fusion.py",
        old="/ num_tokens_B1.clamp(min=1)",
        new="/ hidden_BTC.shape[1] + 1e-3 * num_tokens_B1",
        test=f"{FUSION}::test_the_number_of_words_and_of_neighbors_words_does_not_scale_the_text",
    ),
    Mutant(
        "the-text-takes-from-what-films-learn",
        file="components/cxr/model/network.py",
        old="scaled_BP3 = films_BP3.detach() + ",
        new="scaled_BP3 = films_BP3 + ",
        test=f"{FUSION}::test_each_experts_loss_reaches_its_own_weights_alone",
    ),
    Mutant(
        "the-prior-counts-twice",
        file="components/cxr/model/network.py",
        old="films_BP3 + self.text_expert.scale * text_BP3\n",
        new="films_BP3 + self.text_expert.scale * (text_BP3 + self.text_expert.prior_P3)\n",
        test=f"{FUSION}::test_an_absent_text_adds_exactly_nothing",
    ),
    Mutant(
        "experts-start-without-the-prior",
        file="components/train/setup.py",
        old="        model.start_at(log_class_shares(self.target_SP, self.weight_SP))\n",
        new="",
        test="tests/components/train/test_step.py::test_experts_start_at_the_shares_of_the_training_labels",
    ),
]
