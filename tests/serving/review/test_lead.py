"""The lead's page, and a whole study: three scripted reviewers, planted disagreements, export, build, kappa by hand."""

from __future__ import annotations

import contextlib
import csv
import io
import re
import urllib.error
import urllib.request
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from beam_pipelines import chunks
from benchmarks.review_setup import Served, ask, vote
from fer_tf.data.annotations import AnnotationOptions
from fer_tf.data.ballots import CANNOT_TELL
from serving.review.store import SECOND
from serving.review.study import StudyOptions
from tests.serving.review.conftest import CHROMIUM, REVIEWERS
from tests.serving.review.test_page import OPEN, opened, screenshot

needs_browser = pytest.mark.skipif(not CHROMIUM, reason="no Chromium; on Debian: apt-get install chromium")


def lead(served: Served) -> str:
    return f"{served.address}/lead/{served.store.lead_token}/"


def read(address: str, content: bytes | None = None) -> str:
    with urllib.request.urlopen(urllib.request.Request(address, content), timeout=60) as answer:
        return answer.read().decode()


def planted(served: Served) -> dict[str, tuple[str, str, str]]:
    """For each clip what anna, ben and chris answer."""
    answers = {}
    for place, (clip_id, clip) in enumerate(served.study.clips.items()):
        label = clip.expression
        other = next(name for name in served.study.labels if name != label)
        pattern = {0: (label, label, other), 1: (other, label, other), 2: (label, CANNOT_TELL, label)}
        answers[clip_id] = pattern.get(place, (label, label, label))
    return answers


def cast_all(served: Served, answers: dict[str, tuple[str, str, str]]) -> None:
    for clip_id, choices in answers.items():
        for name, choice in zip(REVIEWERS, choices, strict=True):
            served.store.cast(
                name, clip_id, choice, request=f"{name}/{clip_id}", remark="brows" * (choice == CANNOT_TELL)
            )


def kappa_by_hand(answers: dict[str, tuple[str, str, str]]) -> Fraction:
    """Fleiss' kappa of three votes a clip, in fractions."""
    agreeing = sum(sum(a == b for a, b in ((x, y), (y, z), (x, z))) for x, y, z in answers.values())
    observed = Fraction(agreeing, 3 * len(answers))
    votes = [choice for choices in answers.values() for choice in choices]
    expected = sum(Fraction(votes.count(name), len(votes)) ** 2 for name in set(votes))
    return (observed - expected) / (1 - expected)


@needs_browser
def test_a_study_played_through_by_three_reviewers_ends_as_calculated_by_hand(
    served: Served, browser: Any, tmp_path: Path
) -> None:
    answers = planted(served)
    contexts = [browser.new_context() for _ in REVIEWERS]
    pages = [opened(context, served.link(name)) for context, name in zip(contexts, REVIEWERS, strict=True)]
    for done in range(1, 9):
        # All three at once, each in an order of their own.
        for side, page in enumerate(pages):
            page.wait_for_selector(OPEN)
            code = re.search(r"clip/(\w+)", page.locator("#video").get_attribute("src")).group(1)
            choice = answers[served.study.clip_of(code).clip_id][side]
            page.click(f".choice[data-choice='{choice}']")
        for page in pages:
            page.wait_for_selector(f"#count:has-text('{done} of 8')")
    for context in contexts:
        context.close()

    context = browser.new_context(viewport={"width": 1200, "height": 900})
    with contextlib.closing(context):
        page = context.new_page()
        outside: list[str] = []
        page.on("request", lambda sent: outside.append(sent.url) if not sent.url.startswith(served.address) else None)
        page.on("console", lambda said: outside.append(said.text) if said.type == "error" else None)
        page.goto(lead(served))
        screenshot(page, "lead")
        kappa = f"{float(kappa_by_hand(answers)):.3f}"
        assert kappa in page.locator("#agreement tr:has-text('Fleiss')").inner_text()
        assert page.locator("#kept tr:has-text('unanimous')").inner_text().split()[-3:] == ["5", "62.5", "%"]
        assert page.locator("#kept tr:has-text('majority')").inner_text().split()[-3:] == ["7", "87.5", "%"]
        assert page.locator(".clip").count() == 3
        with page.expect_download() as downloading:
            page.click("text=Annotations with the votes")
        downloading.value.save_as(tmp_path / "reviewed.csv")
        page.click("summary >> nth=0")
        page.locator(".clip video").first.evaluate("video => video.play()")
        page.wait_for_timeout(300)
        assert page.locator(".clip video").first.evaluate("video => video.videoWidth") == 384
        assert not outside, outside
    kept = {"unanimous": set(), "majority": set()}
    for clip_id, choices in answers.items():
        right = choices.count(served.study.clips[clip_id].expression)
        kept["unanimous"] |= {clip_id} if right == 3 else set()
        kept["majority"] |= {clip_id} if right >= 2 else set()
    for review, expected in kept.items():
        folder = str(tmp_path / review)
        census = chunks.partition(str(tmp_path / "reviewed.csv"), folder, AnnotationOptions(review=review))
        found = {clip.clip_id for chunk in census.chunks for clip in chunks.read_clips(folder, chunk)}
        assert found == expected, review
        assert sum(census.ballots.counts.values()) == 8


