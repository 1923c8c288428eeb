"""Heatmaps on the page: a click shows one, and it goes where the film goes."""

import re

import cv2
import numpy as np
import pytest

from components.serve.heatmap import overlay
from tests.components.serve.in_chromium import classify, drop, focused, pixels, shown, style, wait

pytestmark = pytest.mark.slow


def test_a_finding_is_shown_on_the_film_by_a_click(page, dicom, predictor):
    drop(page, dicom)
    shown(page)
    classify(page)
    heat, edema = page.locator("#films img.heat"), page.get_by_role("button", name="Edema", exact=True)
    assert heat.count() == 0
    edema.click()
    wait(lambda: heat.count() and heat.evaluate("node => node.complete && node.naturalWidth"))
    study = predictor.read([dicom.read_bytes()])
    expected = overlay(predictor.heatmaps(study, ["Edema"], size=512)[0].map_HW)
    alpha = cv2.imdecode(np.frombuffer(expected, np.uint8), cv2.IMREAD_UNCHANGED)[:, :, 3]
    assert alpha.shape == (512, 341)  # the film without the black beside it, where object-fit puts it
    assert alpha.any()
    np.testing.assert_array_equal(pixels(page, "#films img.heat", 3), alpha)
    assert heat.evaluate("node => getComputedStyle(node).objectFit") == "contain"
    boxes = [page.locator(which).bounding_box() for which in ("#films img.heat", "#films img:not(.heat)")]
    assert boxes[0] == boxes[1]
    assert edema.get_attribute("aria-pressed") == "true"
    assert heat.get_attribute("alt") == "Heatmap of Edema"
    wait(lambda: page.get_by_role("status").inner_text() == "Heatmap of Edema shown")
    page.get_by_role("button", name="Zoom in").click()
    assert "scale(1.25)" in style(page, "transform")
    assert heat.evaluate("node => node.style.transform") == style(page, "transform")
    page.get_by_label("Strength").fill("30")
    assert float(heat.evaluate("node => getComputedStyle(node).opacity")) == pytest.approx(0.3)
    page.get_by_role("button", name="Fracture", exact=True).click()
    wait(lambda: heat.get_attribute("alt") == "Heatmap of Fracture")
    assert edema.get_attribute("aria-pressed") == "false"
    page.get_by_role("button", name="Usual order").click()
    assert page.get_by_role("button", name="Fracture", exact=True).get_attribute("aria-pressed") == "true"
    page.get_by_role("button", name="Hide").click()
    assert heat.count() == 0
    assert focused(page) == "Fracture"
    edema.click()
    wait(heat.count)
    edema.click()
    assert heat.count() == 0
    edema.click()
    page.get_by_label("View of film 1").select_option("AP")  # another study
    assert heat.count() == 0
    assert not page.locator("#heat").is_visible()
    classify(page)
    edema.click()
    wait(lambda: heat.count() and heat.evaluate("node => node.complete && node.naturalWidth"))
    (found,) = predictor.heatmaps(predictor.read([dicom.read_bytes()], view_positions=["AP"]), ["Edema"], size=512)
    other = cv2.imdecode(np.frombuffer(overlay(found.map_HW), np.uint8), cv2.IMREAD_UNCHANGED)[:, :, 3]
    assert np.abs(other.astype(int) - alpha).max() > 5
    np.testing.assert_array_equal(pixels(page, "#films img.heat", 3), other)


def test_a_finding_of_a_text_alone_has_no_place(page):
    page.get_by_label("Indication").fill("cough")
    classify(page)
    assert page.locator("#findings button").count() == 0
    assert page.locator("#choose").count() == 0


def test_a_page_that_stays_open_over_a_restart_takes_the_models_apart(page, dicom, predictor):
    real, names, asked = predictor.bundle.hash, {"v1/predict": "", "v1/model": "", "v1/explain": ""}, []

    def another(route):
        path = route.request.url.partition("?")[0].rpartition("/v1/")[2]
        asked.append(path)
        response, name = route.fetch(), names[f"v1/{path}"] * 64 or real
        if path == "explain":
            route.fulfill(response=response, headers={**response.headers, "x-bundle-hash": name})
        else:
            route.fulfill(response=response, body=response.text().replace(real, name))

    page.route(re.compile(r"/v1/(predict|model|explain)\b"), another)
    heat, foot = page.locator("#films img.heat"), page.locator("#footer")
    edema = page.get_by_role("button", name="Edema", exact=True)
    drop(page, dicom)
    shown(page)
    for name in ("", "b", "b"):
        names = dict.fromkeys(names, name)
        classify(page)
        edema.click()
        wait(heat.count)
        assert foot.inner_text().startswith(f"Model {(name * 64 or real)[:16]} ")
    assert asked == ["predict", "explain", "predict", "model", "explain", "predict"]
    names["v1/explain"] = "c"  # while servers are replaced
    page.get_by_role("button", name="Fracture", exact=True).click()
    wait(lambda: page.locator(".changed").count())
    assert page.locator(".changed").inner_text() == "The model was changed. Classify it again."
    assert heat.count() == 0
    names["v1/predict"] = "c"
    classify(page)
    wait(lambda: page.locator(".changed").count() == 0)
    assert page.locator("#findings button").count() == 0  # nobody said whether that model has heatmaps
    assert "Also over" not in page.locator("#findings").inner_text()
