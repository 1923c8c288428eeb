"""Heatmaps: what they add up to, where they lie, who gets none."""

from tests.mutants.mutant import Mutant

MODEL, MAPS = "components/cxr/model/patch_expert.py", "components/cxr/model/heatmaps.py"
WORDS, SERVED = "components/train/patch_words.py", "components/serve/heatmap.py"
TEST, EXPLAIN = "tests/components/train/test_patch_words.py", "tests/components/serve/test_explain.py"
PAGE = "tests/components/serve/test_page_heatmaps.py::test_a_finding_is_shown_on_the_film_by_a_click"
SUM = f"{TEST}::test_heatmaps_add_up_to_what_the_patches_add"

MUTANTS = [
    Mutant(
        "a-pathology-ends-at-a-comma",
        file="components/serve/fields.py",
        old="for value in values if (name := value.strip())",
        new='for value in values for part in value.split(",") if (name := part.strip())',
        test=f"{EXPLAIN}::test_an_answer_comes_with_the_heatmaps_that_were_asked_for",
    ),
    Mutant(
        "a-heatmap-shows-what-every-film-shows",
        file=MODEL,
        old="(self.added(near_NLK) - self.usual_PVL[:, some_N].transpose(0, 1))",
        new="self.added(near_NLK)",
        test=SUM,
    ),
    Mutant(
        "the-parts-of-a-film-are-taken-for-one-another",
        file=MODEL,
        old="pkij,iy,jx->pkyx",
        new="pkij,ix,jy->pkyx",
        test=SUM,
    ),
    Mutant(
        "blurring-loses-what-lies-at-the-border",
        file=MAPS,
        old="borderType=cv2.BORDER_REFLECT",
        new="borderType=cv2.BORDER_CONSTANT",
        test=SUM,
    ),
    Mutant(
        "heatmaps-of-several-models-are-summed",
        file=MAPS,
        old="/ (len(bundle.models) * len(films))",
        new="/ len(films)",
        test=SUM,
    ),
    Mutant(
        "a-heatmap-lies-on-its-side",
        file=MAPS,
        old="    return np.asarray(map_VPSS)\n",
        new="    return np.asarray(map_VPSS.transpose(0, 1, 3, 2))\n",
        test=f"{TEST}::test_rows_and_columns_of_a_heatmap_are_those_of_the_film",
    ),
    Mutant(
        "usual-is-the-same-for-every-view",
        file=WORDS,
        old="    mean_VLK[count_V < _FEWEST_OF_A_VIEW] = mean_VLK[0].clone()\n",
        new="    mean_VLK[:] = mean_VLK[0].clone()\n",
        test=f"{TEST}::test_usual_is_what_places_add_on_average_by_view",
    ),
    Mutant(
        "a-heatmap-does-not-know-the-view",
        file=MAPS,
        old='VIEW_INDEX.get(view or "", 0) for',
        new="0 for",
        test=f"{EXPLAIN}::test_a_film_is_compared_with_those_of_its_view",
    ),
    Mutant(
        "a-heatmap-begins-where-the-square-does",
        file=SERVED,
        old="in_the_middle(shape_within(extent, size=size), size=size)",
        new="tuple(map(slice, shape_within(extent, size=size)))",
        test=f"{EXPLAIN}::test_a_map_covers_the_film_edge_to_edge",
    ),
    Mutant(
        "for-and-against-have-each-others-colors",
        file=SERVED,
        old="map_HW[:, :, None] > 0, _FOR_BGR, _AGAINST_BGR",
        new="map_HW[:, :, None] > 0, _AGAINST_BGR, _FOR_BGR",
        test=f"{EXPLAIN}::test_a_picture_shows_how_strong_and_for_which_side",
    ),
    Mutant(
        "a-cat-gets-a-heatmap",
        file="components/serve/predictor.py",
        old=" if read.foreign is None or is_chest_film(read.foreign[v])]",
        new="]",
        test=f"{EXPLAIN}::test_of_another_picture_there_is_none",
    ),
    Mutant(
        "a-heatmap-lies-over-the-film-as-over-the-first",
        file="components/serve/predictor.py",
        old="extent=read.films[v].extent, size=size)",
        new="extent=read.films[0].extent, size=size)",
        test=f"{EXPLAIN}::test_an_answer_comes_with_the_heatmaps_that_were_asked_for",
    ),
    Mutant(
        "the-page-forgets-the-view-for-a-heatmap",
        file="components/serve/page.html",
        old='      if (film.select.value) data.append("view_positions", film.select.value);\n',
        new="",
        test=PAGE,
    ),
    Mutant(
        "a-heatmap-stays-over-another-study",
        file="components/serve/page.html",
        old='  showHeat(null);\n  $("result").classList.add("stale");\n',
        new='  $("result").classList.add("stale");\n',
        test=PAGE,
    ),
    Mutant(
        "a-heatmap-of-an-earlier-model-lies-over-another-models-answer",
        file="components/serve/page.html",
        old="    if (!model || model.bundle_hash !== reply.bundle_hash) await meet();\n",
        new="",
        test=f"{PAGE.partition('::')[0]}::test_a_page_that_stays_open_over_a_restart_takes_the_models_apart",
    ),
]
