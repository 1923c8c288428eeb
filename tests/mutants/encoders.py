"""How pretrained encoders learn: frozen, adapted, unfrozen, at rates of their own."""

from tests.mutants.mutant import Mutant

FOLDER = "tests/components/train"
FROZEN = f"{FOLDER}/test_frozen.py"
OPTIMIZER = f"{FOLDER}/test_optimizer.py"
LORA = f"{FOLDER}/test_lora.py"
MAPS = f"{FOLDER}/test_feature_maps.py"
PRETRAINED_TEXT = f"{FOLDER}/test_pretrained_text.py"

MUTANTS = [
    Mutant(
        "an-encoder-thaws-after-the-end",
        file="components/train/config.py",
        old="tuning.unfreeze_after >= self.epochs",
        new="tuning.unfreeze_after > self.epochs",
        test=f"{FOLDER}/test_frozen.py::test_an_encoder_that_would_thaw_after_the_end_is_an_error",
    ),
    Mutant(
        "a-vocabulary-takes-a-word-of-one-patient-in-many-studies",
        file="components/train/setup.py",
        old="                patients=self.training.patient_ids,\n",
        new="",
        test=f"{FOLDER}/test_tokenizer.py::test_a_training_counts_the_patients_of_its_texts",
    ),
    Mutant(
        "teachers-end-before-their-encoder-learns",
        file="components/train/teachers.py",
        old="        _check_unfreezing(config)\n",
        new="",
        test=f"{FOLDER}/test_teachers.py::test_teachers_that_would_end_before_their_encoder_learns_are_refused",
    ),
    Mutant(
        "positions-that-a-type-calls-otherwise-have-no-end",
        file="components/train/pretrained.py",
        old='known.attribute_map.get("max_position_embeddings", "max_position_embeddings")',
        new='"max_position_embeddings"',
        test="tests/pipeline/test_encoders.py::test_positions_count_whatever_their_type_calls_them",
    ),
    Mutant(
        "a-root-the-long-way-is-another",
        file="components/train/fine_tuning.py",
        old="if _real(Root(config.fine_tune_from)) == _real(root):",
        new="if Root(config.fine_tune_from).uri == root.uri:",
        test=f"{FOLDER}/test_fine_tuning.py::test_what_cannot_be_started_from_is_one_error",
    ),
    Mutant(
        "weights-that-cannot-be-read-are-a-traceback",
        file="components/train/build.py",
        old="    except UserError:\n        raise\n    except Exception as error:\n",
        new="    except UserError as error:\n",
        test=f"{PRETRAINED_TEXT}::test_files_that_cannot_be_read_are_one_clean_error",
    ),
    Mutant(
        "a-missing-tokenizer-is-one-that-knows-no-word",
        file="components/train/build.py",
        old="            if len(tokenizer) <= len(set(tokenizer.all_special_ids)):",
        new="            if len(tokenizer) < 0:",
        test=f"{PRETRAINED_TEXT}::test_weights_without_their_tokenizer_are_one_clean_error",
    ),
    Mutant(
        "values-that-the-library-refuses-are-a-traceback",
        file="components/cxr/model/encoder_config.py",
        old="    except Exception as error:\n        detail",
        new="    except ValueError as error:\n        detail",
        test=f"{FOLDER}/test_build.py::test_values_that_the_library_refuses_are_one_clean_error",
    ),
    Mutant(
        "a-misspelled-field-of-an-encoder-is-ignored",
        file="components/train/build.py",
        old="    if unknown:\n",
        new="    if False:\n",
        test=f"{FOLDER}/test_build.py::test_a_field_that_the_encoder_does_not_have_is_one_clean_error",
    ),
    Mutant(
        "text-weights-that-are-missing-stay-random",
        file="components/train/build.py",
        old='for name in info["missing_keys"] if name in read]',
        new='for name in info["missing_keys"] if name not in read]',
        test=f"{PRETRAINED_TEXT}::test_weights_that_are_not_all_there_are_one_clean_error",
    ),
    Mutant(
        "kept-maps-are-not-read",
        file="components/cxr/model/network.py",
        old="        if batch.map_BVChw is not None:\n",
        new="        if False:\n",
        test=f"{MAPS}::test_no_step_runs_the_encoder_and_no_later_training_either",
    ),
    Mutant(
        "other-weights-find-the-maps-of-these",
        file="components/cxr/model/feature_maps.py",
        old='"maps 1", _weights(encoder), key,',
        new='"maps 1", key,',
        test=f"{MAPS}::test_other_weights_have_other_maps",
    ),
    Mutant(
        "other-normalizations-find-the-maps-of-this",
        file="components/cxr/model/feature_maps.py",
        old='"maps 1", _weights(encoder), key,',
        new='"maps 1", _weights(encoder),',
        test=f"{MAPS}::test_other_weights_have_other_maps",
    ),
    Mutant(
        "maps-are-kept-of-augmented-films",
        file="components/train/config.py",
        old=" and self.augment.is_none",
        new="",
        test=f"{MAPS}::test_maps_that_change_are_not_kept",
    ),
    Mutant(
        "maps-are-kept-of-an-encoder-that-will-learn",
        file="components/train/config.py",
        old="vision.frozen and vision.unfreeze_after is None and",
        new="vision.frozen and",
        test=f"{MAPS}::test_maps_that_change_are_not_kept",
    ),
    Mutant(
        "later-films-have-the-maps-of-a-shard-s-first",
        file="components/cxr/model/feature_maps.py",
        old="pixels_NHW[start : start + _FILMS_AT_ONCE]",
        new="pixels_NHW[: len(pixels_NHW[start : start + _FILMS_AT_ONCE])]",
        test=f"{MAPS}::test_every_film_has_its_own_map",
    ),
    Mutant(
        "a-bundle-lacks-what-lora-learned",
        file="components/train/lora.py",
        old="            layer.merge()\n",
        new="",
        test=f"{LORA}::test_the_bundle_holds_plain_weights_that_answer_as_the_adapted_model",
    ),
    Mutant(
        "lora-drops-units-from-the-process-s-stream",
        file="components/train/lora.py",
        old="lora_dropout=0.0",
        new="lora_dropout=0.1",
        test=f"{LORA}::test_dropout_of_an_adapted_encoder_is_still_drawn_from_the_studies",
    ),
    Mutant(
        "lora-learns-at-the-rate-of-pretrained-weights",
        file="components/train/optimizer.py",
        old=" or tuning.lora is not None",
        new="",
        test=f"{LORA}::test_what_is_learned_is_new_and_has_the_rate_of_what_is_new",
    ),
    Mutant(
        "layers-computed-again-drop-other-units",
        file="components/cxr/model/dropout.py",
        old="    return contextlib.nullcontext(), keyed(_KEYS.keys_B)\n",
        new="    return contextlib.nullcontext(), contextlib.nullcontext()\n",
        test=f"{FROZEN}::test_layers_computed_again_give_the_same_gradients_with_the_same_dropout",
    ),
    Mutant(
        "frozen-encoders-drop-units",
        file="components/cxr/model/network.py",
        old="                encoder.eval()\n",
        new="                pass\n",
        test=f"{FROZEN}::test_a_frozen_encoder_has_no_gradients_and_no_dropout",
    ),
    Mutant(
        "encoders-are-never-unfrozen",
        file="components/train/tuning.py",
        old="tuning.unfreeze_after is not None and epoch >= tuning.unfreeze_after",
        new="False",
        test=f"{FROZEN}::test_an_unfrozen_encoder_learns_from_its_epoch_on",
    ),
    Mutant(
        "data-parallelism-is-not-told-of-unfrozen-weights",
        file="components/train/train.py",
        old="        if freezer.enter(epoch) or epoch == first_epoch:\n",
        new="        if freezer.enter(epoch) and epoch == first_epoch:\n",
        test=f"{FROZEN}::test_two_processes_unfreeze_to_the_weights_of_one",
    ),
    Mutant(
        "the-first-layer-learns-fastest",
        file="components/train/optimizer.py",
        old="tuning.layer_decay ** (last - depths[parameter])",
        new="tuning.layer_decay ** depths[parameter]",
        test=f"{OPTIMIZER}::test_each_layer_has_its_share_of_the_encoders_own_learning_rate",
    ),
    Mutant(
        "unfrozen-encoders-start-at-full-rate",
        file="components/train/optimizer.py",
        old="max(0, step + 1 - start)",
        new="max(0, step + 1)",
        test=f"{OPTIMIZER}::test_what_is_unfrozen_later_warms_up_from_there",
    ),
    Mutant(
        "encoders-with-their-own-attention-get-masks-that-they-misread",
        file="components/cxr/model/text.py",
        old='attn_implementation=ATTENTION if registered else "eager")',
        new="attn_implementation=ATTENTION)",
        test=f"{PRETRAINED_TEXT}::test_every_type_answers_as_transformers_own_and_learns[mpnet]",
    ),
    Mutant(
        "a-pretrained-text-encoder-gets-a-tokenizer-of-its-own",
        file="components/train/build.py",
        old="            tokenizer = AutoTokenizer.from_pretrained(text_source)\n",
        new="            tokenizer = learn_tokenizer(texts, vocabulary_size=9, max_tokens=16)\n",
        test=f"{PRETRAINED_TEXT}::test_every_type_answers_as_transformers_own_and_learns[bert]",
    ),
]
