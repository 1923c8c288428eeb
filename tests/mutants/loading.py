"""Which studies are in a batch, in which order, and how they are shown."""

from tests.mutants.mutant import Mutant

FOLDER = "tests/components/train"
AUGMENT = f"{FOLDER}/loading/test_augment.py"
STEP = f"{FOLDER}/test_step.py"
TRAIN = f"{FOLDER}/test_train.py"

MUTANTS = [
    Mutant(
        "films-are-mirrored",
        file="components/train/loading/augment.py",
        old="torch.stack([cos, -sin, shift * right,",
        new="torch.stack([-cos, -sin, shift * right,",
        test=f"{AUGMENT}::test_films_are_never_mirrored",
    ),
    Mutant(
        "a-view-depends-on-the-place-in-the-batch",
        file="components/train/loading/augment.py",
        old="    key_B = view_keys(studies, seed",
        new="    key_B = view_keys(range(len(studies)), seed",
        test=f"{AUGMENT}::test_a_view_depends_on_seed_step_and_study_but_not_on_its_neighbors",
    ),
    Mutant(
        "all-films-have-the-same-noise",
        file="components/train/loading/augment.py",
        old="noise_NHW = normals(mixed(key_N + 8), size",
        new="noise_NHW = normals(mixed(key_N[:1] + 8).expand(len(key_N)), size",
        test=f"{AUGMENT}::test_noise_has_the_configured_strength_and_no_pattern",
    ),
    Mutant(
        "every-film-gets-the-strongest-noise",
        file="components/train/loading/augment.py",
        old="(deviation * (255.0 * config.noise))",
        new="((deviation * 0 + 1) * (255.0 * config.noise))",
        test=f"{AUGMENT}::test_noise_has_the_configured_strength_and_no_pattern",
    ),
    Mutant(
        "what-is-erased-is-no-rectangle",
        file="components/train/loading/augment.py",
        old="within(top, height)[:, :, None] & within",
        new="within(top, height)[:, :, None] | within",
        test=f"{AUGMENT}::test_an_erased_part_is_one_rectangle_of_any_size_up_to_the_largest",
    ),
    Mutant(
        "four-pixels-share-their-noise",
        file="components/cxr/model/counters.py",
        old="index_select(0, index.flatten())",
        new="index_select(0, (index // 4 * 4).view(-1, 4)[:, :1].expand(-1, 4).flatten())",
        test="tests/components/cxr/model/test_counters.py::test_numbers_of_keys_and_neighbors_are_not_correlated",
    ),
    Mutant(
        "modality-dropout-takes-film-and-text-at-once",
        file="components/train/loading/augment.py",
        old="    text_B = text_B | ~(image_B & has_film_B)\n",
        new="",
        test=f"{AUGMENT}::test_modality_dropout_never_takes_film_and_text_at_once",
    ),
    Mutant(
        "the-student-sees-the-film-as-it-is",
        file="components/train/loading/views.py",
        old="    return augment(shown, studies",
        new="    return shown if True else augment(shown, studies",
        test=f"{STEP}::test_three_steps_are_those_of_the_reference",
    ),
    Mutant(
        "the-student-sees-every-modality",
        file="components/train/loading/views.py",
        old="    shown = drop_modalities(batch,",
        new="    shown = batch\n    drop_modalities(batch,",
        test=f"{STEP}::test_three_steps_are_those_of_the_reference",
    ),
    Mutant(
        "text-is-never-dropped",
        file="components/train/loading/augment.py",
        old="torch.tensor([config.image, config.text, config.meta])",
        new="torch.tensor([config.image, 0.0, config.meta])",
        test=f"{AUGMENT}::test_modalities_fall_as_often_as_configured",
    ),
    Mutant(
        "a-stream-begins-every-pass-in-one-order",
        file="components/train/loading/order.py",
        old="seed=self._seed, epoch=turn, stream=stream.key)",
        new="seed=self._seed, epoch=0, stream=stream.key)",
        test=f"{FOLDER}/loading/test_order.py::test_each_stream_comes_round_in_another_order",
    ),
    Mutant(
        "labeled-and-unlabeled-share-an-order",
        file="components/train/loading/order.py",
        old="np.random.default_rng([seed, epoch, *stream])",
        new="np.random.default_rng([seed, epoch])",
        test=f"{FOLDER}/loading/test_order.py::test_streams_have_orders_of_their_own",
    ),
    Mutant(
        "the-ratio-of-streams-is-cut-off-and-not-rounded",
        file="components/train/loading/order.py",
        old="max(1, round(batch_size / (1.0 + unlabeled_per_labeled)))",
        new="max(1, int(batch_size / (1.0 + unlabeled_per_labeled)))",
        test=f"{FOLDER}/loading/test_order.py::test_every_batch_has_the_set_share_of_labeled_studies",
    ),
    Mutant(
        "a-stream-starts-anew-with-every-epoch",
        file="components/train/loading/order.py",
        old="        start = epoch * self.steps_per_epoch\n",
        new="        start = 0\n",
        test=f"{FOLDER}/loading/test_order.py::test_each_stream_comes_round_in_another_order",
    ),
    Mutant(
        "batches-made-ahead-come-in-another-order",
        file="components/train/loading/batches.py",
        old="        while waiting:\n            yield waiting.popleft().result()",
        new="        while waiting:\n            yield waiting.pop().result()",
        test=f"{FOLDER}/loading/test_batches.py::test_batches_are_those_of_their_studies_however_they_are_made",
    ),
    Mutant(
        "a-resumed-epoch-skips-a-batch-and-repeats-another",
        file="components/train/loading/order.py",
        old="steps = range(start + skip, start + self.steps_per_epoch)",
        new="steps = range(start + skip + bool(skip), start + self.steps_per_epoch + bool(skip))",
        test=f"{TRAIN}::test_an_interrupted_training_continues_to_the_same_weights",
    ),
    Mutant(
        "films-move-half-as-far",
        file="components/train/loading/augment.py",
        old="shift = 2.0 * config.translation",
        new="shift = config.translation",
        test="tests/components/train/loading/test_augment.py::test_films_move_as_far_as_configured",
    ),
    Mutant(
        "contrast-darkens-and-brightens",
        file="components/train/loading/augment.py",
        old="offset_N = middle - middle * gain_N +",
        new="offset_N =",
        test="tests/components/train/loading/test_augment.py::test_contrast_changes_around_middle_gray",
    ),
    Mutant(
        "all-films-of-a-study-are-changed-alike",
        file="components/train/loading/augment.py",
        old="key_BV = mixed(key_B[:, None] + 1 + torch.arange(num_views, device=device))",
        new="key_BV = mixed(key_B[:, None] + 1 + 0 * torch.arange(num_views, device=device))",
        test="tests/components/train/loading/test_augment.py::test_every_film_of_a_study_is_changed_its_own_way",
    ),
    Mutant(
        "modalities-fall-with-the-films-angle",
        file="components/train/loading/augment.py",
        old='_STREAM = {"view": 2, "dropout": 3}',
        new='_STREAM = {"view": 2, "dropout": 2}',
        test="tests/components/train/loading/test_augment.py::test_what_falls_does_not_hang_on_how_films_are_changed",
    ),
]
