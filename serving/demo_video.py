"""The demo page's Video tab: follows each face through a clip, and shows its expressions beside the annotated clip."""

from __future__ import annotations

import atexit
import contextlib
import html
import importlib.resources
import json
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fer_tf.faces.extractor import ClipError

if TYPE_CHECKING:
    import gradio as gr

    from fer_tf.faces.extractor import FaceExtractor

# Seconds between two signs of progress.
SAY_SECONDS = 0.3
# Results that are kept for the pages which show them, and for how long, seconds.
KEPT_RESULTS, KEPT_SECONDS = 20, 1800.0
TABLE_FILE, CLIP_FILE = "expressions.csv", "annotated.mp4"


@dataclass(frozen=True)
class Progress:
    """How far a clip is looked at: seconds, and of how many (0 when the file does not say)."""

    seconds: float
    of: float


@dataclass(frozen=True)
class Result:
    """What was seen in a clip.

    Attributes:
      series: the time series of each face, as the page's plot takes them.
      table: the CSV's path, empty when no face was found.
      clip: the annotated clip's path.
      cut: whether the clip is longer than what was looked at.
    """

    series: dict[str, Any]
    table: str
    clip: str
    cut: bool


@dataclass
class _Series:
    """One face's scores over time."""

    times: list[float] = field(default_factory=list)
    scores: list[list[float]] = field(default_factory=list)


def keep_files_apart() -> None:
    """Has all that visitors give, to the page's framework too, go to one folder, which is deleted at the end."""
    place = os.environ.get("GRADIO_TEMP_DIR") or tempfile.gettempdir()
    os.makedirs(place, exist_ok=True)
    folder = tempfile.tempdir = tempfile.mkdtemp(prefix="fer_tf-demo-", dir=place)
    os.environ["GRADIO_TEMP_DIR"] = os.path.join(folder, "gradio")
    # Registered first, and so done last.
    atexit.register(shutil.rmtree, folder, ignore_errors=True)


class VideoLooker:
    """Looks at clips, and can be told to stop.

    Args:
      ask: asks the network about face crops.
      make_extractor: makes the tab's own face finder, at its first clip.
      max_seconds: of a longer clip the beginning is looked at.
    """

    def __init__(self, ask: Callable, make_extractor: Callable[[], FaceExtractor], max_seconds: float):
        self._ask, self._make_extractor, self._max_seconds = ask, make_extractor, max_seconds
        self._extractor: FaceExtractor | None = None
        self._stops: dict[str, threading.Event] = {}
        self.folder = tempfile.mkdtemp(prefix="fer_tf-demo-")

    def close(self) -> None:
        """Ends what runs and deletes the results."""
        for stop in list(self._stops.values()):
            stop.set()
        if self._extractor is not None:
            self._extractor.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def cancel(self, session: str) -> None:
        """Stops the session's clip, if one is being looked at."""
        if session in self._stops:
            self._stops[session].set()

    def look(self, path: str, session: str) -> Iterator[Progress | Result]:
        """Yields progress, then the result; neither after `cancel`.

        Args:
          path: the clip.
          session: whose it is.

        Raises:
          ClipError: the clip cannot be read.
        """
        self._tidy()
        stop = self._stops[session] = threading.Event()
        folder = tempfile.mkdtemp(dir=self.folder)
        done = False
        try:
            for step in self._steps(path, folder, stop):
                done = isinstance(step, Result)
                yield step
        finally:
            self._stops.pop(session, None)
            if not done:
                shutil.rmtree(folder, ignore_errors=True)

    def _steps(self, path: str, folder: str, stop: threading.Event) -> Iterator[Progress | Result]:
        from fer_tf.recognition.appearance import Describer
        from fer_tf.recognition.command import CsvTable
        from fer_tf.recognition.looking import LookOptions, Unreadable, look
        from fer_tf.recognition.sources import sources_of
        from fer_tf.recognition.summary import ClipSummary
        from fer_tf.recognition.video_writer import VideoWriter

        if self._extractor is None:
            self._extractor = self._make_extractor()
        table, clip = os.path.join(folder, TABLE_FILE), os.path.join(folder, CLIP_FILE)
        summary, series = ClipSummary(path), {}
        expressions: tuple[str, ...] = ()
        said, last, cut = 0.0, 0.0, False
        options = LookOptions(with_pictures=True)
        frames = look(sources_of([path]), self._extractor, self._ask, options, Describer())
        with contextlib.closing(frames), VideoWriter(clip, 3) as writer, CsvTable(table) as rows:
            for seen in frames:
                if stop.is_set():
                    # Leaves nothing half written behind: the writers' own ends are for whole clips.
                    raise _Stopped
                if isinstance(seen, Unreadable):
                    raise seen.error
                if seen.time > self._max_seconds:
                    cut = True
                    break
                writer.write(seen)
                last = seen.time
                if seen.looked_at:
                    rows.write(seen)
                    summary.add(seen)
                    for face in seen.faces:
                        expressions = face.answer.expressions
                        line = series.setdefault(face.number, _Series())
                        line.times.append(round(seen.time, 3))
                        line.scores.append([round(float(value), 4) for value in face.answer.probabilities])
                if time.monotonic() - said > SAY_SECONDS:
                    said = time.monotonic()
                    yield Progress(seen.time, min(seen.seconds, self._max_seconds))
        yield Result(_as_plot(summary, series, expressions, last), table if series else "", clip, cut)

    def _tidy(self) -> None:
        """Deletes old results."""
        kept = sorted((os.path.join(self.folder, name) for name in os.listdir(self.folder)), key=os.path.getmtime)
        for number, folder in enumerate(reversed(kept)):
            if number >= KEPT_RESULTS or time.time() - os.path.getmtime(folder) > KEPT_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)


