"""The training loop and what it is made of."""

from tests.mutants.mutant import Mutant

FOLDER = "tests/components/train"
LOSSES = f"{FOLDER}/objectives/test_losses.py"
AUGMENT = f"{FOLDER}/loading/test_augment.py"
BUILD = f"{FOLDER}/test_build.py"
TOKENIZER = f"{FOLDER}/test_tokenizer.py"

MUTANTS = [
    Mutant(
        "average-of-weights-never-warms-up",
        file="components/train/ema.py",
        old="return min(self.decay, (1 + self.num_updates) / (10 + self.num_updates))",
        new="return self.decay",
        test=f"{FOLDER}/test_ema.py::test_average_warms_up_and_follows_the_weights",
    ),
    Mutant(
        "buffers-of-the-average-stay-behind",
        file="components/train/ema.py",
        old="            average.copy_(buffer)\n",
        new="            average.lerp_(buffer, 1.0 - self.current_decay)\n",
        test=f"{FOLDER}/test_ema.py::test_average_warms_up_and_follows_the_weights",
    ),
    Mutant(
        "the-loss-is-a-mean-over-entries-without-a-target-too",
        file="components/train/objectives/losses.py",
        old="    return _global_mean(entropy_BP * weight_BP, weight_BP.sum())\n",
        new="    return _global_mean(entropy_BP * weight_BP, torch.ones_like(weight_BP).sum())\n",
        test=f"{LOSSES}::test_supervised_loss_is_the_weighted_mean_over_entries_with_a_target",
    ),
    Mutant(
        "consistency-counts-masked-entries",
        file="components/train/objectives/losses.py",
        old="    return _global_mean(difference_BP.square() * mask_BP, mask_BP.sum())\n",
        new="    return _global_mean(difference_BP.square(), mask_BP.sum())\n",
        test=f"{LOSSES}::test_consistency_ignores_the_uncertain_logit_and_masked_entries",
    ),
    Mutant(
        "films-are-mirrored",
        file="components/train/loading/augment.py",
        old="affine.append([[cos, -sin, shift[0]], [sin, cos, shift[1]]])",
        new="affine.append([[-cos, -sin, shift[0]], [sin, cos, shift[1]]])",
        test=f"{AUGMENT}::test_films_are_never_mirrored",
    ),
    Mutant(
        "a-view-depends-on-the-place-in-the-batch",
        file="components/train/loading/augment.py",
        old="np.random.default_rng([seed, epoch, studies[b], v, _STREAM[strength]])",
        new="np.random.default_rng([seed, epoch, b, v, _STREAM[strength]])",
        test=f"{AUGMENT}::test_a_view_depends_on_seed_epoch_and_study_but_not_on_its_neighbors",
    ),
    Mutant(
        "modality-dropout-takes-film-and-text-at-once",
        file="components/train/loading/augment.py",
        old="    text_B = text_B | ~(image_B & has_film_B)\n",
        new="",
        test=f"{AUGMENT}::test_modality_dropout_never_takes_film_and_text_at_once",
    ),
    Mutant(
        "the-learning-rate-never-falls",
        file="components/train/build.py",
        old="    return 0.5 * (1.0 + math.cos(math.pi * (step - warm_steps) / max(1, num_steps - warm_steps)))\n",
        new="    return 1.0\n",
        test=f"{BUILD}::test_learning_rate_rises_and_falls_to_zero",
    ),
    Mutant(
        "embeddings-decay",
        file="components/train/build.py",
        old="if p.dim() >= 2 and id(p) not in embeddings]",
        new="if p.dim() >= 2]",
        test=f"{BUILD}::test_every_parameter_is_trained_once_and_learns",
    ),
    Mutant(
        "a-word-of-one-study-enters-the-vocabulary",
        file="components/train/tokenizer.py",
        old="MIN_STUDIES = 3\n",
        new="MIN_STUDIES = 1\n",
        test=f"{TOKENIZER}::test_a_word_of_one_study_does_not_enter_the_vocabulary",
    ),
    Mutant(
        "the-vocabularys-order-depends-on-the-process",
        file="components/train/tokenizer.py",
        old="key=lambda word: (-studies_of[word], word)",
        new="key=lambda word: (-studies_of[word], hash(word))",
        test=f"{TOKENIZER}::test_equal_sets_of_texts_give_equal_vocabularies_in_any_process",
    ),
]
