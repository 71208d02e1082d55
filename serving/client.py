"""Asks a model server about the faces in pictures and videos.

`python -m serving.client photo.jpg` prints a table; `--json` prints JSON; `--output annotated.jpg` draws what was seen.
Videos get a CSV and an annotated video, each face followed through the clip.
"""

from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from fer_tf.config import EXIT_FAILED, EXIT_INCOMPLETE, EXIT_OK, parse, run_command
from fer_tf.errors import InputError


@dataclass(frozen=True)
class ClientConfig:
    """Flags of `python -m serving.client`.

    Args:
      inputs: pictures and videos.
      server: address of the model server, HOST:PORT.
      model_name: the model's name at the server.
      output: where to draw what was seen: a file for one input, a folder for several; a video's CSV stands beside.
      json: whether to print JSON instead of a table.
      top_k: how many expressions to show for a face.
      frames_per_second: frames of a video's second that are looked at.
      smoothing: time constant by which a followed face's scores are smoothed, seconds.
      min_score: the detector's confidence below which a face does not count, 0 to 1.
      timeout: deadline of a request, seconds.
      ca_cert: PEM file of the server's authority; with it the connection uses TLS.
      client_cert: PEM file that this client shows, for mutual TLS.
      client_key: PEM file with its key.
    """

    inputs: list[str] = field(default_factory=list)
    server: str = "localhost:8500"
    model_name: str = "fa_net"
    output: str = ""
    json: bool = False
    top_k: int = 3
    frames_per_second: float = 5.0
    smoothing: float = 0.4
    min_score: float = 0.9
    timeout: float = 10.0
    ca_cert: str = ""
    client_cert: str = ""
    client_key: str = ""

    def __post_init__(self) -> None:
        if not self.inputs:
            raise InputError("name at least one picture or video, such as: python -m serving.client photo.jpg")
        if self.output:
            _refuse_equal_names(self.inputs)
        for name, least in (("top_k", 1), ("smoothing", 0), ("timeout", 0.001), ("frames_per_second", 0.01)):
            if getattr(self, name) < least:
                raise InputError(f"`{name}` must be at least {least}. Received: {getattr(self, name)}.")


def _refuse_equal_names(inputs: Sequence[str]) -> None:
    """Outputs are called after their inputs: one of two with the same name would overwrite the other's."""
    seen: dict[str, str] = {}
    for path in inputs:
        name = os.path.basename(path)
        if name in seen:
            raise InputError(
                f"`inputs` need different file names when there is an `output`. Received: {seen[name]!r} and {path!r}."
            )
        seen[name] = path


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command."""
    config, _ = parse(
        ClientConfig,
        argv,
        prog="python -m serving.client",
        description="Ask a model server about the faces in pictures and videos.",
        positional="inputs",
    )
    from serving.connection import Connection, ServerError, TlsFiles

    tls = TlsFiles(config.ca_cert, config.client_cert, config.client_key)
    with Connection(config.server, config.model_name, tls, config.timeout) as connection:
        try:
            connection.wait()
            results, failed = _look(config, connection)
        except ServerError as error:
            print(f"error: {error}", file=sys.stderr)
            return EXIT_FAILED
    if config.json:
        print(json.dumps(results, indent=1))
    for path, reason in failed:
        print(f"not read: {path}: {reason}", file=sys.stderr)
    if failed:
        return EXIT_INCOMPLETE if results else EXIT_FAILED
    return EXIT_OK


def _look(config: ClientConfig, connection: Any) -> tuple[list[dict[str, Any]], list[tuple[str, str]]]:
    from fer_tf.faces.extractor import ClipError, ExtractorOptions, FaceExtractor
    from serving.looking import open_clip

    extractor = FaceExtractor(ExtractorOptions(min_score=config.min_score))
    results, failed = [], []
    try:
        for path in config.inputs:
            try:
                clip = open_clip(path, extractor)
                look = _picture if clip.still else _video
                result = look(config, connection, extractor, clip)
            except ClipError as error:
                failed.append((path, f"{error.reason} {error.detail}".strip()))
                continue
            results.append(result)
            if not config.json:
                _print_table(result, config.top_k)
    finally:
        extractor.close()
    return results, failed


def output_paths(config: ClientConfig, path: str, still: bool) -> tuple[str, str]:
    """Returns where the drawing and, for a video, the CSV go; empty when nothing is asked for.

    Raises:
      InputError: when the output is a file and there are several inputs, or of the wrong kind.
    """
    if not config.output:
        return "", ""
    suffixes = (".jpg", ".jpeg", ".png") if still else (".mp4", ".mov", ".mkv")
    stem, suffix = os.path.splitext(config.output)
    if suffix and not os.path.isdir(config.output):
        if len(config.inputs) > 1:
            raise InputError(f"`output` must be a folder for several inputs. Received: {config.output!r}.")
        if suffix.lower() not in suffixes:
            raise InputError(f"`output` for {path!r} must end in one of {suffixes}. Received: {config.output!r}.")
        os.makedirs(os.path.dirname(os.path.abspath(config.output)), exist_ok=True)
        return config.output, "" if still else f"{stem}.csv"
    os.makedirs(config.output, exist_ok=True)
    name = os.path.join(config.output, f"{os.path.basename(path)}.annotated")
    return (f"{name}.jpg", "") if still else (f"{name}.mp4", f"{name}.csv")


def _picture(config: ClientConfig, connection: Any, extractor: Any, clip: Any) -> dict[str, Any]:
    from serving.annotate import annotate
    from serving.looking import PICTURE_SIDE, face_as_json, look_at_picture

    drawing, _ = output_paths(config, clip.path, still=True)
    frame = clip.frame(PICTURE_SIDE)
    found = look_at_picture(frame.rgb, extractor, connection.classify)
    if drawing:
        import cv2

        faces = [(number, face.box, answer) for number, (face, answer) in enumerate(found, 1)]
        if not cv2.imwrite(drawing, annotate(frame.rgb, faces, config.top_k)[..., ::-1]):
            raise InputError(f"`output` cannot be written. Received: {config.output!r} (for {drawing!r}).")
    faces = [face_as_json(face.box / frame.shrink, face.score, answer) for face, answer in found]
    return {"input": clip.path, "kind": "picture", "faces": faces, **({"annotated": drawing} if drawing else {})}


def _video(config: ClientConfig, connection: Any, extractor: Any, clip: Any) -> dict[str, Any]:
    from serving.looking import look_at_video
    from serving.summary import ClipSummary
    from serving.video_writer import VideoWriter

    drawing, table = output_paths(config, clip.path, still=False)
    summary = ClipSummary(clip.path)
    frames = look_at_video(
        clip,
        extractor,
        connection.classify,
        frames_per_second=config.frames_per_second,
        smoothing_s=config.smoothing,
        with_pictures=bool(drawing),
    )
    with VideoWriter(drawing, config.top_k) as writer, _CsvTable(table) as rows:
        for seen in _with_progress(frames, clip):
            writer.write(seen)
            if seen.looked_at:
                rows.write(seen)
                summary.add(seen)
    written = {"annotated": drawing, "csv": table} if drawing else {}
    return summary.as_json() | written


def _with_progress(frames: Iterator[Any], clip: Any) -> Iterator[Any]:
    """Yields the frames and shows on standard error how far they are."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        # A file name in brackets is no style.
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.percentage:.0f}%"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(os.path.basename(clip.path), total=clip.declared or None)
        for seen in frames:
            progress.update(task, completed=seen.time)
            yield seen