def test_the_lead_sees_progress_disputes_and_both_rounds(served: Served) -> None:
    answers = planted(served)
    cast_all(served, answers)
    page = read(lead(served))
    assert "8 of 8" in page and "Open the second round" in page and "After the second round" not in page
    disputed = list(answers)[:3]
    assert all(clip_id in page for clip_id in disputed) and list(answers)[3] not in page
    assert "cannot tell" in page and "brows" in page
    # The lead alone opens the second round, and both rounds are told apart afterwards.
    page = read(f"{lead(served)}second_round", b"sure=yes")
    assert served.store.second_round and "After the second round" in page
    for name in REVIEWERS:
        for clip_id in disputed:
            label = served.study.clips[clip_id].expression
            served.store.cast(name, clip_id, label, request=f"again/{name}/{clip_id}", round=SECOND)
    page = read(lead(served))
    assert f"{float(kappa_by_hand(answers)):.3f}" in page
    assert ", then <b>" in page and "3 of 3" in page
    assert re.search(r"After the second round.*?unanimous.*?<span>8</span>", page, re.S)
    rows = list(csv.DictReader(io.StringIO(read(f"{lead(served)}disagreements.csv"))))
    assert [row["video"] for row in rows] == disputed and rows[2]["remark_ben"] == "brows"
    exported = list(csv.DictReader(io.StringIO(read(f"{lead(served)}export.csv"))))
    assert all(row["reviewer_chris"] == row["expression"] for row in exported) and len(exported) == 8


def test_the_numbers_follow_the_votes(served: Served) -> None:
    assert "too few votes" in read(lead(served))
    answers = planted(served)
    cast_all(served, {clip_id: answers[clip_id] for clip_id in list(answers)[:4]})
    before = f"{float(kappa_by_hand(dict(list(answers.items())[:4]))):.3f}"
    assert before in read(lead(served))
    cast_all(served, {clip_id: answers[clip_id] for clip_id in list(answers)[4:]})
    after = f"{float(kappa_by_hand(answers)):.3f}"
    assert after != before and after in read(lead(served))


def test_a_reviewers_link_opens_nothing_of_the_leads_and_the_leads_none_of_theirs(served: Served) -> None:
    token = served.store.reviewers()["anna"]
    for path in ("", "export.csv", "disagreements.csv"):
        assert ask(f"{served.address}/lead/{token}/{path}")[0] == 404
    assert ask(f"{served.address}/lead/{token}/second_round", b"sure=yes")[0] == 404
    assert not served.store.second_round
    assert ask(f"{served.address}/r/{served.store.lead_token}/state")[0] == 404


def test_the_lead_is_told_which_clips_cannot_be_played(options: StudyOptions, tmp_path: Path) -> None:
    with contextlib.closing(Served(options, tmp_path)) as served:
        served.playback._root = str(tmp_path)
        state = ask(f"{served.link('anna')}state")[1]
        clip_id = served.study.clip_of(state["clip"]["code"]).clip_id
        page = read(lead(served))
        assert "Clips that cannot be played" in page and f"{clip_id}: No such file" in page
        vote(served.link("anna"), CANNOT_TELL)
        with pytest.raises(urllib.error.HTTPError, match="404"):
            read(f"{lead(served)}clip/{state['clip']['code']}")
