"""Pictures of the page for the docs: `python -m tests.components.serve.screenshots ADDRESS docs`."""

import argparse
import io
import shutil
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

SHOTS = {"page.png": (1280, 1000), "page-phone.png": (390, 844)}
EXAMPLE = "Pneumothorax, two"
COLORS = 96


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
            page.wait_for_timeout(500)
            small = Image.open(io.BytesIO(page.screenshot())).convert("RGB").quantize(COLORS)
            small.save(options.out / name, optimize=True)
            print(f"{options.out / name}: {(options.out / name).stat().st_size} bytes")
        browser.close()


def _try(page: Page) -> None:
    page.get_by_role("button", name=EXAMPLE).click()
    page.locator("#findings li").first.wait_for()
    for i in range(2):
        page.locator("#films img").nth(i).wait_for()


if __name__ == "__main__":
    main()
