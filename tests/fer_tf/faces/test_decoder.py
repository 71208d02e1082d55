"""The decoder's process itself: when it hangs, dies, is closed or left, and beside others."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from fer_tf.faces.frame import ClipError, Limits
from fer_tf.faces.video import Decoder, ahead
from tests.fer_tf.faces.clips import all_of, drawn, reason_of, write_clip


def test_a_decoder_that_hangs_costs_only_its_clip(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", drawn(3))
    decoder = Decoder(timeout_s=60.0, limits=Limits(), max_side=1920)
    assert len(all_of(decoder, path)[0]) == 3
    hung = decoder.pid
    os.kill(hung, signal.SIGSTOP)
    decoder.timeout_s = 0.5
    start = time.monotonic()
    assert reason_of(decoder, path) == "decoder_timeout"
    assert time.monotonic() - start < 10
    assert not Path(f"/proc/{hung}").exists()
    decoder.timeout_s = 60.0
    assert len(all_of(decoder, path)[0]) == 3 and decoder.pid != hung
    decoder.close()


def test_a_patience_of_centuries_is_no_error(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", drawn(3))
    with contextlib.closing(Decoder(timeout_s=1e10, limits=Limits(), max_side=1920)) as decoder:
        assert len(all_of(decoder, path)[0]) == 3


def test_a_decoder_that_dies_costs_only_its_clip(decoder: Decoder, tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", drawn(3))
    all_of(decoder, path)
    os.kill(decoder.pid, signal.SIGSTOP)
    threading.Timer(0.3, os.kill, (decoder.pid, signal.SIGKILL)).start()
    with pytest.raises(ClipError, match="signal 9") as caught:
        all_of(decoder, path)
    assert caught.value.reason == "decoder_died"
    assert len(all_of(decoder, path)[0]) == 3


def test_a_decoder_that_died_between_clips_is_replaced_unnoticed(decoder: Decoder, tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", drawn(3))
    all_of(decoder, path)
    os.kill(decoder.pid, signal.SIGKILL)
    os.waitid(os.P_PID, decoder.pid, os.WEXITED | os.WNOWAIT)
    assert len(all_of(decoder, path)[0]) == 3


def test_a_decoder_that_hangs_or_dies_between_frames_costs_the_rest_of_its_clip(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", drawn(20))
    decoder = Decoder(timeout_s=60.0, limits=Limits(), max_side=1920)
    for number, reason in ((signal.SIGSTOP, "decoder_timeout"), (signal.SIGKILL, "decoder_died")):
        for where in ("before a frame is made", "before the next is told"):
            frames = decoder.frames(path, 4000)
            told = next(frames)
            os.kill(decoder.pid, number)
            decoder.timeout_s = 0.5
            with pytest.raises(ClipError) as caught:
                told.frame() if where == "before a frame is made" else next(frames)
            assert caught.value.reason == reason and caught.value.path == path
            frames.close()
            decoder.timeout_s = 60.0
            assert len(list(decoder.frames(path, 4000))) == 20
    decoder.close()


def test_while_a_decoder_works_another_takes_the_next_file_and_ends_with_it(decoder: Decoder, tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", drawn(5))
    with decoder.free() as first:
        frames = first.frames(path, 4000)
        assert first is decoder and next(frames).number == 0
        for _ in range(2):
            with decoder.free() as second:
                assert second is not first and len(list(second.frames(path, 4000))) == 5
        helped = second.pid
        assert [told.number for told in frames] == [1, 2, 3, 4]
    with decoder.free() as again:
        assert again is decoder
        frames = again.frames(path, 4000)
        told = next(frames)
        decoder.close()
        assert not Path(f"/proc/{helped}").exists() and second.pid is None
        # Who still waits is told so.
        for ask in (told.frame, lambda: next(frames)):
            with pytest.raises(ClipError, match="decoder died"):
                ask()
    assert len(list(decoder.frames(path, 4000))) == 5


@pytest.mark.parametrize("closes", ["before", "after"])
@pytest.mark.parametrize("waits", [1, 3])
def test_a_decoder_that_another_thread_closes_died_whatever_was_being_done(
    decoder: Decoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, closes: str, waits: int
) -> None:
    path, kept = write_clip(tmp_path / "a.mp4", drawn(5)), select.select
    frames = decoder.frames(path, 4000)
    next(frames)
    asked: list[int] = []

    def closing(*waiting: object) -> tuple:
        asked.append(1)
        if closes == "before" and len(asked) == waits:
            decoder.close()
        found = kept(*waiting)
        if closes == "after" and len(asked) == waits:
            decoder.close()
        return found

    monkeypatch.setattr(select, "select", closing)
    with pytest.raises(ClipError, match=r"decoder died .*it was closed"):
        for told in frames:
            told.frame()
    monkeypatch.setattr(select, "select", kept)
    assert len(list(decoder.frames(path, 4000))) == 5


def test_a_caller_that_stops_early_gets_the_next_clip_whole(decoder: Decoder, tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", drawn(20))
    items = decoder.keyframes(path, "uniform", 40)
    next(items)
    items.close()
    assert [frame.index for frame in all_of(decoder, path)[0]] == list(range(20))


def test_a_caller_that_stops_early_does_not_wait_for_a_slow_decoder(decoder: Decoder, tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", drawn(20))
    all_of(decoder, path)
    os.kill(decoder.pid, signal.SIGSTOP)
    items = ahead(decoder.keyframes(path, "uniform", 40), 2, cancel=decoder.stop)
    threading.Timer(0.5, signal.pthread_kill, (threading.main_thread().ident, signal.SIGINT)).start()
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        next(items)
    assert time.monotonic() - start < 20, "the decoder may be silent for 60 s"
    assert [frame.index for frame in all_of(decoder, path)[0]] == list(range(20))


def test_the_decoder_process_imports_neither_tensorflow_nor_opencv() -> None:
    code = "import sys, fer_tf.faces.decoder; print(sorted({'tensorflow', 'cv2', 'dlib', 'keras'} & set(sys.modules)))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_a_decoder_leaves_with_its_parent(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", drawn(3))
    code = (
        "import os, sys; from fer_tf.faces.video import Decoder, Limits; d = Decoder(20, Limits(), 1920); "
        f"list(d.keyframes({path!r}, 'uniform', 4)); print(d.pid, flush=True); os.kill(os.getpid(), 9)"
    )
    child = int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout)
    deadline = time.monotonic() + 10
    while _alive(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _alive(child)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
