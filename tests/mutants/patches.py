"""The expert of patches: its features, whom it learns from, how much it counts."""

from tests.mutants.mutant import Mutant

MODEL, WORDS = "components/cxr/model/patch_expert.py", "components/train/patch_words.py"
TEST = "tests/components/train/test_patch_words.py"
COUNTS = f"{TEST}::test_the_bundle_counts_it_as_much_as_the_rest"

LEFT_OUT = f"{TEST}::test_it_is_left_out_where_the_rest_alone_is_shown_to_be_better"

MUTANTS = [
    Mutant(
        "an-expert-that-harms-stays",
        file=WORDS,
        old="            scale_P = np.zeros_like(scale_P)\n",
        new="            pass\n",
        test=LEFT_OUT,
    ),
    Mutant(
        "an-expert-goes-where-it-may-help",
        file=WORDS,
        old="difference_interval(*gain).low > 0",
        new="difference_interval(*gain).high > 0",
        test=LEFT_OUT,
    ),
    Mutant(
        "the-expert-picks-the-epoch",
        file="components/train/export.py",
        old="found.network > progress.best_network",
        new="found.auroc > (progress.kept_auroc or 0.0)",
        test="tests/components/train/test_step.py::test_the_bundle_holds_the_average_of_the_best_epoch",
    ),
    Mutant(
        "the-whole-answer-passes-for-the-network",
        file="components/train/validation.py",
        old="else Validated(auroc, network, score_SP)",
        new="else Validated(network, auroc, score_SP)",
        test=f"{TEST}::test_validation_scores_the_answers_and_the_network_alone",
    ),
    Mutant(
        "pathologies-are-independent-of-each-other",
        file="components/cxr/delong.py",
        old="float(np.linalg.norm(np.mean(moved, axis=0)))",
        new="float(np.linalg.norm(moved) / len(moved))",
        test="tests/components/cxr/test_delong.py::test_a_pathology_that_is_another_ones_double_tells_nothing_new",
    ),
    Mutant(
        "patches-keep-their-contrast",
        file=MODEL,
        old="return (patch_NLQ - mean_NL1) / (variance_NL1 + _LEAST_VARIANCE).sqrt()",
        new="return patch_NLQ - mean_NL1",
        test=f"{TEST}::test_features_are_those_of_the_paper",
    ),
    Mutant(
        "far-words-count-too",
        file=MODEL,
        old="yield (distance_NLK.mean(dim=2, keepdim=True) - distance_NLK).clamp_(min=0.0)",
        new="yield distance_NLK.mean(dim=2, keepdim=True) - distance_NLK",
        test=f"{TEST}::test_features_are_those_of_the_paper",
    ),
    Mutant(
        "two-films-are-twice-as-sure",
        file=MODEL,
        old="opinion_BVP.sum(dim=1) / film_mask_BV.sum(dim=1, keepdim=True).clamp(min=1)",
        new="opinion_BVP.sum(dim=1)",
        test=f"{TEST}::test_a_study_gets_the_mean_over_its_films_and_nothing_without_any",
    ),
    Mutant(
        "the-expert-of-patches-is-not-asked",
        file="components/cxr/model/network.py",
        old="if self.patch_expert is not None and self.patch_expert.counts:",
        new="if False:",
        test=COUNTS,
    ),
    Mutant(
        "validation-does-not-balance-the-expert",
        file=WORDS,
        old="            expert.scale_P.copy_(torch.from_numpy(scale_P))\n",
        new="            expert.scale_P.fill_(1.0)\n",
        test=COUNTS,
    ),
    Mutant(
        "the-expert-is-balanced-against-itself",
        file="components/train/validation.py",
        old="        patches.take_out()\n",
        new="        pass\n",
        test=COUNTS,
    ),
    Mutant(
        "opinions-stay-as-small-as-probabilities",
        file=WORDS,
        old="    weight_PF /= np.maximum((feature_SF @ weight_PF.T).std(axis=0), 1e-3)[:, None]\n",
        new="",
        test=f"{TEST}::test_opinions_spread_the_studies_that_they_were_learned_from_by_one",
    ),
    Mutant(
        "a-resumed-training-fits-the-expert-again",
        file="components/train/train.py",
        old="        else:\n            setup.fit_patches()\n",
        new="        setup.fit_patches()\n",
        test=f"{TEST}::test_a_training_that_was_stopped_goes_on_with_it",
    ),
    Mutant(
        "a-students-expert-learns-from-labels-alone",
        file=WORDS,
        old="told = supervision if pseudo_SP is None else supervision.with_pseudo(pseudo_SP)",
        new="told = supervision",
        test=f"{TEST}::test_a_students_expert_learns_what_the_teachers_say",
    ),
    Mutant(
        "pseudo-labels-crowd-out-labels",
        file=WORDS,
        old="taught = np.sort(taught[first][:MOST_STUDIES])",
        new="taught = np.sort(taught[:MOST_STUDIES])",
        test=f"{TEST}::test_labels_come_first_where_not_all_studies_can_be_learned_from",
    ),
    Mutant(
        "words-come-from-labeled-films-alone",
        file=WORDS,
        old="some = np.sort(rng.permutation(len(studies))[:MOST_STUDIES])",
        new="some = np.flatnonzero(supervision.taught())",
        test=f"{TEST}::test_words_come_from_all_films_and_weights_from_labels",
    ),
    Mutant(
        "a-missing-label-is-a-negative",
        file=WORDS,
        old="target_SP3[:, :, 2] / known_SP.clamp(min=1e-9), share_P)",
        new="target_SP3[:, :, 2] / known_SP.clamp(min=1e-9), 0.0)",
        test=f"{TEST}::test_a_label_that_is_uncertain_or_missing_counts_as_the_share",
    ),
]
