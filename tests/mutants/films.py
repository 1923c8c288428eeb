"""From a film's file to its pixels, and what its header says."""

from tests.mutants.mutant import Mutant

FILMS = "tests/components/cxr/films"

MUTANTS = [
    Mutant(
        "monochrome1-is-not-inverted",
        file="components/cxr/films/display.py",
        old="return Ramp(ramp.bright, ramp.dark) if is_inverted(dataset) else ramp",
        new="return ramp",
        test=f"{FILMS}/test_pixels_transforms.py::test_without_a_usable_window_the_range_is_stretched",
    ),
    Mutant(
        "a-window-is-half-a-value-off",
        file="components/cxr/films/display.py",
        old='if function == "LINEAR_EXACT" else (center - 0.5, (width - 1) / 2)',
        new='if function == "LINEAR_EXACT" else (center - 0.5, width / 2)',
        test=f"{FILMS}/test_pixels_transforms.py::test_window",
    ),
    Mutant(
        "a-window-ignores-the-rescale-intercept",
        file="components/cxr/films/display.py",
        old="return Ramp((middle - half - intercept) / slope, (middle + half - intercept) / slope)",
        new="return Ramp((middle - half) / slope, (middle + half) / slope)",
        test=f"{FILMS}/test_pixels_transforms.py::test_window",
    ),
    Mutant(
        "a-negative-slope-does-not-invert",
        file="components/cxr/films/display.py",
        old="return Ramp(dark, bright) if slope > 0 or _is_8_bit_output(dataset) else Ramp(bright, dark)",
        new="return Ramp(dark, bright)",
        test=f"{FILMS}/test_pixels_transforms.py::test_negative_slope_inverts",
    ),
    Mutant(
        "a-voi-lut-scales-by-its-stated-bits",
        file="components/cxr/films/display.py",
        old="scaled = (table - table.min()) / np.ptp(table)",
        new="scaled = table / 65535.0",
        test=f"{FILMS}/test_pixels_transforms.py::test_voi_lut_goes_before_the_window_and_scales_by_its_own_entries",
    ),
    Mutant(
        "bits-beside-the-stored-ones-count",
        file="components/cxr/films/stored.py",
        old="    if frame.stored < allocated and not tidy and whole_words:\n",
        new="    if frame.stored < allocated and not tidy and not whole_words:\n",
        test=f"{FILMS}/test_pixels_values.py::test_garbage_above_bits_stored_is_dropped",
    ),
    Mutant(
        "padding-is-shown",
        file="components/cxr/films/stored.py",
        old="    return padding if padding.any() else None\n",
        new="    return None\n",
        test=f"{FILMS}/test_pixels_values.py::test_padding_is_background_and_out_of_the_range",
    ),
    Mutant(
        "padding-with-a-sign-is-missed",
        file="components/cxr/films/stored.py",
        old="        return value - (1 << bits) if value >= 1 << (bits - 1) else value\n",
        new="        return value\n",
        test=f"{FILMS}/test_pixels_values.py::test_padding_range_of_signed_pixels_written_unsigned",
    ),
    Mutant(
        "a-film-with-a-name-burned-in-is-read",
        file="components/cxr/films/stored.py",
        old='    if _text(dataset, "BurnedInAnnotation") == "YES" and not preset.allow_burned_in:\n',
        new='    if _text(dataset, "BurnedInAnnotation") == "YES" and preset.allow_burned_in:\n',
        test=f"{FILMS}/test_pixels_regions.py::test_what_is_rejected_can_be_allowed",
    ),
    Mutant(
        "shrinking-skips-pixels",
        file="components/cxr/films/resample.py",
        old="np.maximum(overlap, 0).astype(np.float64))",
        new="(num_inputs * (overlap == overlap.max(axis=1, keepdims=True))).astype(np.float64))",
        test=f"{FILMS}/test_pixels_resize.py::test_shrinking_averages_areas",
    ),
    Mutant(
        "the-pixel-hash-forgets-its-version",
        file="components/cxr/films/pixel_preset.py",
        old="return content_hash(self.canonical_json(), str(PIXELS_VERSION))",
        new="return content_hash(self.canonical_json())",
        test=f"{FILMS}/test_pixels_header.py::test_preset_hash_changes_with_every_field_and_with_the_version",
    ),
    Mutant(
        "an-age-in-months-is-taken-for-years",
        file="components/cxr/films/pixels.py",
        old='"M": 1 / 12,',
        new='"M": 1.0,',
        test=f"{FILMS}/test_pixels_header.py::test_age",
    ),
]
