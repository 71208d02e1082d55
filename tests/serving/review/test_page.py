"""The reviewers' page in a real browser: by keyboard and by touch, in two tabs, through a server that dies."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.review_setup import Served
from fer_tf.data.ballots import CANNOT_TELL
from serving.review.store import SECOND
from serving.review.study import StudyOptions
from tests.serving.review.conftest import CHROMIUM, REVIEWERS, Command, write_annotations
from tests.serving.review.test_server import write_clip

pytestmark = pytest.mark.skipif(not CHROMIUM, reason="no Chromium; on Debian: apt-get install chromium")
OPEN = "#cannot-tell:not([disabled])"


def opened(context: Any, link: str, outside: list[str] | None = None) -> Any:
    """Returns the link's page once its clip can be answered."""
    page = context.new_page()
    page.set_default_timeout(60_000)
    if outside is not None:
        here = link.split("/r/")[0]
        page.on("request", lambda sent: outside.append(sent.url) if not sent.url.startswith((here, "data:")) else None)
        page.on("pageerror", lambda error: outside.append(str(error)))
        page.on("console", lambda said: outside.append(said.text) if said.type == "error" else None)
    page.goto(link)
    page.wait_for_selector(OPEN)
    return page


@pytest.fixture
def context(browser: Any) -> Iterator[Any]:
    made = browser.new_context(viewport={"width": 1360, "height": 860})
    yield made
    made.close()


def press(page: Any, key: str, done: int) -> None:
    """Votes by a key and waits until the page says that it is saved and shows the next clip."""
    page.keyboard.press(key)
    page.wait_for_selector(f"#count:has-text('{done} of')")
    assert page.inner_text("#said").startswith("Saved")


def screenshot(page: Any, name: str) -> None:
    """Keeps a picture of the page where FER_TF_SCREENSHOTS names a folder."""
    if os.environ.get("FER_TF_SCREENSHOTS"):
        page.screenshot(path=os.path.join(os.environ["FER_TF_SCREENSHOTS"], f"{name}.png"), full_page=True)


def test_a_study_is_answered_by_keyboard_alone_and_no_request_leaves_the_machine(served: Served, context: Any) -> None:
    outside: list[str] = []
    page = opened(context, served.link("anna"), outside)
    assert page.locator("#video").evaluate("video => !video.paused && video.loop && video.muted")
    assert page.locator("#video").get_attribute("src").startswith("clip/")
    page.keyboard.press(",")
    assert page.locator("#video").evaluate("video => video.playbackRate") == 0.5
    page.keyboard.press(".")
    assert page.locator("#video").evaluate("video => video.loop") is False
    page.keyboard.press("Enter")
    page.keyboard.type("a remark with 1 and 2")
    page.keyboard.press("Escape")
    press(page, "1", 1)
    page.wait_for_selector(OPEN)
    assert page.locator("#video").evaluate("video => [video.playbackRate, video.loop]") == [0.5, False]
    page.keyboard.press(" ")
    assert page.locator("#video").evaluate("video => video.paused")
    page.keyboard.press("ArrowRight")
    page.wait_for_selector(OPEN)
    press(page, "0", 2)
    page.keyboard.press("Control+z")
    page.wait_for_selector("#count:has-text('1 of')")
    page.wait_for_selector(OPEN)
    page.keyboard.press("Backspace")
    page.wait_for_selector("#count:has-text('0 of')")
    assert page.input_value("#remark") == "a remark with 1 and 2"
    for done in range(1, 9):
        page.wait_for_selector(OPEN)
        press(page, "0" if done == 8 else "2", done)
        if done == 3:
            screenshot(page, "desktop")
    page.wait_for_selector("#finished")
    assert "answered all 8 clips" in page.inner_text("#finished") and page.inner_text("#count") == "8 of 8"
    assert page.locator("#finished #said").is_visible() and page.inner_text("#said").startswith("Saved")
    screenshot(page, "finished")
    choices = [vote.choice for vote in served.store.votes()]
    assert choices == [served.study.labels[1]] * 7 + [CANNOT_TELL]
    assert served.store.votes()[0].remark == "a remark with 1 and 2"
    assert not outside, outside


def test_keys_that_are_typed_held_or_switched_off_do_not_vote(served: Served, context: Any) -> None:
    page = opened(context, served.link("anna"))
    page.fill("#remark", "")
    page.focus("#remark")
    page.keyboard.type("123")
    page.keyboard.press("Escape")
    page.uncheck("#keys")
    page.keyboard.press("2")
    page.check("#keys")
    page.keyboard.press("Control+2")
    page.keyboard.press("z")
    assert served.store.votes() == []
    page.keyboard.down("2")
    for _ in range(20):
        page.keyboard.down("2")
    page.wait_for_selector("#count:has-text('1 of')")
    page.wait_for_selector(OPEN)
    page.keyboard.down("2")
    page.wait_for_timeout(300)
    assert len(served.store.votes()) == 1


