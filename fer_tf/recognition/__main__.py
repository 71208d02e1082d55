"""Faces and expressions of pictures and clips, without a server.

`python -m fer_tf.recognition photo.jpg clip.mp4 --output=out` writes one table of all faces, annotated copies, and what
was left out; without `--output` it prints what it sees.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Literal

from fer_tf import files
from fer_tf.config import group, parse, run_command
from fer_tf.data.tta import TtaName
from fer_tf.errors import InputError, check_least
from fer_tf.faces.extractor import OF_KEYFRAMES, ExtractorOptions
from fer_tf.recognition import earlier, tables
from fer_tf.recognition.command import PICTURES, VIDEOS, Output, inputs_of, names_of, show
from fer_tf.recognition.earlier import FORMATS, INCOMPLETE, REJECTED, TABLE
from fer_tf.recognition.owners import RelativeTo

# A folder is hardly called so: who writes it means a file.
_OF_FILES = (*(f".{ending}" for ending in FORMATS), *PICTURES, *VIDEOS, ".xlsx", ".json", ".pdf", ".html")


@dataclass(frozen=True)
class RecognizeConfig:
    """Flags of `python -m fer_tf.recognition`.

    Args:
      inputs: pictures and clips, folders of them, or patterns.
      model: pretrained or ferplus, a run folder, an export's folder, a server's HOST:PORT, or several of them with +
        between, whose mean answer counts.
      output: folder for the table, the annotated copies and the list of what was left out; empty prints alone.
      format: the table's, csv, jsonl or parquet.
      annotate: whether annotated copies are written.
      json: whether to print JSON instead of tables.
      top_k: how many expressions to show for a face.
      faces: found, or given where each picture is a face that was cut out already.
      frames_per_second: frames of a clip's second that are looked at.
      smoothing: time constant by which a followed face's scores are smoothed, seconds.
      unsure_below: the probability of the best expression below which an answer counts as unsure; 0 for never.
      tta: flip asks about each face and its mirror image, views about three cuts of both, and the mean answer counts.
      head_pose: whether the table has yaw, pitch and roll, degrees.
      eyes: whether the table has the seven eye features of section 3.2.
      relative_to: whose other faces the table of output also compares an answer with: a clip's followed person, the
        files of a folder, all, or nobody.
      extractor: how faces are found.
    """

    inputs: list[str] = field(default_factory=list)
    model: str = "pretrained"
    output: str = ""
    format: Literal["csv", "jsonl", "parquet"] = "csv"
    annotate: bool = True
    json: bool = False
    top_k: int = 3
    faces: Literal["found", "given"] = "found"
    frames_per_second: float = 5.0
    smoothing: float = 0.4
    unsure_below: float = 0.0
    tta: TtaName = "none"
    head_pose: bool = False
    eyes: bool = False
    relative_to: RelativeTo = "nobody"
    extractor: ExtractorOptions = group(ExtractorOptions, without=OF_KEYFRAMES)

    def __post_init__(self) -> None:
        if not self.inputs:
            raise InputError("name at least one picture or clip, such as: python -m fer_tf.recognition photo.jpg")
        check_least(self, top_k=1)
        if self.relative_to != "nobody" and not self.output:
            raise InputError(f"`relative_to` needs --output=FOLDER for its table. Received: {self.relative_to!r}.")
        if self.output and os.path.exists(self.output) and not os.path.isdir(self.output):
            raise InputError(f"`output` must be a folder. Received: {self.output!r}.")
        stem, suffix = os.path.splitext(self.output)
        if suffix.lower() in _OF_FILES and not os.path.isdir(self.output):
            raise InputError(
                f"`output` is a folder, into which {TABLE}.{self.format} goes with all else: --output={stem} gives "
                f"{os.path.join(stem, TABLE)}.{self.format}. Received: {self.output!r}."
            )


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command."""
    config, _ = parse(
        RecognizeConfig,
        argv,
        prog="python -m fer_tf.recognition",
        description="Find the faces of pictures and clips and say which expressions they show.",
        positional="inputs",
    )
    if config.output:
        files.refuse_remote("output", config.output, "; beam_pipelines.predict writes into buckets")
        files.check_writable(config.output)
        earlier.check_tables(config.output, config.format)
        if config.format == "parquet":
            tables.check_parquet()
    inputs = inputs_of(config.inputs, config.output)
    names = names_of(inputs)
    drawn = config.output if config.annotate else ""
    output = Output(drawn, True, config.json, config.top_k, with_tables=False, names=names)
    output.check(inputs)
    from fer_tf.recognition.recognizer import Recognizer

    extractor = dataclasses.asdict(config.extractor) | {"subject": "all"}
    recognizer = Recognizer.load(
        config.model, faces=config.faces, unsure_below=config.unsure_below, tta=config.tta, **extractor
    )
    with closing(recognizer):
        return _run(config, recognizer, inputs, output)


def _run(config: RecognizeConfig, recognizer: Any, inputs: list[str], output: Output) -> int:
    faces = recognizer(
        inputs,
        frames_per_second=config.frames_per_second,
        smoothing=config.smoothing,
        head_pose=config.head_pose,
        eyes=config.eyes,
        relative_to=config.relative_to,
    )
    table, rejected = (os.path.join(config.output, name) for name in (TABLE, REJECTED))
    try:
        code = show(faces.each_frame(with_pictures=bool(output.path)), output)
    except BaseException:
        if config.output:
            for path in faces.save_found(f"{table}{INCOMPLETE}.{config.format}", f"{rejected}{INCOMPLETE}.csv"):
                print(f"not all inputs were looked at: {path}", file=sys.stderr)
        raise
    if config.output:
        for path in (faces.save(f"{table}.{config.format}"), faces.save_rejected(f"{rejected}.csv")):
            # JSON stands alone on standard output.
            print(path, file=sys.stderr if config.json else sys.stdout)
        # What an earlier run that was stopped left is of no more use.
        files.delete(*(f"{name}{INCOMPLETE}.{ending}" for name in (table, rejected) for ending in FORMATS))
    return code


if __name__ == "__main__":
    sys.exit(run_command(main))
