"""The page, by mouse and keyboard as a person uses it, before a real server."""

import json
import shutil

import cv2
import numpy as np
import pytest

from tests.components.serve.in_chromium import classify, drop, focused, pixels, shown, style, wait

pytestmark = pytest.mark.slow

SIZES = [(1280, 900), (390, 844), (320, 640)]


def test_a_dropped_dicom_is_shown_as_the_server_read_it(page, dicom, predictor):
    drop(page, dicom)
    shown(page)
    expected = predictor.render(dicom.read_bytes(), size=1024)
    np.testing.assert_array_equal(pixels(page), cv2.imdecode(np.frombuffer(expected, np.uint8), 0))
    page.get_by_role("button", name="Model’s pixels").click()
    wait(lambda: page.locator("#films img").get_attribute("alt") == "Film 1 as the model saw it")
    wait(lambda: pixels(page).shape == (32, 32))
    np.testing.assert_array_equal(pixels(page), predictor.predict([dicom.read_bytes()]).study.films[0])


def test_threshold_and_interval_are_in_view_and_the_answer_is_the_servers(page, dicom, predictor, tmp_path):
    drop(page, dicom)
    classify(page)
    expected = predictor.predict([dicom.read_bytes()])
    assert page.locator("#findings li").count() == len(expected.answers)
    for row in page.locator("#findings li").all():
        name, facts = row.locator(".label").inner_text(), row.locator(".facts").inner_text()
        found = expected.answers[name]
        number = facts.partition("\N{NO-BREAK SPACE}%")[0]
        assert abs(float(number) - 100 * found.probability) <= 0.5
        assert "threshold" in facts
        assert "AUROC" in facts
    used = page.locator("#result").inner_text()
    assert "its view PA (DICOM header)" in used
    assert "age 63 (DICOM header)" in used
    with page.expect_download() as download:
        page.get_by_role("button", name="Download JSON").click()
    download.value.save_as(tmp_path / "answer.json")
    saved = json.loads((tmp_path / "answer.json").read_text())
    assert saved["answers"]["Edema"]["probability"] == pytest.approx(expected.answers["Edema"].probability, abs=1e-6)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy as text").click()
    wait(lambda: page.locator("#copy").inner_text() == "Copied")
    text = page.evaluate("() => navigator.clipboard.readText()")
    assert all(name in text for name in expected.answers)
    assert "threshold" in text
    assert "Not a medical device" in text


def test_findings_come_by_distance_or_in_the_usual_order_by_one_click(page, predictor):
    page.get_by_role("button", name="Effusion, portable").click()
    page.locator("#findings li").first.wait_for()

    def names():
        return page.locator("#findings .label").all_inner_texts()

    def log_odds(value):
        return np.log(value / (1 - value))

    replies = page.evaluate("() => answer.answers")
    far = {name: log_odds(found["probability"]) - log_odds(found["threshold"]) for name, found in replies.items()}
    assert names()[-1] == "No Finding"
    assert names()[:-1] == sorted((n for n in far if n != "No Finding"), key=lambda name: -far[name])
    page.get_by_role("button", name="Usual order").click()
    assert names() == list(predictor.bundle.info.pathologies)
    assert page.get_by_role("button", name="Usual order").get_attribute("aria-pressed") == "true"


@pytest.mark.parametrize(
    ("state", "probability", "threshold", "words"),
    [
        (1, 0.12, 0.11, "barely over"),
        (1, 0.24, 0.11, "over"),
        (1, 0.80, 0.11, "far over"),
        (0, 0.10, 0.11, "barely under"),
        (0, 0.01, 0.11, "far under"),
        (-1, 0.80, 0.11, "uncertain"),
    ],
)
def test_a_low_probability_over_a_low_threshold_does_not_read_as_an_alarm(page, state, probability, threshold, words):
    found = {"state": state, "probability": probability, "threshold": threshold}
    assert page.evaluate("found => judged('Edema', found, 'findings')[1]", found) == words


def test_no_finding_does_not_count_beside_a_finding_and_uncertain_is_seen_as_such(page):
    page.get_by_label("Indication").fill("cough")
    classify(page)
    page.evaluate(
        """() => {
          const put = (name, state, probability) => {
            Object.assign(answer.answers[name], { state, probability, threshold: .1 });
          };
          put('No Finding', 1, .3); put('Edema', 1, .12); put('Fracture', -1, .3); put('Pleural Effusion', 0, .02);
          answer.overall = 'findings';
          showAnswer(answer);
        }"""
    )
    row = page.locator("#findings li")
    assert row.filter(has_text="No Finding").locator(".word").inner_text() == "over, not counted"
    assert row.filter(has_text="Edema").get_attribute("class") == "barely"
    assert row.filter(has_text="Fracture").locator(".word .mark").inner_text() == "uncertain"
    told = page.locator("#overall").inner_text()
    assert told == "0 of 3 findings clearly over the threshold. 1 barely over. Uncertain: Fracture."


