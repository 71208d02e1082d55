"""What the commands that look at files share: one result a file, printed, drawn and written as tables."""

from __future__ import annotations

import csv
import hashlib
import itertools
import json
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fer_tf import files
from fer_tf.config import EXIT_FAILED, EXIT_INCOMPLETE, EXIT_OK
from fer_tf.errors import InputError
from fer_tf.faces.extractor import ClipError
from fer_tf.filesystems import as_local
from fer_tf.recognition import earlier
from fer_tf.recognition.answers import rounded
from fer_tf.recognition.looking import SeenFrame, Unreadable
from fer_tf.recognition.sources import sources_of
from fer_tf.recognition.summary import ClipSummary
from fer_tf.recognition.tables import not_written

Item = SeenFrame | Unreadable
# Bytes that a file's name may have on every usual file system.
LONGEST_NAME = 255
PICTURES, VIDEOS = (".jpg", ".jpeg", ".png"), (".mp4", ".mov", ".mkv")


@dataclass(frozen=True)
class Output:
    """Where results go.

    Attributes:
      path: a file for one input, a folder for several; empty draws nothing.
      several: whether there are several inputs.
      json: whether JSON is printed instead of tables.
      top_k: how many expressions are shown for a face.
      with_tables: whether a video's drawing has a CSV beside it.
      names: what an input's results are called in the folder where that is not its file's name (see `names_of`).
    """

    path: str = ""
    several: bool = False
    json: bool = False
    top_k: int = 3
    with_tables: bool = True
    names: Mapping[str, str] = field(default_factory=dict)

    def check(self, inputs: Sequence[str] = ()) -> None:
        """To be asked before anything is looked at.

        Args:
          inputs: the files that are looked at.

        Raises:
          InputError: when nothing can be written where results go, or they would replace an input, or a file that no
            earlier run wrote; when a file is named for several inputs, or one of a kind that is not written.
        """
        if not self.path:
            return
        if self._is_file():
            # Whether a picture or a video fits, its content tells when it is read.
            self._check_file((*PICTURES, *VIDEOS), "")
        written = [path for name in inputs for path in self._written(name) if os.path.exists(path)]
        _refuse_inputs(written, inputs)
        # A drawing's own name is the user's word; what else is written beside it or into a folder is not.
        earlier.check_drawings(path for path in written if path != self.path)
        files.check_writable(os.path.dirname(os.path.abspath(self.path)) if self._is_file() else self.path)

    def of(self, name: str, still: bool) -> tuple[str, str]:
        """Returns where an input's drawing and, for a video, the CSV go; empty where nothing is asked for.

        Raises:
          InputError: when the output is a file and there are several inputs, or of the wrong kind, or the input itself.
        """
        drawing, table = self._paths(name, still)
        _refuse_inputs([path for path in (drawing, table) if path and os.path.exists(path)], [name])
        return drawing, table if self.with_tables else ""

    def _is_file(self) -> bool:
        return bool(os.path.splitext(self.path)[1]) and not os.path.isdir(self.path)

    def _check_file(self, suffixes: tuple[str, ...], of: str) -> None:
        if self.several:
            raise InputError(f"`output` must be a folder for several inputs. Received: {self.path!r}.")
        if os.path.splitext(self.path)[1].lower() not in suffixes:
            raise InputError(f"`output`{of} must end in one of {suffixes}. Received: {self.path!r}.")

    def _drawing(self, name: str) -> str:
        """The path of an input's drawing in the folder, but for its ending."""
        return os.path.join(self.path, f"{_short(self.names.get(name, os.path.basename(name)))}.annotated")

    def _written(self, name: str) -> list[str]:
        """What may be written for an input, be it a picture or a video."""
        stem, suffix = os.path.splitext(self.path)
        if not self._is_file():
            drawing = self._drawing(name)
            return [f"{drawing}.jpg", f"{drawing}.mp4", *([f"{drawing}.csv"] if self.with_tables else [])]
        return [self.path, *([f"{stem}.csv"] if self.with_tables and suffix.lower() in VIDEOS else [])]

    def _paths(self, name: str, still: bool) -> tuple[str, str]:
        if not self.path:
            return "", ""
        if self._is_file():
            self._check_file(PICTURES if still else VIDEOS, f" for {name!r}")
            os.makedirs(os.path.dirname(os.path.abspath(self.path)), exist_ok=True)
            return self.path, "" if still else f"{os.path.splitext(self.path)[0]}.csv"
        drawing = self._drawing(name)
        os.makedirs(os.path.dirname(drawing), exist_ok=True)
        return (f"{drawing}.jpg", "") if still else (f"{drawing}.mp4", f"{drawing}.csv")


