"""The page in a real Chromium, and what a person does with it; conftest.py takes the fixtures from here."""

import shutil
import time

import numpy as np
import pytest

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
STORED = (np.arange(60 * 40, dtype=np.uint16).reshape(60, 40) * 7) % 4096
HEADER = {"ViewPosition": "PA", "PatientAge": "063Y"}


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("no Chromium here; Debian has it as the package chromium")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser, server):
    """Opens the page; in the end nothing may have gone wrong in it unseen."""
    complaints, contexts = [], []

    def open_page(width=1280, height=900, scheme="light"):
        context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.goto(server.address)
        page.get_by_role("button", name="Effusion, portable").wait_for()
        return page

    yield open_page
    for context in contexts:
        context.close()
    unexpected = [text for text in complaints if "Failed to load resource" not in text]
    assert not unexpected


@pytest.fixture
def page(open_page):
    return open_page()


@pytest.fixture
def dicom(tmp_path, dicom_bytes):
    path = tmp_path / "film.dcm"
    path.write_bytes(dicom_bytes(STORED, bits_stored=12, PhotometricInterpretation="MONOCHROME1", **HEADER))
    return path


def drop(page, *paths):
    """A drag from the desktop, as the browser gets it from the system."""
    page.locator("#drop").evaluate("node => node.scrollIntoView({ block: 'center' })")
    box = page.locator("#drop").bounding_box()
    point = {"x": box["x"] + 20, "y": box["y"] + 20}
    data = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
    session = page.context.new_cdp_session(page)
    for kind in ("dragEnter", "dragOver", "drop"):
        session.send("Input.dispatchDragEvent", {"type": kind, **point, "data": data})


def wait(check, seconds=20):
    deadline = time.monotonic() + seconds
    while not (found := check()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)
    return found


def shown(page, number=1):
    """Wait for that many pictures."""
    script = "() => [...document.querySelectorAll('#films img')].filter(i => i.complete && i.naturalWidth).length"
    wait(lambda: page.evaluate(script) == number)


def classify(page):
    page.get_by_role("button", name="Classify").click()
    page.locator("#findings li").first.wait_for()


def style(page, name):
    return page.locator("#films img").first.evaluate(f"node => node.style.{name}")


def focused(page):
    return page.evaluate("() => document.activeElement.id || document.activeElement.textContent")


def pixels(page, which="#films img", channel=0):
    """What the first picture holds."""
    values = page.evaluate(
        """([which, channel]) => {
          const image = document.querySelector(which), canvas = document.createElement('canvas');
          canvas.width = image.naturalWidth; canvas.height = image.naturalHeight;
          const context = canvas.getContext('2d');
          context.drawImage(image, 0, 0);
          const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
          return [canvas.height, ...data.filter((_, i) => i % 4 === channel)];
        }""",
        [which, channel],
    )
    return np.array(values[1:], np.uint8).reshape(values[0], -1)