def test_an_answer_is_of_the_study_as_it_was_at_the_click(page, dicom, tmp_path):
    paths = [dicom, tmp_path / "b.dcm", tmp_path / "c.dcm"]
    for path in paths[1:]:
        shutil.copy(dicom, path)
    drop(page, *paths)
    shown(page, 3)
    page.get_by_label("View of film 2").select_option("LATERAL")
    page.get_by_label("View of film 3").select_option("AP")
    page.evaluate(
        """() => {
          const read = File.prototype.arrayBuffer, going = new Promise(go => { window.go = go; });
          File.prototype.arrayBuffer = async function () { await going; return read.call(this); };
        }"""
    )
    page.get_by_role("button", name="Classify").click()
    page.get_by_role("button", name="Remove film 1").click()
    page.get_by_label("Indication").fill("cough")
    page.evaluate("() => go()")
    page.locator("#findings li").first.wait_for()
    seen = page.evaluate("() => answer.seen")
    assert (seen["view_positions"], seen["text"]) == (["PA", "LATERAL", "AP"], False)
    assert page.locator(".changed").inner_text() == "The study was changed. Classify it again."
    classify(page)
    wait(lambda: page.evaluate("() => answer.seen")["view_positions"] == ["LATERAL", "AP"])
    assert page.evaluate("() => answer.seen.text")
    assert page.locator(".changed").count() == 0


def test_an_example_that_comes_late_does_not_mix_with_a_study_begun_meanwhile(page, dicom):
    page.evaluate(
        """() => {
          const ask = window.fetch, going = new Promise(go => { window.go = go; });
          window.fetch = async (...request) => {
            const response = await ask(...request);
            if (String(request[0]).startsWith('examples/')) await going;
            return response;
          };
        }"""
    )
    page.get_by_role("button", name="Pneumothorax, two").click()
    drop(page, dicom)
    shown(page)
    page.get_by_label("Age in years").fill("63")
    page.evaluate("() => { go(); return new Promise(done => setTimeout(done, 500)); }")
    assert page.locator("#films .film-name").all_inner_texts() == ["film.dcm"]
    assert (page.locator("#text").input_value(), page.locator("#age").input_value()) == ("", "63")


def test_the_browsers_back_brings_no_text_age_or_sex_of_another_study(page):
    page.get_by_label("Indication").fill("fever")
    page.get_by_label("Age in years").fill("33")
    page.get_by_label("Sex").select_option("F")
    page.goto("about:blank")
    page.go_back()
    page.get_by_role("button", name="Effusion, portable").wait_for()
    assert [page.locator(f"#{name}").input_value() for name in ("text", "age", "sex")] == ["", "", ""]


def test_a_model_without_no_finding_says_nothing_of_it(page):
    said = page.evaluate("names => statement({ overall: 'no-finding', answers: names })", {"Edema": {"state": 0}})
    assert said == "No finding is over its threshold."
    both = {"Edema": {"state": 0}, "No Finding": {"state": 1}}
    said = page.evaluate("names => statement({ overall: 'no-finding', answers: names })", both)
    assert said == "No finding is over its threshold, and No Finding is."


def test_a_folder_is_taken_apart_and_one_without_films_is_no_server_that_is_down(page, dicom, tmp_path):
    study, notes = tmp_path / "study", tmp_path / "notes"
    (study / "series").mkdir(parents=True)
    notes.mkdir()
    shutil.copy(dicom, study / "series" / "00001")
    (study / "report.txt").write_text("x")
    (notes / "report.txt").write_text("x")
    drop(page, study)
    shown(page)
    drop(page, notes)
    wait(lambda: "The folder has no film." in page.locator("#error").inner_text())
    assert page.locator("#films li").count() == 1


