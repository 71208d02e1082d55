"""The page's addresses: who may see what, votes that outlive a killed server, and clips that browsers can play."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from benchmarks.review_setup import Served, ask, playable, vote
from fer_tf.data.ballots import CANNOT_TELL
from serving.review.app import MAX_BODY_BYTES
from serving.review.playback import Playback, _Worker
from serving.review.store import SECOND
from serving.review.study import StudyOptions
from tests.serving.review.conftest import REVIEWERS, Command, sample_rows, write_annotations


def command_for(options: StudyOptions, folder: Path) -> Command:
    flags = (f"--annotations={options.annotations}", f"--videos_root={options.videos_root}", f"--study={folder}")
    return Command(*flags, f"--reviewers={','.join(options.reviewers)}")


def test_a_killed_server_has_every_vote_that_it_said_was_saved(options: StudyOptions, tmp_path: Path) -> None:
    folder = tmp_path / "study"
    server = command_for(options, folder)
    said: list[tuple[str, str, str]] = []
    lock = threading.Lock()

    def answer(reviewer: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            while True:
                state = ask(f"{server.links[reviewer]}state")[1]
                if not state["clip"]:
                    return
                status, body = vote(server.links[reviewer], "happy", state)
                if status == 200:
                    with lock:
                        said.append((reviewer, body["saved"]["clip"], "happy"))
                    if len(said) == 10:
                        server.process.kill()

    threads = [threading.Thread(target=answer, args=(name,)) for name in REVIEWERS]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    server.kill()
    assert 10 <= len(said) < 24
    links = dict(server.links)
    server = command_for(options, folder)
    try:
        # The next day: the port may be another, the links' secrets are the same.
        assert {name: link.rsplit("/", 2)[1] for name, link in links.items()} == {
            name: link.rsplit("/", 2)[1] for name, link in server.links.items()
        }
        done = {name: ask(f"{server.links[name]}state")[1]["done"] for name in REVIEWERS}
        stored = sqlite3.connect(folder / "votes.sqlite3").execute("SELECT reviewer, clip FROM votes").fetchall()
        assert len(stored) == len(set(stored)) == sum(done.values())
        for name in REVIEWERS:
            # At most the one vote that was on its way may be there without having been confirmed.
            assert 0 <= done[name] - sum(reviewer == name for reviewer, _, _ in said) <= 1
    finally:
        server.kill()


def test_a_vote_whose_answer_was_lost_counts_once_when_it_is_sent_again(served: Served) -> None:
    link = served.link("anna")
    state = ask(f"{link}state")[1]
    said = {"clip": state["clip"]["code"], "choice": "happy", "round": 1, "request": "the-same-request"}
    answers = [ask(f"{link}vote", said) for _ in range(3)]
    assert [status for status, _ in answers] == [200] * 3
    assert answers[-1][1]["done"] == 1 and len(served.store.votes()) == 1


def test_a_second_tab_is_told_what_stands(served: Served) -> None:
    link = served.link("anna")
    both = ask(f"{link}state")[1]
    assert vote(link, "happy", both)[0] == 200
    status, body = vote(link, "sad", both)
    assert status == 409 and body["standing"]["choice"] == "happy" and body["done"] == 1
    assert body["clip"]["code"] != both["clip"]["code"]


def test_undo_shows_the_clip_again_and_only_the_last_vote_can_be_undone(served: Served) -> None:
    link = served.link("anna")
    first = ask(f"{link}state")[1]["clip"]["code"]
    one = vote(link, "happy", remark=" squints ")[1]
    two = vote(link, "sad")[1]
    assert ask(f"{link}undo", {"vote": one["saved"]["id"], "round": 1})[0] == 409
    status, body = ask(f"{link}undo", {"vote": two["saved"]["id"], "round": 1})
    assert status == 200 and body["clip"]["code"] == two["saved"]["clip"] and body["last"]["clip"] == first
    status, body = ask(f"{link}undo", {"vote": body["last"]["id"], "round": 1})
    assert status == 200 and body["clip"]["code"] == first and body["saved"]["remark"] == "squints"


def test_a_remark_with_half_a_sign_is_kept_with_a_mark_in_its_place(served: Served) -> None:
    link = served.link("anna")
    status, body = vote(link, "happy", remark="lips \ud83d, \U0001f600 \udc00")
    assert status == 200 and body["saved"]["remark"] == "lips \ufffd, \U0001f600 \ufffd"
    assert served.store.votes()[0].remark == body["saved"]["remark"]
    assert vote(link, "happy", request="\ud83d" * 8)[0] == 400


def test_nobody_learns_label_person_path_or_others_votes(
    options: StudyOptions, served: Served, rows: list[dict[str, str]]
) -> None:
    labels = {row["expression"] for row in rows}
    for choice in ("happy", CANNOT_TELL):
        vote(served.link("ben"), choice, remark="a remark of ben")
    link = served.link("anna")
    state = ask(f"{link}state")[1]
    assert set(state["clip"]) == {"code"} and {label["name"] for label in state["labels"]} == labels
    texts = [json.dumps(ask(f"{link}state{query}")[1]) for query in ("", "?round=2")]
    for text in texts:
        assert "ben" not in text and "remark of" not in text and "P0" not in text and ".mp4" not in text
    told = playable(link, state["clip"]["code"])
    assert told["state"] == "ready" and "mp4" not in json.dumps({**told, "type": ""})
    with urllib.request.urlopen(f"{link}clip/{state['clip']['code']}") as answer:
        names = str(answer.headers).lower()
    assert "disposition" not in names and "p0" not in names.replace("no-referrer", "")


def test_what_is_shown_on_demand(options: StudyOptions, tmp_path: Path, rows: list[dict[str, str]]) -> None:
    with contextlib.closing(Served(options, tmp_path, show_label=True, show_person=True)) as served:
        clip = ask(f"{served.link('anna')}state")[1]["clip"]
    row = next(row for row in rows if row["video"] == served.study.clip_of(clip["code"]).clip_id)
    assert (clip["label"], clip["person"]) == (row["expression"], row["person"])


def test_the_second_round_shows_votes_of_disputed_clips_alone(served: Served) -> None:
    links = {name: served.link(name) for name in REVIEWERS}
    clips = list(served.study.clips)
    for name in REVIEWERS:
        for place, clip_id in enumerate(clips[:7]):
            choice = "sad" if place == 3 and name == "chris" else "happy"
            served.store.cast(
                name, clip_id, choice, request=f"{name}-{place}-request", remark="lips" if place == 3 else ""
            )
    assert ask(f"{links['anna']}state?round=2")[1]["round"] == 1
    assert vote(links["anna"], "happy", round=SECOND)[0] == 409
    served.store.open_second_round()
    state = ask(f"{links['anna']}state?round=2")[1]
    assert (state["round"], state["total"], state["left_in_other_round"]) == (2, 1, 1)
    assert state["clip"]["votes"] == [
        {"reviewer": name, "choice": "sad" if name == "chris" else "happy", "remark": "lips"} for name in REVIEWERS
    ]
    # The clip that is still open in the first round stays blind.
    assert "votes" not in ask(f"{links['anna']}state?round=1")[1]["clip"]
    status, body = vote(links["anna"], "sad", state)
    assert status == 200 and body["clip"] is None and body["done"] == 1
    assert vote(links["anna"], "sad", {**state, "clip": {"code": served.study.code(clips[0])}})[0] == 409


@pytest.mark.parametrize(
    ("said", "status", "problem"),
    [
        (b"x" * (MAX_BODY_BYTES + 1), 413, "at most 16384 bytes"),
        (b"{", 400, "no JSON"),
        (b"[]", 400, "JSON object"),
        ({"choice": "bored"}, 400, "none of the expressions"),
        ({"clip": "0123456789abcdef"}, 404, "no such clip"),
        ({"clip": "../../etc/passwd"}, 404, "no such clip"),
        ({"clip": ["list"]}, 404, "no such clip"),
        ({"remark": "x" * 2001}, 400, "at most 2000 characters"),
        ({"request": "short"}, 400, "8 to 64 characters"),
        ({"round": 3}, 400, "`round` must be 1 or 2"),
        ({"seen": "no number"}, 400, "`seen` must be"),
    ],
)
def test_a_bad_request_says_what_is_wrong(served: Served, said: object, status: int, problem: str) -> None:
    link = served.link("anna")
    if isinstance(said, dict):
        code = ask(f"{link}state")[1]["clip"]["code"]
        said = {"clip": code, "choice": "happy", "request": "a-good-request", "round": 1, **said}
    received, body = ask(f"{link}vote", said)
    assert received == status and problem in body["problem"]
    assert served.store.votes() == []


@pytest.mark.parametrize("path", ["", "state", "clip/0123456789abcdef", "clip/0123456789abcdef/playable"])
def test_an_unknown_link_opens_nothing(served: Served, path: str) -> None:
    status, body = ask(f"{served.address}/r/AAAAAAAAAAAAAAAAAAAAAA/{path}")
    assert status == 404 and "this link is not known" in body["problem"]


def test_every_answer_forbids_outside_content_and_no_page_names_any(served: Served) -> None:
    pages = [served.link("anna"), f"{served.address}/page/page.js", f"{served.address}/page/page.css"]
    for page in pages:
        with urllib.request.urlopen(page) as answer:
            policy, text = answer.headers["content-security-policy"], answer.read().decode()
        assert "default-src 'none'" in policy and "http:" not in policy and "*" not in policy
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert "://" not in text.replace("http://www.w3.org", "")
    assert ask(f"{served.address}/page/app.py")[0] == 404
    assert ask(f"{served.address}/page/..%2fapp.py")[0] == 404


def test_ranges_are_answered_so_that_a_browser_can_seek(served: Served, samples: Path) -> None:
    link = served.link("anna")
    code = ask(f"{link}state")[1]["clip"]["code"]
    assert playable(link, code)["type"] == "video/mp4"
    whole = (samples / served.study.clip_of(code).clip_id).read_bytes()
    with urllib.request.urlopen(
        urllib.request.Request(f"{link}clip/{code}", headers={"range": "bytes=100-299"})
    ) as part:
        assert part.status == 206 and part.headers["content-range"] == f"bytes 100-299/{len(whole)}"
        assert part.read() == whole[100:300]


def write_clip(path: Path, codec: str, pix_fmt: str = "yuv420p", frames: int = 20) -> None:
    """A white square that moves from left to right on black."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 128, 96, pix_fmt
        stream.codec_context.time_base = Fraction(1, 25)
        for place in range(frames):
            image = np.zeros((96, 128, 3), np.uint8)
            image[40:60, 5 * place : 5 * place + 20] = 255
            frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format=pix_fmt)
            frame.pts, frame.time_base = place, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode())