def test_a_vote_with_which_the_server_fails_is_told_and_the_reviewer_goes_on(served: Served, context: Any) -> None:
    page = opened(context, served.link("anna"))
    answers = [503] * 3 + [500] * 4
    asked: list[int] = []

    def fail(route: Any) -> None:
        asked.append(answers[len(asked)])
        route.fulfill(status=asked[-1], body="Internal Server Error")

    # Not for ever: 1, 2, 4 and then 8 seconds lie between them.
    page.clock.install()
    page.route("**/vote", fail)
    page.keyboard.press("1")
    while len(asked) < len(answers):
        page.wait_for_timeout(50)
        page.clock.run_for(8000)
    page.wait_for_selector("#said:has-text('Not counted: the server failed (500); if this stays, tell who')")
    page.unroute("**/vote")
    press(page, "1", 1)
    assert asked == answers and len(served.store.votes()) == 1


def test_two_tabs_of_one_reviewer_and_three_reviewers_at_once(served: Served, context: Any) -> None:
    first, second = opened(context, served.link("anna")), opened(context, served.link("anna"))
    others = [opened(context, served.link(name)) for name in ("ben", "chris")]
    press(first, "1", 1)
    # The second tab still shows the clip that the first has answered.
    second.keyboard.press("2")
    second.wait_for_selector("#said.problem")
    assert "answered in another tab" in second.inner_text("#said")
    assert f'stands as "{served.study.labels[0]}"' in second.inner_text("#said")
    second.wait_for_selector(OPEN)
    press(second, "2", 2)
    for page in others:
        press(page, "3", 1)
    assert [(vote.reviewer, vote.choice) for vote in served.store.votes()] == [
        ("anna", served.study.labels[0]),
        ("anna", served.study.labels[1]),
        ("ben", served.study.labels[2]),
        ("chris", served.study.labels[2]),
    ]
    for page in others:
        assert "anna" not in page.content()


