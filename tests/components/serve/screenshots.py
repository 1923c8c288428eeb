"""Pictures of the page for the docs: `python -m tests.components.serve.screenshots ADDRESS docs`."""

import argparse
import io
import shutil
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

SHOTS = {"page.png": (1280, 1000), "page-phone.png": (390, 844)}
REFUSAL = "page-refusal.png"
EXAMPLE, FINDING = "Pneumothorax, two", "Pneumothorax"
FILM = Path(__file__).parents[3] / "components/serve/examples/example-3-1.jpg"
COLORS = 256


def main() -> None:
    """Try an example in a window of each size and keep what is seen."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("address", help="of the server, such as http://127.0.0.1:8000")
    parser.add_argument("out", type=Path, help="folder")
    options = parser.parse_args()
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for name, (width, height) in SHOTS.items():
            page = browser.new_page(viewport={"width": width, "height": height})
            page.goto(options.address)
            _try(page)
            page.evaluate("() => window.innerWidth > 960 && scrollTo(0, 0)")
            _keep(page, options.out / name)
        page = browser.new_page(viewport={"width": 1280, "height": 760})
        page.goto(options.address)
        _refused(page)
        _keep(page, options.out / REFUSAL)
        browser.close()


def _keep(page: Page, place: Path) -> None:
    page.wait_for_timeout(500)
    Image.open(io.BytesIO(page.screenshot())).convert("RGB").quantize(COLORS).save(place, optimize=True)
    print(f"{place}: {place.stat().st_size} bytes")


def _refused(page: Page) -> None:
    """Ask about a film that stands on its head."""
    turned = io.BytesIO()
    Image.open(FILM).rotate(180).save(turned, "PNG")
    page.locator("input[type=file]").first.set_input_files(
        {"name": "turned.png", "mimeType": "image/png", "buffer": turned.getvalue()}
    )
    page.get_by_role("button", name="Classify").click()
    page.get_by_text("No answer").first.wait_for()
    page.evaluate("() => scrollTo(0, 0)")


def _try(page: Page) -> None:
    page.get_by_role("button", name=EXAMPLE).click()
    page.locator("#findings li").first.wait_for()
    for i in range(2):
        page.locator("#films img").nth(i).wait_for()
    page.get_by_role("button", name=FINDING, exact=True).click()
    for i in range(2):
        page.locator("#films img.heat").nth(i).wait_for()


if __name__ == "__main__":
    main()