def test_each_failure_has_words_of_its_own(page, dicom, tmp_path):
    error = page.locator("#error")
    junk = tmp_path / "junk.dcm"
    junk.write_bytes(b"no film")
    drop(page, junk)
    wait(lambda: "neither DICOM, PNG nor JPEG" in page.locator("#films").inner_text())
    page.get_by_role("button", name="Remove film 1").click()
    drop(page, dicom, dicom, dicom, dicom)
    wait(lambda: "a study may have 3" in error.inner_text())
    assert page.locator("#films li").count() == 0
    page.get_by_role("button", name="Classify").click()
    wait(lambda: "neither a film nor a text" in error.inner_text())
    assert focused(page) == "send"
    drop(page, dicom)
    shown(page)
    dicom.unlink()
    page.get_by_role("button", name="Classify").click()
    wait(lambda: "film.dcm cannot be read." in error.inner_text())
    page.get_by_role("button", name="Clear").click()
    page.get_by_label("Indication").fill("cough")
    page.get_by_label("Age in years").press_sequentially("6e")  # the browser makes nothing of it
    page.get_by_role("button", name="Classify").click()
    wait(lambda: "The age is no number from 0 to 130." in error.inner_text())
    page.get_by_label("Age in years").fill("")
    page.context.set_offline(True)
    page.get_by_role("button", name="Classify").click()
    wait(lambda: "The server does not answer." in error.inner_text())
    page.context.set_offline(False)
    classify(page)
    assert error.inner_text() == ""


def test_an_error_is_brought_into_view(open_page):
    page = open_page(1280, 500)
    page.get_by_role("button", name="Effusion, portable").click()
    page.locator("#findings li").first.wait_for()
    shown(page)
    page.get_by_label("Age in years").fill("200")
    page.get_by_role("button", name="Classify").click()
    wait(lambda: "no number from 0 to 130" in page.locator("#error").inner_text())
    wait(lambda: 0 <= page.locator("#error").bounding_box()["y"] < 400)
    assert focused(page) == "send"


def test_the_keyboard_alone_is_enough(page):
    seen = []
    for _ in range(12):  # to the first example
        page.keyboard.press("Tab")
        seen.append(focused(page))
        if seen[-1].startswith("No finding, two"):
            break
    assert {"picker", "folder"} <= set(seen)
    page.keyboard.press("Enter")
    page.locator("#findings li").first.wait_for()
    shown(page, 2)
    assert focused(page).startswith("No finding, two")
    while not page.evaluate("() => document.activeElement.classList.contains('view')"):
        page.keyboard.press("Tab")
    for key in ("+", "+", "ArrowLeft", "i", "b", "c"):
        page.keyboard.press(key)
    assert style(page, "transform") == "translate(30px, 0px) scale(1.5625)"
    assert style(page, "filter") == "invert(1) brightness(1.1) contrast(1.1)"
    page.keyboard.press("0")
    assert style(page, "transform") == "translate(0px, 0px) scale(1)"
    while focused(page) != "text":
        page.keyboard.press("Tab")
    page.keyboard.type(" and cough")
    assert "Classify it again" in page.locator("#result").inner_text()
    while focused(page) != "send":
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    wait(lambda: page.locator(".changed").count() == 0 and page.locator("#findings li").count())
    assert focused(page) == "send"
    while focused(page) != "by-list":
        page.keyboard.press("Tab")
    page.keyboard.press("Space")
    assert page.locator("#by-list").get_attribute("aria-pressed") == "true"
    assert focused(page) == "by-list"


def test_the_mouse_zooms_moves_and_lights(page, dicom):
    drop(page, dicom)
    shown(page)
    page.locator("#films .view").scroll_into_view_if_needed()
    box = page.locator("#films .view").bounding_box()
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2

    def drag(x, y):
        page.mouse.move(*middle)
        page.mouse.down()
        page.mouse.move(middle[0] + x, middle[1] + y, steps=4)
        page.mouse.up()

    drag(10, 10)
    assert style(page, "transform") == "translate(0px, 0px) scale(1)"  # nothing to move while it fits
    page.mouse.wheel(0, -300)
    wait(lambda: "scale(2.1" in style(page, "transform"))
    drag(40, -25)
    assert style(page, "transform").startswith("translate(40px, -25px)")
    page.get_by_role("button", name="brightness").click()
    drag(0, -60)
    assert "brightness(1.49" in style(page, "filter")
    page.get_by_role("button", name="Invert").click()
    assert "invert(1)" in style(page, "filter")
    page.get_by_role("button", name="Reset").click()
    assert style(page, "filter") == "invert(0) brightness(1) contrast(1)"


def test_what_cannot_come_nearer_stays_in_its_place(page, dicom):
    drop(page, dicom)
    shown(page)
    page.evaluate(
        "() => { Object.assign(films[0].look, { zoom: 12, x: 100, y: -50 }); change(films[0], { zoom: 1.25 }); }"
    )
    assert style(page, "transform") == "translate(100px, -50px) scale(12)"


