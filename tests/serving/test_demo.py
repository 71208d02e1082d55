"""The page works in a real browser, alone: no request leaves the machine."""

from __future__ import annotations

import os
import shutil
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fer_tf.recognition.server import Connection
from serving import demo
from tests.serving.conftest import EXPRESSIONS, write_wide_clip

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_browser = pytest.mark.skipif(not CHROMIUM, reason="no Chromium; on Debian: apt-get install chromium")


@pytest.fixture(scope="module")
def page_url(exported: str, address: str, samples: Path) -> Iterator[str]:
    config = demo.DemoConfig(server=address, model_base_path=exported, samples=str(samples), port=0, timeout=60)
    with Connection(address, timeout_s=60) as connection:
        page, url = demo.launch(config, connection)
        yield url
        page.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@needs_browser
def test_a_sample_gets_boxes_bars_heat_map_and_card_without_outside_requests(
    page_url: str, browser: Any, tmp_path: Path
) -> None:
    page = browser.new_page(viewport={"width": 1360, "height": 1000})
    page.set_default_timeout(120_000)
    outside: list[str] = []

    def watch(request: Any) -> None:
        if not request.url.startswith((page_url.rstrip("/"), "data:", "blob:")):
            outside.append(request.url)

    # Also those that the content policy or a missing network stops.
    page.on("request", watch)
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(page_url)
    page.locator("#samples img").first.click()
    page.locator("#drawing img").wait_for()
    page.locator("#heat img").wait_for()
    bars = page.locator("#bars").inner_text()
    assert sum(name in bars for name in EXPRESSIONS) == 4, bars
    page.screenshot(path=os.environ.get("FER_TF_SCREENSHOT", str(tmp_path / "page.png")))
    page.get_by_role("tab", name="Model card").click()
    page.locator("#card").wait_for()
    assert "angry, happy, sad, surprise" in page.locator("#card").inner_text()
    assert not outside, outside
    assert not errors, errors
    page.close()


@needs_browser
def test_an_uploaded_picture_without_a_face_says_so(page_url: str, browser: Any, tmp_path: Path) -> None:
    import cv2
    import numpy as np

    cv2.imwrite(str(tmp_path / "empty.png"), np.full((200, 200, 3), 128, np.uint8))
    page = browser.new_page()
    page.set_default_timeout(120_000)
    page.goto(page_url)
    page.locator("#picture input[type=file]").first.set_input_files(str(tmp_path / "empty.png"))
    page.get_by_text("No face was found").first.wait_for()
    page.close()


def test_the_page_answers_this_machine_alone_and_forbids_outside_content(page_url: str) -> None:
    assert page_url.startswith("http://127.0.0.1:")
    with urllib.request.urlopen(page_url) as answer:
        assert "default-src 'self'" in answer.headers["content-security-policy"]


def test_samples_show_several_people_and_poses(samples: Path) -> None:
    shown = demo.sample_pictures(str(samples))
    assert 6 <= len(shown) <= 12
    assert len({caption for _, caption in shown}) > 4
    assert all(picture.ndim == 3 and picture.shape[2] == 3 for picture, _ in shown)


def test_a_sample_of_pixels_that_are_not_square_is_not_squeezed(tmp_path: Path) -> None:
    write_wide_clip(tmp_path / "wide.mp4")
    ((picture, _),) = demo.sample_pictures(str(tmp_path))
    assert picture.shape == (96, 171, 3)