@pytest.fixture
def odd_clips(tmp_path: Path) -> StudyOptions:
    """Clips that browsers do not play as they are, one that nobody can, and one that leads out of the root."""
    root = tmp_path / "videos"
    root.mkdir()
    write_clip(root / "old.avi", "mpeg4")
    write_clip(root / "deep.mp4", "libx264", "yuv444p")
    write_clip(root / "plain.mp4", "libx264")
    write_clip(root / "plain.webm", "libvpx")
    cv2.imwrite(str(root / "still.bmp"), np.full((50, 60, 3), 90, np.uint8))
    cv2.imwrite(str(root / "still.png"), np.full((50, 60, 3), 90, np.uint8))
    (root / "broken.mp4").write_bytes((root / "plain.mp4").read_bytes()[:400])
    write_clip(tmp_path / "secret.mp4", "libx264")
    (root / "outside.mp4").symlink_to(tmp_path / "secret.mp4")
    names = [path.name for path in sorted(root.iterdir())] + ["missing.mp4"]
    rows = [{"video": name, "person": "P1", "expression": "happy", "pose": "front"} for name in names]
    path = write_annotations(tmp_path / "annotations.csv", rows)
    return StudyOptions(annotations=str(path), videos_root=str(root), reviewers=("anna",))


def test_any_format_is_made_playable_once_and_kept(odd_clips: StudyOptions, tmp_path: Path) -> None:
    with contextlib.closing(Served(odd_clips, tmp_path)) as served:
        link = served.link("anna")
        told = {name: playable(link, served.study.code(name)) for name in served.study.clips}
        types = {name: what["type"] for name, what in told.items() if what["state"] == "ready"}
        assert types == {
            "old.avi": "video/mp4",
            "deep.mp4": "video/mp4",
            "plain.mp4": "video/mp4",
            "plain.webm": "video/webm",
            "still.bmp": "image/jpeg",
            "still.png": "image/jpeg",
        }
        problems = {name: what["problem"] for name, what in told.items() if what["state"] == "failed"}
        assert set(problems) == {"broken.mp4", "outside.mp4", "missing.mp4"}
        assert "out of the videos' root" in problems["outside.mp4"] and "truncated" in problems["broken.mp4"]
        assert ask(f"{link}clip/{served.study.code('outside.mp4')}")[0] == 404
        copies = list(served.playback.cache.iterdir())
        assert len(copies) == 4 and not any("old" in copy.name for copy in copies)
        # The copy shows what the clip shows, frame by frame.
        with urllib.request.urlopen(f"{link}clip/{served.study.code('old.avi')}") as answer:
            (tmp_path / "copy.mp4").write_bytes(answer.read())
        with av.open(str(tmp_path / "copy.mp4")) as copy:
            assert copy.streams.video[0].codec_context.name == "h264" and not copy.streams.audio
            frames = [frame.to_ndarray(format="gray") for frame in copy.decode(video=0)]
        assert len(frames) == 20
        left = [int(np.flatnonzero(frame[50] > 128)[0]) for frame in frames]
        assert all(abs(place - 5 * number) <= 2 for number, place in enumerate(left))
        assert playable(link, served.study.code("plain.mp4"), "webm")["type"] == "video/webm"
        written = {copy: copy.stat().st_mtime_ns for copy in served.playback.cache.iterdir()}
    with contextlib.closing(Served(odd_clips, tmp_path)) as served:
        assert playable(served.link("anna"), served.study.code("old.avi"))["state"] == "ready"
        assert {copy: copy.stat().st_mtime_ns for copy in served.playback.cache.iterdir()} == written


