"""The page works in a real browser, alone: no request leaves the machine."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from fer_tf.recognition.server import Connection
from serving import demo
from tests.serving.conftest import EXPRESSIONS

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
EXPLORER = demo.Explorer
needs_browser = pytest.mark.skipif(not CHROMIUM, reason="no Chromium; on Debian: apt-get install chromium")


@pytest.fixture(scope="module")
def launched(exported: str, address: str, samples: Path) -> Iterator[tuple[str, demo.Explorer]]:
    config = demo.DemoConfig(
        server=address, model_base_path=exported, samples=str(samples), port=0, timeout=60, max_upload_mb=2
    )
    made: list[demo.Explorer] = []
    monkey = pytest.MonkeyPatch()
    monkey.setattr(demo, "Explorer", lambda *given: made.append(EXPLORER(*given)) or made[0])
    with Connection(address, timeout_s=60) as connection:
        page, url = demo.launch(config, connection)
        yield url, made[0]
        page.close()
    monkey.undo()


@pytest.mark.parametrize("host", ["::1", "[::1]"])
def test_the_page_is_there_on_ipv6_too_behind_a_proxy_and_on_a_busy_machine(
    exported: str, address: str, samples: Path, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = demo.DemoConfig(server=address, model_base_path=exported, samples=str(samples), port=0, host=host)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "example.com")
    # What the page's framework finds when its first page takes more than three seconds.
    monkeypatch.setattr("gradio.networking.url_ok", lambda url: False)
    with Connection(address, timeout_s=60) as connection:
        with pytest.MonkeyPatch.context() as proxied:
            proxied.setenv("http_proxy", "http://127.0.0.1:9")
            page, url = demo.launch(config, connection)
        try:
            assert url.startswith("http://[::1]:") and urllib.request.urlopen(url, timeout=30).status == 200
        finally:
            page.close()


def test_sigterm_deletes_what_visitors_gave_the_page(
    exported: str, address: str, samples: Path, tmp_path: Path
) -> None:
    flags = [f"--server={address}", f"--model_base_path={exported}", f"--samples={tmp_path}", "--port=0"]
    process = subprocess.Popen(
        # As a user begins it: forked processes do nothing at their exit.
        [sys.executable, "-m", "serving.demo", *flags],
        env=os.environ | {"GRADIO_TEMP_DIR": str(tmp_path / "made")},
        stdout=subprocess.PIPE,
        text=True,
    )
    with process, contextlib.ExitStack() as stack:
        stack.callback(process.kill)
        url = process.stdout.readline().split()[1]
        subprocess.run(["curl", "-sF", f"files=@{samples / 'photo.jpg'}", f"{url}gradio_api/upload"], check=True)
        assert list(tmp_path.rglob("photo.jpg"))
        process.terminate()
        assert process.wait(60) == 128 + signal.SIGTERM
    assert not list((tmp_path / "made").iterdir())


@pytest.fixture(scope="module")
def page_url(launched: tuple[str, demo.Explorer]) -> str:
    return launched[0]


@pytest.fixture(scope="module")
def explorer(launched: tuple[str, demo.Explorer]) -> demo.Explorer:
    return launched[1]


@pytest.fixture(scope="module")
def playwright() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as running:
        yield running


@pytest.fixture(scope="module")
def browser(playwright: Any) -> Iterator[Any]:
    opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
    yield opened
    opened.close()


@needs_browser
def test_a_sample_gets_boxes_bars_heat_map_and_card_without_outside_requests(
    page_url: str, browser: Any, tmp_path: Path
) -> None:
    page = browser.new_page(viewport={"width": 1360, "height": 1000})
    page.set_default_timeout(60_000)
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


def two_people(samples: Path) -> list[np.ndarray]:
    """Two sample clips beside each other, 12 frames of two faces."""
    clips = []
    for person in ("P001", "P003"):
        with av.open(str(samples / "take_1" / person / "happy" / "front.mp4")) as container:
            clips.append([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    return [np.hstack(pair) for pair in zip(*clips, strict=True)]


def write_clip(path: Path, frames: Iterable[np.ndarray]) -> Path:
    with av.open(str(path), "w") as out:
        stream = None
        for number, rgb in enumerate(frames):
            if stream is None:
                stream = out.add_stream("libx264", rate=25, options={"crf": "18"})
                stream.height, stream.width, stream.pix_fmt = *rgb.shape[:2], "yuv420p"
                stream.codec_context.time_base = Fraction(1, 25)
            frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path


def video_tab(browser: Any, page_url: str, clip: Path, outside: list[str] | None = None) -> Any:
    """Opens the Video tab with a clip uploaded."""
    page = browser.new_page(viewport={"width": 1360, "height": 1000})
    page.set_default_timeout(60_000)
    if outside is not None:
        here = (page_url.rstrip("/"), "data:", "blob:")
        page.on("request", lambda sent: outside.append(sent.url) if not sent.url.startswith(here) else None)
        page.on("pageerror", lambda error: outside.append(str(error)))
    page.goto(page_url)
    page.get_by_role("tab", name="Video").click()
    page.locator("#video input[type=file]").first.set_input_files(str(clip))
    return page


def shot(page: Any, name: str) -> None:
    """Keeps a picture of the page where FER_TF_SCREENSHOTS names a folder."""
    if os.environ.get("FER_TF_SCREENSHOTS"):
        page.screenshot(path=os.path.join(os.environ["FER_TF_SCREENSHOTS"], f"{name}.png"), full_page=True)


@needs_browser
def test_a_picture_that_is_perhaps_no_face_is_marked_on_the_page(
    page_url: str, browser: Any, explorer: demo.Explorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = explorer._connection.classify
    monkeypatch.setattr(
        explorer._connection,
        "classify",
        lambda faces: [dataclasses.replace(answer, is_face=0.1) for answer in ask(faces)],
    )
    page = browser.new_page(viewport={"width": 1360, "height": 1000})
    page.set_default_timeout(60_000)
    page.goto(page_url)
    page.locator("#samples img").first.click()
    page.get_by_text("(perhaps no face)").wait_for()
    page.get_by_text("is_face is 0.10").first.wait_for()
    shot(page, "perhaps_no_face")
    page.close()


@needs_browser
def test_a_clip_gives_numbered_faces_a_plot_that_follows_the_player_a_table_and_a_drawn_clip(
    page_url: str, browser: Any, tmp_path: Path, samples: Path
) -> None:
    outside: list[str] = []
    page = video_tab(browser, page_url, write_clip(tmp_path / "two.mp4", two_people(samples)), outside)
    page.wait_for_selector("#video video")
    page.click("#video_run")
    page.wait_for_selector("#series .plot svg")
    assert "2 faces followed" in page.inner_text("#video_status")
    with page.expect_download() as downloading:
        page.click("#video_csv")
    with open(downloading.value.path(), newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["face"] for row in rows} == {"1", "2"}
    with page.expect_download() as downloading:
        page.click("#video_clip")
    with av.open(str(downloading.value.path())) as drawn:
        assert drawn.streams.video[0].codec_context.name == "h264"
        assert sum(1 for _ in drawn.decode(video=0)) == 12
    player, cursor = page.locator("#series video"), page.locator("#series .cursor")
    for face in ("2", "1"):
        page.click(f"#series .faces button[data-face='{face}']")
        for row in [row for row in rows if row["face"] == face][:2]:
            before = cursor.get_attribute("x1")
            player.evaluate("(video, time) => { video.pause(); video.currentTime = time; }", float(row["time"]) + 0.02)
            page.wait_for_function(
                "([before]) => document.querySelector('#series .cursor').getAttribute('x1') !== before", arg=[before]
            )
            names = page.locator("#series .legend span").all_inner_texts()
            readings = [int(text.split()[0]) for text in page.locator("#series .legend b").all_inner_texts()]
            assert sorted(names) == sorted(EXPRESSIONS)
            for name, reading in zip(names, readings, strict=True):
                assert abs(reading - 100 * float(row[name])) < 0.52, (face, row["time"], name)
    # The plot moves the player as well, by a click and by keys.
    place = page.locator("#series .plot > svg").bounding_box()
    page.mouse.click(place["x"] + place["width"] / 2, place["y"] + place["height"] / 2)
    assert 0.1 < player.evaluate("video => video.currentTime") < 0.4
    page.locator("#series .plot > svg").press("Home")
    assert player.evaluate("video => video.currentTime") == 0
    shot(page, "video_tab")
    assert not outside, outside
    page.close()


@needs_browser
def test_a_clip_can_be_cancelled_the_next_one_waits_in_line_and_nothing_is_left_behind(
    page_url: str,
    browser: Any,
    tmp_path: Path,
    samples: Path,
    explorer: demo.Explorer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ask, cancelled = explorer.videos._ask, threading.Event()

    def slowly(*args: Any) -> Any:
        # The first clip must still be looked at when it is cancelled, however fast the machine and slow the browser is.
        cancelled.wait(1.0)
        return ask(*args)

    monkeypatch.setattr(explorer.videos, "_ask", slowly)
    long = write_clip(tmp_path / "long.mp4", two_people(samples) * 30)
    first = video_tab(browser, page_url, long)
    second = video_tab(browser, page_url, samples / "take_1/P001/sad/front.mp4")
    for page in (first, second):
        page.wait_for_selector("#video video")
    first.click("#video_run")
    first.wait_for_selector("#video_status progress")
    second.click("#video_run")
    second.wait_for_selector("#video_status :text('queue')")
    shot(second, "video_queue")
    first.wait_for_selector("#video_status :text('looked at')")
    first.click("#video_cancel")
    first.wait_for_selector("#video_status :text('Cancelled')")
    cancelled.set()
    second.wait_for_selector("#video_status :text('1 face followed')")
    assert not first.locator("#series .plot").count()

    def left() -> list[set[str]]:
        # Not listdir: a folder may go while it is looked at.
        found = [set(names) for folder, _, names in os.walk(explorer.videos.folder) if folder != explorer.videos.folder]
        return [names for names in found if names != {"annotated.mp4", "expressions.csv"}]

    # On a busy machine the cancelled look ends after the page has said so.
    until = time.monotonic() + 30
    while left() and time.monotonic() < until:
        time.sleep(0.1)
    assert not left()
    for page in (first, second):
        page.close()


@needs_browser
def test_a_clip_that_is_none_or_too_large_is_refused_with_the_reason(
    page_url: str, browser: Any, tmp_path: Path
) -> None:
    (tmp_path / "broken.mp4").write_bytes(b"no film" * 1000)
    page = video_tab(browser, page_url, tmp_path / "broken.mp4")
    page.wait_for_selector("#video video", state="attached")
    page.click("#video_run")
    page.wait_for_selector("#video_status :text('Not looked at: not a video')")
    page.close()
    (tmp_path / "large.mp4").write_bytes(bytes(3 << 20))
    page = video_tab(browser, page_url, tmp_path / "large.mp4")
    page.get_by_text("exceed the maximum allowed size of 2.0 Mb").first.wait_for()
    page.close()


@needs_browser
def test_a_webcam_recording_is_followed(page_url: str, playwright: Any, tmp_path: Path, samples: Path) -> None:
    # What Chromium takes for a camera: raw frames of a face.
    frame = cv2.cvtColor(cv2.imread(str(samples / "photo.jpg")), cv2.COLOR_BGR2YUV_I420)
    header = f"YUV4MPEG2 W{frame.shape[1]} H{frame.shape[0] * 2 // 3} F10:1 Ip A1:1 C420jpeg\n".encode()
    (tmp_path / "camera.y4m").write_bytes(header + (b"FRAME\n" + frame.tobytes()) * 10)
    flags = ["--no-sandbox", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    flags.append(f"--use-file-for-fake-video-capture={tmp_path / 'camera.y4m'}")
    chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
    page = chromium.new_context(permissions=["camera", "microphone"]).new_page()
    page.set_default_timeout(60_000)
    page.goto(page_url)
    page.get_by_role("tab", name="Video").click()
    page.click("#video button[aria-label='Capture from camera']")
    page.get_by_text("Click to Access Webcam").click()
    page.locator("#video").get_by_text("Record").click()
    page.wait_for_timeout(1500)
    page.locator("#video").get_by_text("Stop").click()
    page.wait_for_selector("#video video[src]")
    page.click("#video_run")
    page.wait_for_selector("#video_status :text('1 face followed')")
    chromium.close()


@needs_browser
def test_a_click_on_a_face_of_several_shows_its_bars_and_heat_map(
    page_url: str, browser: Any, tmp_path: Path, samples: Path, explorer: demo.Explorer
) -> None:
    path = tmp_path / "two.png"
    rgb = two_people(samples)[-1]
    cv2.imwrite(str(path), rgb[..., ::-1])
    page = browser.new_page(viewport={"width": 1360, "height": 1000})
    page.set_default_timeout(60_000)
    page.goto(page_url)
    page.locator("#picture input[type=file]").first.set_input_files(str(path))
    page.locator("#heat img").wait_for()
    _, faces, _ = explorer.look(rgb)
    place = page.locator("#drawing img").bounding_box()
    scale = min(place["width"] / rgb.shape[1], place["height"] / rgb.shape[0])
    for number in (2, 1):
        heat = page.locator("#heat img").get_attribute("src")
        # The picture stands in the middle of its place.
        at = (faces[number - 1].box[:2] + faces[number - 1].box[2:] / 2 - np.array(rgb.shape[1::-1]) / 2) * scale
        page.mouse.click(place["x"] + place["width"] / 2 + at[0], place["y"] + place["height"] / 2 + at[1])
        page.wait_for_function(
            "([number, heat]) => document.querySelector('#which input:checked').value.startsWith(number + ':') "
            "&& document.querySelector('#heat img').getAttribute('src') !== heat",
            arg=[number, heat],
        )
    page.close()


@needs_browser
def test_an_uploaded_picture_without_a_face_says_so(page_url: str, browser: Any, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "empty.png"), np.full((200, 200, 3), 128, np.uint8))
    page = browser.new_page()
    page.set_default_timeout(60_000)
    page.goto(page_url)
    page.locator("#picture input[type=file]").first.set_input_files(str(tmp_path / "empty.png"))
    page.get_by_text("No face was found").first.wait_for()
    page.close()


def test_the_page_answers_this_machine_alone_and_forbids_outside_content(page_url: str) -> None:
    assert page_url.startswith("http://127.0.0.1:")
    with urllib.request.urlopen(page_url) as answer:
        assert "default-src 'self'" in answer.headers["content-security-policy"]
