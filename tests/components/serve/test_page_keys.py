"""The page before a server that wants an API key."""

import pytest

from components.serve.config import ServeConfig
from components.serve.golden import running_server
from components.serve.keys import add_key, new_key

pytestmark = pytest.mark.slow


def test_the_page_asks_for_the_key_once_and_keeps_it_in_memory_alone(browser, evaluated, tmp_path):
    add_key(tmp_path / "keys", "somebody", new_key())
    with running_server(ServeConfig(keys=str(tmp_path / "keys")), evaluated.bundle, evaluated.evaluation) as server:
        page = browser.new_page()
        page.set_default_timeout(30_000)
        page.goto(server.address)
        dialog = page.get_by_role("dialog")
        assert "wants an API key" in dialog.inner_text()
        page.locator("#key").fill("wrong")
        page.keyboard.press("Enter")
        page.get_by_text("The server does not know that key.").wait_for()
        page.locator("#key").fill(server.key)
        page.keyboard.press("Enter")
        page.get_by_role("button", name="Effusion, portable").click()
        page.locator("#findings li").first.wait_for()
        assert not dialog.is_visible()
        with page.expect_popup() as opened:
            page.get_by_role("link", name="Model card").click()
        assert "The card of this evaluation" in opened.value.content()
        kept = page.evaluate(
            "() => JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie, location.href])"
        )
        assert server.key not in kept + page.content()
        page.reload()
        page.get_by_text("This server wants an API key.").wait_for()
        page.get_by_role("button", name="Cancel").click()
        page.get_by_text("Reload the page to enter one.").wait_for()
        page.close()
        assert server.key not in server.log.read_text()