def test_a_clip_that_changes_is_copied_anew(odd_clips: StudyOptions, tmp_path: Path) -> None:
    playback = Playback(odd_clips.videos_root, str(tmp_path / "copies"))
    with contextlib.closing(playback):
        path = Path(odd_clips.videos_root) / "old.avi"

        def copy() -> str:
            while (found := playback.find("old.avi", "code")).state in ("waiting", "working"):
                threading.Event().wait(0.05)
            return found.path

        before = copy()
        write_clip(path, "mpeg4", frames=30)
        assert copy() != before


def test_a_clip_is_played_whatever_spelling_of_its_name_the_disk_has(tmp_path: Path) -> None:
    composed, apart = "Ren\u00e9e", "Rene\u0301e"
    (tmp_path / "videos" / apart).mkdir(parents=True)
    write_clip(tmp_path / "videos" / apart / "A.MP4", "libx264")
    (tmp_path / "videos" / "OUT").symlink_to(tmp_path)
    with contextlib.closing(Playback(str(tmp_path / "videos"), str(tmp_path / "copies"))) as playback:
        while (found := playback.find(f"{composed}/a.mp4", "code")).state in ("waiting", "working"):
            threading.Event().wait(0.05)
        assert found.path == str(tmp_path / "videos" / apart / "A.MP4")
        assert "leads out" in playback.find("out/annotations.csv", "other").problem