class _Stopped(Exception):
    """Somebody has cancelled the clip."""


def _as_plot(summary: Any, series: dict[int, _Series], expressions: tuple[str, ...], seconds: float) -> dict[str, Any]:
    from fer_tf.recognition.drawing import colour_of
    from fer_tf.recognition.tracking import LOST_AFTER_S

    faces = [
        {
            "number": face["face"],
            "colour": "rgb({}, {}, {})".format(*colour_of(face["face"])),
            "summary": "{}, {:.1f} to {:.1f} s".format(face["expression"], *face["seen"]),
            "times": series[face["face"]].times,
            "scores": series[face["face"]].scores,
        }
        for face in summary.as_json()["faces"]
    ]
    return {"expressions": list(expressions), "seconds": seconds, "lost_after": LOST_AFTER_S, "faces": faces}


def build_tab(looker: VideoLooker, max_upload_mb: int, max_seconds: float, samples: list[str]) -> None:
    """Adds the tab's controls to the page that is being built.

    Args:
      looker: looks at the clips.
      max_upload_mb: the largest file, for the text beside the controls.
      max_seconds: the longest clip, for the same.
      samples: clips to choose from.
    """
    import gradio as gr

    from fer_tf.errors import ServerError

    def watch(path: str | None, request: gr.Request) -> Iterator[tuple]:
        if not path:
            gr.Info("Upload, record or choose a clip first.")
            yield _outputs("")
            return
        yield _outputs(_bar("Looking for faces", None))
        try:
            for step in looker.look(path, request.session_hash):
                if isinstance(step, Progress):
                    share = step.seconds / step.of if step.of else None
                    yield _outputs(_bar(f"{step.seconds:.1f} s looked at", share))
                else:
                    yield _shown(step, max_seconds)
        except _Stopped:
            yield _outputs("Cancelled.")
        except (ClipError, ServerError) as error:
            yield _outputs(f"Not looked at: {_words(error)}")

    def cancel(request: gr.Request) -> None:
        looker.cancel(request.session_hash)

    # Gradio looks at the types, and the module does not import it before the flags are read.
    for function in (watch, cancel):
        function.__annotations__["request"] = gr.Request
    with gr.Row():
        with gr.Column():
            clip = gr.Video(
                sources=["upload", "webcam"], label="Video", height=360, elem_id="video", include_audio=True
            )
            gr.Markdown(
                f"At most {max_upload_mb} MB; of clips longer than {max_seconds:g} s the beginning is looked at. "
                "One clip at a time: others wait in line. Nothing leaves the machine that runs this page."
            )
            with gr.Row():
                run = gr.Button("Follow the faces", variant="primary", elem_id="video_run")
                stop = gr.Button("Cancel", elem_id="video_cancel")
            if samples:
                gr.Examples([[path] for path in samples], [clip], label="Samples", elem_id="video_samples")
        with gr.Column():
            status = gr.HTML("", elem_id="video_status", min_height=56)
            plot = gr.HTML(
                "",
                html_template='<div class="series"></div>',
                js_on_load=_resource("demo_series.js"),
                # The page's style sheet dresses it.
                apply_default_css=False,
                elem_id="series",
            )
            with gr.Row():
                table = gr.DownloadButton("Expressions over time (CSV)", visible=False, elem_id="video_csv")
                drawn = gr.DownloadButton("Annotated clip (MP4)", visible=False, elem_id="video_clip")
    running = run.click(
        watch,
        clip,
        [status, plot, table, drawn],
        concurrency_limit=1,
        concurrency_id="video",
        trigger_mode="once",
        show_progress_on=status,
        api_visibility="private",
    )
    stopped = stop.click(cancel, cancels=[running], queue=False, api_visibility="private")
    # Said after the clip was stopped: progress that was still on its way would stand over it for good.
    stopped.then(lambda: "Cancelled.", None, status, queue=False, api_visibility="private")
    gr.context.Context.root_block.unload(cancel)


def styles() -> str:
    """Returns the tab's style sheet."""
    return _resource("demo_series.css")


def _resource(name: str) -> str:
    return importlib.resources.files("serving").joinpath(name).read_text(encoding="utf-8")


def _outputs(status: str, series: str = "", table: str = "", clip: str = "") -> tuple:
    import gradio as gr

    return (
        status,
        series,
        gr.DownloadButton(value=table or None, visible=bool(table)),
        gr.DownloadButton(value=clip or None, visible=bool(clip)),
    )


def _shown(result: Result, max_seconds: float) -> tuple:
    faces = len(result.series["faces"])
    status = f"{faces or 'No'} face{'s' * (faces != 1)} followed" if faces else "No face was found."
    if result.cut:
        status += f" Only the first {max_seconds:g} s were looked at."
    # Relative to the page's own address, wherever that is.
    series = {"clip": f"gradio_api/file={result.clip}", **result.series}
    return _outputs(status, json.dumps(series), result.table, result.clip)


def _bar(text: str, share: float | None) -> str:
    value = f' value="{share:.3f}"' if share is not None else ""
    return f'<label>{html.escape(text)} <progress max="1"{value}></progress></label>'


def _words(error: Exception) -> str:
    if isinstance(error, ClipError):
        return html.escape(f"{error.reason.replace('_', ' ')} {f'({error.detail})' if error.detail else ''}".strip())
    return html.escape(str(error))