def test_a_vote_waits_for_a_server_that_was_killed_and_is_saved_when_it_comes_back(
    options: StudyOptions, tmp_path: Path, context: Any
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    flags = [f"--annotations={options.annotations}", f"--videos_root={options.videos_root}", f"--port={port}"]
    flags += [f"--study={tmp_path / 'study'}", "--reviewers=anna"]
    server = Command(*flags)
    try:
        page = opened(context, server.links["anna"])
        full = {"state": "failed", "share": None, "type": "", "problem": "No space left on device", "passing": True}
        page.route("**/playable*", lambda route: route.fulfill(json=full))
        page.keyboard.press("1")
        page.wait_for_selector("#wait-text:has-text('The server cannot show this clip now: No space left on device')")
        # That is no reason to answer.
        assert page.locator("#cannot-tell").is_disabled()
        screenshot(page, "full_disk")
        page.unroute("**/playable*")
        page.route("**/playable*", lambda route: route.abort())
        page.wait_for_selector("#said:has-text('The server does not answer')")
        page.unroute("**/playable*")
        page.wait_for_selector(OPEN)
        # It answers again, which the page no longer denies.
        assert page.inner_text("#said") == "" and page.inner_text("#count").startswith("1 of")
        server.kill()
        page.keyboard.press("2")
        page.wait_for_selector("#said.problem")
        assert "Not saved yet" in page.inner_text("#said")
        screenshot(page, "not_saved")
        server = Command(*flags)
        page.wait_for_selector("#count:has-text('2 of')")
        assert page.inner_text("#said").startswith("Saved")
        page.close()
        # A browser that was closed goes on where it was.
        page = opened(context, server.links["anna"])
        assert page.inner_text("#count").startswith("2 of 8")
    finally:
        server.kill()


def test_a_clip_that_browsers_cannot_play_is_made_playable_with_progress_and_a_broken_one_can_be_passed(
    tmp_path: Path, context: Any
) -> None:
    root = tmp_path / "videos"
    root.mkdir()
    write_clip(root / "old.avi", "mpeg4", frames=400)
    (root / "broken.avi").write_bytes(b"RIFF nothing")
    rows = [
        {"video": name, "person": "P1", "expression": "happy", "pose": "front"} for name in ("old.avi", "broken.avi")
    ]
    options = StudyOptions(str(write_annotations(tmp_path / "a.csv", rows)), str(root), ("anna",))
    with contextlib.closing(Served(options, tmp_path)) as served:
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.goto(served.link("anna"))
        said: set[str] = set()
        for done in (1, 2):
            page.wait_for_selector(OPEN)
            if page.locator("#wait").is_visible():
                said.add(page.inner_text("#wait-text"))
                assert page.locator("#choices button").first.is_disabled()
                screenshot(page, "broken")
                press(page, "0", done)
            else:
                assert page.locator("#video").evaluate("video => video.videoWidth") == 128
                press(page, "1", done)
        assert len(said) == 1 and "cannot be played: not a video" in said.pop()
        assert sorted(vote.choice for vote in served.store.votes()) == [CANNOT_TELL, "happy"]


def test_a_browser_without_h264_is_given_webm(served: Served, context: Any) -> None:
    asked: list[str] = []

    def refuse(route: Any) -> None:
        # What a browser without the codec does with it: an error of the video element.
        route.fulfill(status=200, content_type="video/mp4", body=b"not a film")

    page = context.new_page()
    page.set_default_timeout(60_000)
    page.route("**/clip/*", lambda route: refuse(route) if "form=webm" not in route.request.url else route.continue_())
    page.on("request", lambda sent: asked.append(sent.url))
    page.goto(served.link("anna"))
    page.wait_for_selector(OPEN)
    assert page.locator("#video").get_attribute("src").endswith("?form=webm")
    assert page.locator("#video").evaluate("video => video.videoWidth") == 384


def test_fifty_four_expressions_are_found_by_name(options: StudyOptions, tmp_path: Path, context: Any) -> None:
    labels = [f"feeling {chr(97 + place // 26)}{chr(97 + place % 26)}" for place in range(48)]
    labels += ["angry", "disgust", "happy", "neutral", "sad", "surprise"]
    (tmp_path / "labels.txt").write_text("\n".join(labels))
    options = StudyOptions(options.annotations, options.videos_root, ("anna",), str(tmp_path / "labels.txt"))
    with contextlib.closing(Served(options, tmp_path)) as served:
        page = opened(context, served.link("anna"))
        assert page.locator("#choices button").count() == 54
        screenshot(page, "many")
        page.keyboard.press("/")
        page.keyboard.type("surp")
        assert page.locator("#choices button:visible").count() == 1
        press(page, "Enter", 1)
        assert served.store.votes()[0].choice == "surprise"
        page.wait_for_selector(OPEN)
        assert page.locator("#choices button:visible").count() == 54
        key = dict(zip(labels, served.study.keys, strict=True))["feeling bb"]
        press(page, key, 2)
        assert served.store.votes()[1].choice == "feeling bb"


@pytest.mark.parametrize(("name", "size"), [("tablet", (820, 1180)), ("phone", (390, 844))])
def test_everything_needed_fits_a_tablet_and_a_phone(
    served: Served, browser: Any, name: str, size: tuple[int, int]
) -> None:
    context = browser.new_context(viewport={"width": size[0], "height": size[1]}, has_touch=True, is_mobile=True)
    with contextlib.closing(context):
        page = opened(context, served.link("anna"))
        page.tap("#choices button >> nth=0")
        page.wait_for_selector("#said.saved")
        page.wait_for_selector(OPEN)
        screenshot(page, name)
        assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
        for button in page.locator("button:visible").all():
            box = button.bounding_box()
            assert box["height"] >= 43.9 and box["y"] + box["height"] <= size[1], button.inner_text()
        page.tap("#undo")
        page.wait_for_selector("#count:has-text('0 of')")


def test_the_second_round_shows_the_votes_and_takes_new_ones(served: Served, context: Any) -> None:
    for name in REVIEWERS:
        for place, clip_id in enumerate(served.study.clips):
            choice = "sad" if (place, name) == (2, "chris") else "happy"
            remark = "the lips <b>press</b>" if choice == "sad" else ""
            served.store.cast(name, clip_id, choice, request=f"{name}-{place}-request", remark=remark)
    served.store.open_second_round()
    page = context.new_page()
    page.set_default_timeout(60_000)
    page.goto(served.link("anna"))
    page.wait_for_selector("#finished")
    assert "all 8 clips. " in page.inner_text("#finished-text")
    assert ' 1 clip waits under "Discuss".' in page.inner_text("#finished-text")
    # Others have seen these votes.
    assert page.locator("#undo-last").is_disabled()
    page.click("#round-2")
    page.wait_for_selector(OPEN)
    screenshot(page, "second_round")
    assert page.locator("#told li").all_inner_texts() == [
        "anna (you): happy",
        "ben: happy",
        "chris: sad\nthe lips <b>press</b>",
    ]
    press(page, str(1 + served.study.labels.index("sad")), 1)
    assert [(vote.reviewer, vote.choice) for vote in served.store.votes(SECOND)] == [("anna", "sad")]