def test_what_the_machine_is_to_blame_for_is_tried_again_and_names_no_path(
    odd_clips: StudyOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.review.playback.AGAIN_SECONDS", 2.0)
    with contextlib.closing(Served(odd_clips, tmp_path)) as served:
        link, codes = served.link("anna"), [served.study.code(name) for name in ("old.avi", "still.png")]
        served.playback.cache.rename(tmp_path / "away")
        for code in codes:
            told = playable(link, code)
            assert (told["state"], told["passing"]) == ("failed", True), told
            assert told["problem"] == "No such file or directory"
        (tmp_path / "away").rename(served.playback.cache)
        for code in codes:
            while (told := playable(link, code))["state"] == "failed":
                threading.Event().wait(0.2)
            assert told["state"] == "ready" and not told["passing"]
        assert not playable(link, served.study.code("broken.mp4"))["passing"]


def test_a_decoder_that_dies_costs_its_clip_alone(odd_clips: StudyOptions, tmp_path: Path) -> None:
    with contextlib.closing(Served(odd_clips, tmp_path)) as served:
        link = served.link("anna")
        for worker in served.playback._workers:
            # As if a clip had crashed it before.
            process = worker._started()
            process.kill()
            process.wait()
        assert playable(link, served.study.code("old.avi"))["state"] == "ready"


def test_a_codec_that_hangs_ends_with_the_server_that_was_killed() -> None:
    hangs = (
        "import threading; from serving.review import transcode as t; "
        "t.answer = lambda: (print('hangs', flush=True), threading.Event().wait()); t.main()"
    )
    server = (
        "import os, subprocess as s, sys; "
        f"p = s.Popen([sys.executable, '-c', {hangs!r}], stdin=s.PIPE, stdout=s.PIPE, bufsize=0); "
        "p.stdin.write(b'{}\\n'); p.stdout.readline(); print(p.pid, flush=True); os.kill(os.getpid(), 9)"
    )
    told = subprocess.run([sys.executable, "-c", server], stdout=subprocess.PIPE, text=True, timeout=60)
    status = Path(f"/proc/{int(told.stdout)}/stat")
    deadline = time.monotonic() + 10
    while is_there := status.exists() and status.read_text().rsplit(")", 1)[1].split()[0] != "Z":
        if time.monotonic() > deadline:
            os.kill(int(told.stdout), signal.SIGKILL)
            break
        time.sleep(0.05)
    assert not is_there


def test_the_copying_tells_how_far_it_is(tmp_path: Path) -> None:
    write_clip(tmp_path / "long.avi", "mpeg4", frames=2000)
    worker = _Worker()
    steps = list(worker.steps({"source": str(tmp_path / "long.avi"), "target": str(tmp_path / "copy"), "form": "webm"}))
    worker.close()
    shares = [step["share"] for step in steps[:-1]]
    assert steps[-1] == {"kind": "end", "suffix": ".webm"} and (tmp_path / "copy.webm").exists()
    assert len(shares) > 1 and shares == sorted(shares) and 0 <= shares[0] < shares[-1] < 1


def test_a_list_of_the_papers_5418_clips_is_answered_from_first_to_last(samples: Path, tmp_path: Path) -> None:
    (row,) = sample_rows(samples, 1)
    rows = [{**row, "video": f"take_{place}/clip.mp4"} for place in range(5418)]
    options = StudyOptions(str(write_annotations(tmp_path / "a.csv", rows)), str(samples), ("anna",))
    with contextlib.closing(Served(options, tmp_path)) as served:
        left, _ = served.study.left("anna", 1)
        assert len(set(left)) == 5418
        with served.store._transaction():
            served.store._database.executemany(
                "INSERT INTO votes (reviewer, clip, round, choice, remark, request, at) VALUES (?, ?, 1, ?, '', ?, ?)",
                [("anna", clip_id, row["expression"], clip_id, 6.0 * place) for place, clip_id in enumerate(left[:-1])],
            )
        state = ask(f"{served.link('anna')}state")[1]
        assert (state["done"], state["total"], state["seconds_left"]) == (5417, 5418, 6)
        assert vote(served.link("anna"), row["expression"], state)[1]["clip"] is None
