"""What was recognised: faces one after the other, as a table, as arrays, as files, or seen in a notebook."""

from __future__ import annotations

import dataclasses
import itertools
import numbers
import os
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from fer_tf.errors import InputError, is_number, not_one_of
from fer_tf.evaluation.relative import STRENGTH, compared, relative
from fer_tf.faces import align
from fer_tf.faces.extractor import FaceExtractor
from fer_tf.faces.frame import NOTES
from fer_tf.filesystems import as_local
from fer_tf.recognition import tables
from fer_tf.recognition.answers import Network
from fer_tf.recognition.crops import Stamp, check_unchanged, crops_of, stamp_of
from fer_tf.recognition.face import Face, face_of
from fer_tf.recognition.given import GivenFaces
from fer_tf.recognition.looking import LookOptions, SeenFrame, Unreadable, look
from fer_tf.recognition.owners import RELATIVE_TO, RelativeTo, owners_of
from fer_tf.recognition.sources import Source
from fer_tf.recognition.tracking import DescribeFn

if TYPE_CHECKING:
    import pandas

BATCH = 32
# Faces whose crops are kept, for a notebook's first look.
THUMBNAILS = 6


@dataclass(frozen=True)
class RecognizeOptions:
    """What a call asks for.

    Attributes:
      look: how clips are looked at.
      head_pose: whether the table has yaw, pitch and roll.
      eyes: whether it has the seven eye features of section 3.2.
      relative_to: whose faces the table's relative answers are compared with; `nobody` leaves them out.
    """

    look: LookOptions
    head_pose: bool = False
    eyes: bool = False
    relative_to: RelativeTo = "nobody"