def _refuse_inputs(written: Iterable[str], inputs: Iterable[str]) -> None:
    """Raises InputError when a file that is going to be written is one that is looked at, by whichever name."""
    if not (written := list(written)):
        return
    there = {_identity(name): name for name in inputs if os.path.exists(name)}
    for path in written:
        if name := there.get(_identity(path)):
            raise InputError(f"`output`: {path!r} would replace the input {name!r}: name another file or folder.")


def _identity(path: str) -> tuple[int, int]:
    found = os.stat(path)
    return found.st_dev, found.st_ino


def inputs_of(inputs: Sequence[str], output: str) -> list[str]:
    """Returns the files that inputs name, but those found among them that an earlier run wrote; they are counted.

    Args:
      inputs: files, folders or patterns, as a user wrote them; a file that is named is always taken.
      output: the folder that results go to; empty for none.
    """
    found = [source.name for source in sources_of(list(inputs))]
    root = os.path.join(os.path.abspath(output), "") if output else ""

    def is_own(path: str) -> bool:
        in_output = root and path.endswith(earlier.RESULTS) and os.path.abspath(path).startswith(root)
        return bool(in_output) or earlier.is_result(path)

    own = {path for path in set(found) - set(map(as_local, inputs)) if is_own(path)}
    if own:
        count = "1 file" if len(own) == 1 else f"{len(own)} files"
        print(f"left out: what an earlier run wrote, {count} such as {min(own)}", file=sys.stderr)
    return [path for path in found if path not in own]


def names_of(inputs: Sequence[str]) -> dict[str, str]:
    """Returns the results' names of inputs whose files have the same one: with the folders that tell them apart.

    names_of(["one/a.jpg", "two/a.jpg", "two/b.jpg"])  # {"one/a.jpg": "one/a.jpg", "two/a.jpg": "two/a.jpg"}
    """
    different = list(dict.fromkeys(inputs))
    counts = Counter(map(os.path.basename, different))
    alike = [path for path in different if counts[os.path.basename(path)] > 1]
    if not alike:
        return {}
    root = os.path.commonpath([os.path.dirname(os.path.abspath(path)) for path in alike])
    return {path: os.path.relpath(os.path.abspath(path), root) for path in alike}


def _short(name: str) -> str:
    """An input's name to which `.annotated.jpg` can be added: the end of one that is too long gives way to a hash."""
    folder, last = os.path.split(name)
    room = LONGEST_NAME - len(".annotated.jpg")
    if len(os.fsencode(last)) <= room:
        return name
    mark = f"-{hashlib.blake2b(os.fsencode(last), digest_size=6).hexdigest()}"
    while len(os.fsencode(last)) > room - len(mark):
        last = last[:-1]
    return os.path.join(folder, last + mark)


def show(items: Iterable[Item], output: Output) -> int:
    """Prints and writes what was seen, file by file, and returns the exit code.

    When asking fails in the middle, what was answered until then is printed before the error goes on.
    """
    results: list[dict[str, Any]] = []
    failed: list[tuple[str, str]] = []
    try:
        for source, group in itertools.groupby(items, key=lambda item: item.source):
            try:
                result = _result(group, output)
            except ClipError as error:
                failed.append((source.name, f"{error.reason} {error.detail}".strip()))
                continue
            results.append(result)
            if not output.json:
                print_table(result, output.top_k)
    except BaseException:
        if results:
            _print_rest(results, failed, output)
        raise
    _print_rest(results, failed, output)
    if failed:
        return EXIT_INCOMPLETE if results else EXIT_FAILED
    return EXIT_OK


def _print_rest(results: list[dict[str, Any]], failed: list[tuple[str, str]], output: Output) -> None:
    if output.json:
        print(json.dumps(results, indent=1))
    for path, reason in failed:
        print(f"not read: {path}: {reason}", file=sys.stderr)


def _result(items: Iterator[Item], output: Output) -> dict[str, Any]:
    frames = _readable(items)
    first = next(frames)
    if first.still:
        return _picture(first, output)
    return _video(itertools.chain([first], frames), first, output)


def _readable(items: Iterator[Item]) -> Iterator[SeenFrame]:
    for item in items:
        if isinstance(item, Unreadable):
            raise item.error
        yield item