def test_two_fingers_zoom(open_page, dicom):
    page = open_page(390, 844)
    drop(page, dicom)
    shown(page)
    page.locator("#films .view").scroll_into_view_if_needed()
    box = page.locator("#films .view").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    session = page.context.new_cdp_session(page)
    for kind, apart in (("touchStart", 40), ("touchMove", 60), ("touchMove", 80), ("touchEnd", 0)):
        points = [{"x": x + side * apart, "y": y, "id": side + 1} for side in (-1, 1)] if apart else []
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    wait(lambda: "scale(2)" in style(page, "transform"))


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_nothing_is_cut_off_or_covered(open_page, width, height):
    page = open_page(width, height)
    page.get_by_role("button", name="Pneumothorax, two").click()
    page.locator("#findings li").first.wait_for()
    shown(page, 2)
    assert page.evaluate("() => document.documentElement.scrollWidth") == width
    first, second = (page.locator("#films .view").nth(i).bounding_box() for i in (0, 1))
    assert (first["y"] == second["y"]) == (width == 1280)  # side by side where there is room
    for number in page.locator("#findings .facts strong").all():
        number.scroll_into_view_if_needed()
        on_top = "node => { const b = node.getBoundingClientRect(); const at = x => node.contains("
        on_top += "document.elementFromPoint(x, b.top + b.height / 2)); return at(b.left + 1) && at(b.right - 1); }"
        assert number.evaluate(on_top)
    for end in (0, "document.documentElement.scrollHeight"):
        page.evaluate(f"() => scrollTo(0, {end})")
        notice = page.locator("#notice").bounding_box()
        assert 0 <= notice["y"] < 1
        assert "Research use only" in page.locator("#notice").inner_text()


def test_forced_colors_leave_bars_and_what_is_chosen(page, dicom):
    page.emulate_media(forced_colors="active")
    drop(page, dicom)
    classify(page)
    page.get_by_role("button", name="Edema", exact=True).click()
    page.locator("#heat").wait_for()
    back = "node => getComputedStyle(node).backgroundColor"
    around = page.locator("body").evaluate(back)
    for shows in (".bar i", ".bar b", ".swatch", "#as-read", "#findings button[aria-pressed=true]"):
        assert page.locator(shows).first.evaluate(back) != around, shows


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 320])
def test_axe_finds_no_serious_fault(open_page, scheme, width, dicom):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page = open_page(width, scheme=scheme)
    red, green, blue = page.evaluate("() => getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
    assert (red + green + blue < 200) == (scheme == "dark")

    def check():
        found = axe.run(page).response["violations"]
        assert [fault["id"] for fault in found if fault["impact"] in ("serious", "critical")] == []

    check()
    page.get_by_role("button", name="Classify").click()
    wait(lambda: page.locator("#error").inner_text())
    check()
    page.get_by_label("Indication").fill("INDICATION: cough\nFINDINGS: none")
    drop(page, dicom)
    shown(page)
    classify(page)
    assert page.locator(".warnings li").count() == 1
    check()
    page.get_by_role("button", name="Edema", exact=True).click()
    wait(page.locator("#films img.heat").count)
    check()
    page.get_by_label("Indication").fill("fever")
    check()


def test_an_answer_and_an_error_are_announced(page, dicom):
    page.get_by_label("Indication").fill("cough")
    classify(page)
    wait(lambda: page.get_by_role("status").inner_text().startswith("Answer: "))
    assert page.get_by_role("alert").count() == 1
    assert page.get_by_role("list", name="Findings").count() == 1
    drop(page, dicom)
    shown(page)
    assert page.get_by_role("group", name="Film 1, as the server read it").count() == 1
    page.get_by_role("button", name="Remove film 1").click()
    assert focused(page) == "picker"


def test_the_model_card_is_one_click_away(page):
    with page.expect_popup() as popup:
        page.get_by_role("link", name="Model card").click()
    assert "The card of this evaluation" in popup.value.inner_text("body")


def test_another_picture_is_refused_in_words(browser, checked, make_png, tmp_path):
    from components.serve.config import ServeConfig
    from components.serve.golden import running_server

    picture = tmp_path / "picture.png"
    picture.write_bytes(make_png())
    with running_server(ServeConfig(), checked.bundle, checked.evaluation) as server:
        page = browser.new_page()
        page.goto(server.address)
        drop(page, picture)
        page.get_by_role("button", name="Classify").click()
        page.locator("#overall").wait_for()
        said = "No answer. The picture looks unlike the chest films that the model was trained on."
        assert page.locator("#overall").text_content() == said
        assert page.locator(".refused").is_visible()
        assert not page.locator("#findings").is_visible()
        page.get_by_text("What the model says all the same").click()
        assert page.locator("#findings").is_visible()
        words = page.locator("#findings .word").all_text_contents()
        assert set(words) == {"not valid"}
        text = page.evaluate("() => asText()")
        assert text.startswith(said)
        assert "not valid" in text
        page.screenshot(path=tmp_path / "refused.png", full_page=True)
        page.close()