class _CsvTable:
    """One row per face of each looked-at frame; the file gets its name when it is complete.

    Args:
      path: the table; empty writes nothing.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._partial = os.path.join(os.path.dirname(path), f".partial-{os.path.basename(path)}")
        self._file: Any = None

    def __enter__(self) -> _CsvTable:
        if self._path:
            self._file = open(self._partial, "w", newline="", encoding="utf-8")
            self._writer = csv.writer(self._file)
            self._header = False
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if not self._file:
            return
        self._file.close()
        if kind is None:
            os.replace(self._partial, self._path)
        else:
            os.remove(self._partial)

    def write(self, seen: Any) -> None:
        if not self._file:
            return
        for face in seen.faces:
            if not self._header:
                fixed = ("frame", "time", "face", "x", "y", "width", "height", "detector_score", "expression")
                self._writer.writerow((*fixed, "probability", *face.answer.expressions))
                self._header = True
            name, probability = face.answer.best()[0]
            box = [f"{value / seen.shrink:.1f}" for value in face.box]
            scores = [f"{value:.5f}" for value in face.answer.probabilities]
            self._writer.writerow(
                [
                    seen.number,
                    f"{seen.time:.3f}",
                    face.track,
                    *box,
                    f"{face.score:.4f}",
                    name,
                    f"{probability:.5f}",
                    *scores,
                ]
            )


def _print_table(result: dict[str, Any], top: int) -> None:
    from rich.console import Console
    from rich.table import Table

    # Names of files and labels are shown as they are: a word in brackets is no style, one in colons no picture.
    console = Console(width=None if sys.stdout.isatty() else 120, markup=False, emoji=False)
    title = f"{result['input']}: {len(result['faces'])} face{'s' if len(result['faces']) != 1 else ''}"
    if not result["faces"]:
        console.print(title, highlight=False)
        return
    video = result["kind"] == "video"
    table = Table(title=title, title_justify="left")
    for column in ("face", *(("seen (s)",) if video else ("box",)), *(f"{rank}." for rank in range(1, top + 1))):
        table.add_column(column)
    for number, face in enumerate(result["faces"], 1):
        where = "{:.1f} to {:.1f}".format(*face["seen"]) if video else " ".join(f"{value:.0f}" for value in face["box"])
        best = sorted(face["probabilities"].items(), key=lambda entry: -entry[1])[:top]
        table.add_row(str(face.get("face", number)), where, *(f"{name} {100 * value:.1f} %" for name, value in best))
    console.print(table)
    for key in ("annotated", "csv"):
        if result.get(key):
            console.print(f"{key}: {result[key]}", highlight=False)


if __name__ == "__main__":
    sys.exit(run_command(main))