def _picture(frame: SeenFrame, output: Output) -> dict[str, Any]:
    drawing, _ = output.of(frame.source.name, still=True)
    if drawing:
        draw(frame, drawing, output.top_k)
    faces = [
        {"box": [round(float(value / frame.shrink), 1) for value in face.box], "detector_score": round(face.score, 4)}
        | rounded(face.answer)
        for face in frame.faces
    ]
    written = {"annotated": drawing} if drawing else {}
    return {"input": frame.source.name, "kind": "picture", "faces": faces, **written}


def draw(frame: SeenFrame, path: str, top_k: int) -> None:
    """Writes a picture with its faces drawn in; it gets its name when it is complete.

    Raises:
      CannotWrite: when the disk is full.
      InputError: when it cannot be written for another reason.
    """
    import cv2

    from fer_tf.recognition.drawing import annotate

    faces = [(face.number, face.box, face.answer) for face in frame.faces]
    try:
        with files.whole_path(path) as partial:
            done, picture = cv2.imencode(os.path.splitext(path)[1], annotate(frame.rgb, faces, top_k)[..., ::-1])
            if not done:
                raise OSError("the picture could not be encoded")
            encoded = picture.tobytes()
            # OpenCV opens no file whose name is no UTF-8.
            with open(partial, "wb") as file:
                file.write(earlier.marked(encoded) if encoded.startswith(b"\xff\xd8") else encoded)
    except (OSError, cv2.error) as error:
        raise not_written(path, error) from None


def _video(frames: Iterable[SeenFrame], first: SeenFrame, output: Output) -> dict[str, Any]:
    from fer_tf.recognition.video_writer import VideoWriter

    drawing, table = output.of(first.source.name, still=False)
    summary = ClipSummary(first.source.name)
    try:
        with VideoWriter(drawing, output.top_k) as writer, CsvTable(table) as rows:
            for seen in _with_progress(frames, first):
                writer.write(seen)
                if seen.looked_at:
                    rows.write(seen)
                    summary.add(seen)
    except OSError as error:
        raise not_written(table or drawing, error) from None
    written = {name: path for name, path in (("annotated", drawing), ("csv", table)) if path}
    return summary.as_json() | written


def _with_progress(frames: Iterable[SeenFrame], first: SeenFrame) -> Iterator[SeenFrame]:
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
        task = progress.add_task(os.path.basename(first.source.name), total=first.seconds or None)
        for seen in frames:
            progress.update(task, completed=seen.time)
            yield seen


class CsvTable:
    """One row per face of each looked-at frame; the file gets its name when it is complete.

    Args:
      path: the table; empty writes nothing.
    """

    FIXED = ("frame", "time", "face", "x", "y", "width", "height", "detector_score", "expression")

    def __init__(self, path: str) -> None:
        self._path = path
        self._whole, self._file = files.whole_path(path), None

    def __enter__(self) -> CsvTable:
        if self._path:
            self._file = open(self._whole.__enter__(), "w", newline="", encoding="utf-8", errors="backslashreplace")
            self._writer = csv.writer(self._file)
            self._header = False
        return self

    def __exit__(self, *error: Any) -> None:
        if not self._file:
            return
        if not self._header:
            # Without a face nobody has told which expressions there are.
            self._writer.writerow((*self.FIXED, "probability"))
        self._file.close()
        self._whole.__exit__(*error)

    def write(self, seen: SeenFrame) -> None:
        """Adds a frame's faces."""
        if not self._file:
            return
        for face in seen.faces:
            if not self._header:
                unsure = ("unsure",) if face.answer.unsure_below else ()
                self._writer.writerow((*self.FIXED, *unsure, "probability", *face.answer.expressions))
                self._header = True
            name, probability = face.answer.best()[0]
            box = [f"{value / seen.shrink:.1f}" for value in face.box]
            scores = [f"{value:.5f}" for value in face.answer.probabilities]
            about = [seen.number, f"{seen.time:.3f}", face.number, *box, f"{face.score:.4f}"]
            unsure = [face.answer.unsure] if face.answer.unsure_below else []
            self._writer.writerow([*about, name, *unsure, f"{probability:.5f}", *scores])


def print_table(result: dict[str, Any], top: int) -> None:
    """Prints one file's faces with their best expressions."""
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
        scores = [f"{name} {100 * value:.1f} %" for name, value in best]
        scores[0] = f"unsure: {scores[0]}" if face.get("unsure") else scores[0]
        table.add_row(str(face.get("face", number)), where, *scores)
    console.print(table)
    for key in ("annotated", "csv"):
        if result.get(key):
            console.print(f"{key}: {result[key]}", highlight=False)