class Faces:
    """The faces of some inputs, found while they are asked for.

    Iterating looks at the inputs one after the other and keeps one or two kilobytes a face and no pixels, so an hour of
    video is fine; a second pass looks at nothing again. `crops` and `embeddings` read the inputs once more. Once an
    error or Ctrl-C has ended the looking, the faces found so far can still be read, and whatever needs more or all of
    them raises an InputError.

    Example:
      faces = recognize(["photo.jpg", "clip.mp4"])
      for face in faces:
          print(face.input, face.time, face.expression)
      faces.save("faces.csv")

    Args:
      network: the way of asking.
      extractor: finds and aligns the faces.
      describe: says who a face is, where motion does not tell.
      sources: the inputs.
      options: what is asked for.
    """

    def __init__(
        self,
        network: Network,
        extractor: FaceExtractor | GivenFaces,
        describe: DescribeFn,
        sources: list[Source],
        options: RecognizeOptions,
    ) -> None:
        self._network, self._extractor, self._describe = network, extractor, describe
        self._sources, self._options = sources, options
        self._found: list[Face] = []
        self._rejected: list[tuple] = []
        self._thumbnails: list[np.ndarray] = []
        self._stamps: dict[int, Stamp | None] = {}
        self._items: Generator[SeenFrame | Unreadable, None, None] | None = None
        self._done = False
        self._first_look = ""
        self._ended_by = ""

    def __iter__(self) -> Iterator[Face]:
        for number in itertools.count():
            if number >= len(self._found) and not self._advance(number):
                return
            yield self._found[number]

    def __len__(self) -> int:
        return len(self._all())

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, numbers.Integral) and key >= 0:
            self._advance(int(key))
            return self._found[int(key)]
        return self._all()[key]

    @property
    def inputs(self) -> list[str]:
        """The names of the pictures and clips, in order."""
        return [source.name for source in self._sources]

    @property
    def expressions(self) -> tuple[str, ...]:
        """The label names; a class's id is its position."""
        return self._network.expressions

    def table(self) -> pandas.DataFrame:
        """Returns one row a face.

        Columns: input, frame, time (seconds), face, x, y, width, height (pixels), detector_score, landmarks_trusted,
        expression, the probability of each expression, and what else was asked for: unsure (behind the expression);
        yaw, pitch, roll (degrees); the seven eye features; relative_expression and relative_probability, empty for a
        face that has too few others to be compared with.
        """
        return tables.frame_of(self._rows(), self.columns)

    @property
    def columns(self) -> tuple[str, ...]:
        """The table's columns."""
        options = self._options
        return tables.columns_of(
            self.expressions,
            options.head_pose,
            options.eyes,
            options.look.unsure_below > 0,
            options.relative_to != "nobody",
        )

    @property
    def rejected(self) -> pandas.DataFrame:
        """What was left out and why: input, frame (-1 for all of it), reason and detail."""
        self._all()
        return tables.frame_of(self._rejected, tables.REJECTED)

    @property
    def landmarks(self) -> np.ndarray:
        """float32 (N, 68, 2), iBUG order, pixels of each face's upright frame."""
        return np.array([face.landmarks for face in self], np.float32).reshape(-1, 68, 2)

    @property
    def masks(self) -> np.ndarray:
        """uint8 (N, 256, 256), the landmark masks of section 3.2."""
        size = align.FACE_SIZE
        return np.array([face.mask for face in self], np.uint8).reshape(-1, size, size)

    @property
    def crops(self) -> np.ndarray:
        """uint8 (N, 256, 256, 3), RGB: the aligned faces; 192 KB each. `each_crop` gives them one by one."""
        size = align.FACE_SIZE
        return np.array(list(self.each_crop()), np.uint8).reshape(-1, size, size, 3)

    @cached_property
    def embeddings(self) -> np.ndarray:
        """float32 (N, 256): the network's features of each face."""
        crops, parts = self.each_crop(), [np.zeros((0, 256), np.float32)]
        while batch := list(itertools.islice(crops, BATCH)):
            parts.append(self._network.embed(batch))
        return np.concatenate(parts)

    def relative(self, to: RelativeTo = "person", strength: float = STRENGTH) -> np.ndarray:
        """Returns each face's probabilities relative to what the same person usually shows, float32 (N, classes).

        A person whose resting face looks sad to the network is not sad all day: from the logarithms of a face's
        probabilities their mean over all faces of the person is taken, and the rest is made to sum to 1. No label is
        needed, but ten faces, and several expressions among them; where there are fewer, a face keeps its own answer.

        Example:
          faces = recognize("people/*/*.jpg")  # One folder a person, whatever the expression.
          faces.relative("folder").argmax(axis=1)

        Args:
          to: whose faces count: a clip's followed `person` (as smoothed), the files of one `folder`, or `all` of this
            result.
          strength: of the mean that is taken, 0 to 1. All of it is right where each expression is shown about as often;
            half costs less where one prevails.

        Raises:
          InputError: for other values.
        """
        if to not in RELATIVE_TO:
            raise not_one_of("to", to, RELATIVE_TO)
        if not is_number(strength) or not 0 <= strength <= 1:
            raise InputError(f"`strength` must be a number from 0 to 1. Received: {strength!r}.")
        return self._relative(owners_of(self, to), strength)

    def _relative(self, owners: np.ndarray, strength: float = STRENGTH) -> np.ndarray:
        scores = np.array([face.answer.probabilities for face in self], np.float32)
        return relative(scores.reshape(-1, len(self.expressions)), owners, strength)

    def each_crop(self) -> Iterator[np.ndarray]:
        """Yields each face's crop, uint8 (256, 256, 3), reading the inputs once more but detecting nothing."""
        for source, group in itertools.groupby(self._all(), key=lambda face: face.source):
            yield from crops_of(source, list(group), self._extractor, self._stamps.get(id(source)))

    def crop(self, face: Face | int) -> np.ndarray:
        """Returns one face's crop, uint8 (256, 256, 3); a clip is read up to its frame."""
        face = self._chosen(face)
        return next(crops_of(face.source, [face], self._extractor, self._stamps.get(id(face.source))))

    def explain(self, face: Face | int, method: str = "layercam", expression: str = "") -> np.ndarray:
        """Returns the face with a heat map of what speaks for an expression, uint8 (h, w, 3).

        Args:
          face: a face of this result, or its number in it.
          method: one of `fer_tf.evaluation.saliency.METHODS`.
          expression: the one to explain; empty for the most probable.

        Raises:
          InputError: for another face or expression, or when the network's weights are not at hand (a server's).
        """
        face = self._chosen(face)
        from fer_tf.recognition.explaining import explain_by

        return explain_by(self._network, self.crop(face), expression or face.expression, method)

    def _chosen(self, face: Face | int) -> Face:
        """A face itself, or the one of a number."""
        if isinstance(face, Face):
            return face
        if is_number(face, numbers.Integral):
            if face < 0 or not self._advance(int(face)):
                self._all()
            if -len(self._found) <= face < len(self._found):
                return self._found[int(face)]
        raise InputError(f"`face` must name one of the {len(self)} faces that were found. Received: {face!r}.")

    def save(self, path: str | os.PathLike) -> str:
        """Writes the table and returns the path; the file gets its name when it is complete.

        Args:
          path: ends in .csv, .jsonl or .parquet (which needs pyarrow); it may lie in a bucket.
        """
        return tables.save(as_local(os.fspath(path)), self.columns, self._rows())

    def save_rejected(self, path: str | os.PathLike) -> str:
        """Writes what was left out and returns the path, which ends as that of `save`."""
        self._all()
        return tables.save(as_local(os.fspath(path)), tables.REJECTED, self._rejected)

    def save_found(self, path: str | os.PathLike, rejected: str | os.PathLike) -> list[str]:
        """Writes the faces found so far and what was left out, for when an error or Ctrl-C has ended the looking.

        Relative answers, which need all faces, are empty. Returns the paths, none where nothing was found yet.

        Args:
          path, rejected: end as for `save`, and should say that not all is in them.
        """
        unknown = () if self._options.relative_to == "nobody" else (None, None)
        rows = ((*tables.row_of(face, self._options.head_pose), *unknown) for face in self._found)
        if not self._found and not self._rejected:
            return []
        written = tables.save(os.fspath(path), self.columns, rows)
        return [written, tables.save(os.fspath(rejected), tables.REJECTED, self._rejected)]

    def plot(self, number: int = 0) -> Any:
        """Returns a figure of one input: a picture with its faces, or the course of a clip's expressions.

        Args:
          number: which of the inputs.
        """
        from fer_tf.recognition.plots import plot

        if not is_number(number, numbers.Integral) or not -len(self._sources) <= number < len(self._sources):
            raise InputError(f"`number` must name one of {len(self._sources)} inputs. Received: {number!r}.")
        source = self._sources[number]
        self._all()
        check_unchanged(source, self._stamps.get(id(source)))
        return plot(source, [face for face in self if face.source is source], self._extractor)

    def __repr__(self) -> str:
        inputs = f"{len(self._sources)} input{'s' if len(self._sources) != 1 else ''}"
        if self._ended_by:
            return f"<Faces of {inputs}: {len(self._found)}, then ended by {self._ended_by}>"
        if not self._done:
            return f"<Faces of {inputs}: {len(self._found)} so far; iterate, or ask for .table()>"
        left_out = sum(reason not in NOTES for _, _, reason, _ in self._rejected)
        return f"<Faces of {inputs}: {len(self._found)}; {left_out} left out>"

    def _repr_html_(self) -> str:
        from fer_tf.recognition.plots import as_html

        if self._items is None and self._first_look:
            return self._first_look
        held, is_first = self._extractor.decoder.working, self._items is None
        # A first look is enough: an hour of video is not looked at for a cell's last line.
        if not self._ended_by:
            self._advance(THUMBNAILS)
        shown = as_html(repr(self), self._found[:THUMBNAILS], self._thumbnails)
        if is_first and self._items is not None and not self._done and self._extractor.decoder.working > held:
            # A notebook keeps what it shows, and with it the process that decodes the clip: who asks for more begins
            # anew, a few frames.
            self._items.close()
            self._items, self._first_look = None, shown
            self._found, self._rejected, self._thumbnails = [], [], []
        return shown

    def _all(self) -> list[Face]:
        for _ in self:
            pass
        return self._found

    def _advance(self, number: int) -> bool:
        """Looks on until there is a face of this number; returns whether there is."""
        while len(self._found) <= number and not self._done:
            self._next()
        return len(self._found) > number

    def _next(self) -> SeenFrame | Unreadable | None:
        """Looks on by one frame, notes what is in it and returns it; None when there is no more."""
        if self._ended_by:
            raise InputError(
                f"not all faces were found, looking ended early ({self._ended_by}): recognise the inputs again"
            )
        try:
            if self._items is None:
                self._items = self._look(self._options.look)
            item = next(self._items, None)
            if item is None:
                self._done = True
            else:
                self._note(item)
        except BaseException as error:
            # What waited for its answers is lost, and the rest must not pass for all.
            self._ended_by = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            raise
        return item

    def each_frame(self, with_pictures: bool = True) -> Iterator[SeenFrame | Unreadable]:
        """Yields every frame with its pixels, for drawing, or the looked-at ones without; to be called first.

        What is found on the way is this result's.

        Raises:
          InputError: when some of the inputs were looked at already.
        """
        if self._items is not None:
            raise InputError("frames come with their pixels on the first look only: recognise the inputs again")
        # Who breaks off and asks for the table gets the rest of this look, not a second one.
        self._items = self._look(dataclasses.replace(self._options.look, with_pictures=with_pictures))
        while (item := self._next()) is not None:
            yield item

    def _rows(self) -> Iterator[tuple]:
        rows = (tables.row_of(face, self._options.head_pose) for face in self)
        to = self._options.relative_to
        if to == "nobody":
            yield from rows
        else:
            # All faces are looked at before the first is compared.
            owners = owners_of(self, to)
            answers, known = self._relative(owners), compared(owners)
            yield from map(tables.with_relative, rows, answers, known, itertools.repeat(self.expressions))

    def _look(self, options: LookOptions) -> Generator[SeenFrame | Unreadable, None, None]:
        return look(self._stamped(), self._extractor, self._network.classify, options, self._describe)

    def _stamped(self) -> Iterator[Source]:
        for source in self._sources:
            self._stamps[id(source)] = stamp_of(source)
            yield source

    def _note(self, item: SeenFrame | Unreadable) -> None:
        """Keeps a frame's faces and what was left out of it."""
        if isinstance(item, Unreadable):
            self._rejected.append((item.source.name, -1, item.error.reason, item.error.detail))
            return
        self._rejected += [(item.source.name, left.frame, left.reason, left.detail) for left in item.rejected]
        for face in item.faces if item.looked_at else ():
            if len(self._thumbnails) < THUMBNAILS:
                self._thumbnails.append(face.aligned.image)
            self._found.append(face_of(item, face, self._options.eyes))
