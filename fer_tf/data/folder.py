"""A data folder: its files by name, whether it is whole, its readers, and how a new build takes an earlier one's place.

    data = DataFolder("data/faces")
    data.dataset["expressions"]
    for face in data.faces(): ...

No other module spells a file name of a data folder. `dataset.json` comes last and goes first: where it is, all is.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from fer_tf import files, tfrecords
from fer_tf.data import schema
from fer_tf.data.schema import FaceRecord
from fer_tf.errors import InputError
from fer_tf.labels import SPLITS

DATASET_FILE = "dataset.json"
_DIGEST_BITS = 256
_REJECTED, _LEAKS, _PAGE, _TAGS = "rejected.jsonl", "leaks.jsonl", "report.html", "tags.npz"
# The most bytes that a file's name may have.
_NAME_BYTES = 255
# What a build replaces as a whole.
_FOLDERS = ("records", "pairs", "landmarks")


@dataclass(frozen=True)
class DataFolder:
    """A folder that `beam_pipelines.build` writes, or that a public set becomes.

    Attributes:
      path: where it is, on this machine or such as `gs://`.
    """

    path: str

    @property
    def exists(self) -> bool:
        """Whether there is a whole data folder."""
        return files.exists(files.join(self.path, DATASET_FILE))

    @cached_property
    def dataset(self) -> dict[str, Any]:
        """What dataset.json says.

        Raises:
          InputError: when there is none, or it cannot be read.
        """
        path = files.join(self.path, DATASET_FILE)
        if not self.exists:
            raise InputError(f"`data` {self.path!r} has no {DATASET_FILE}; run `python -m beam_pipelines.build` first.")
        try:
            return files.read_json(path)
        except (OSError, ValueError) as error:
            raise InputError(f"{path} cannot be read: {error}; run beam_pipelines.build again.") from None

    @property
    def drawn_from(self) -> str:
        """The folder that this is another draw of (`fer_tf.data.draws`) and where its records lie, or empty."""
        return self.dataset.get("draw", {}).get("of", "") if files.exists(files.join(self.path, _TAGS)) else ""

    @cached_property
    def _records_in(self) -> str:
        """The folder of the records; raises InputError when they were built anew since they were drawn from."""
        if not self.drawn_from:
            return self.path
        now, then = DataFolder(self.drawn_from).dataset["fingerprint"], self.dataset["draw"]["fingerprint"]
        if now != then:
            raise InputError(
                f"{self.drawn_from} was built anew since the draw in {self.path}; remove the draw's folder."
            )
        return self.drawn_from

    def tags(self, task: str) -> dict[str, str] | None:
        """Returns each image's part of a task, where a draw says it; None where the records' own tags do."""
        if not self.drawn_from:
            return None
        arrays = files.read_arrays(files.join(self.path, _TAGS))
        parts = [SPLITS[code] if code >= 0 else "" for code in arrays[task].tolist()]
        return dict(zip(arrays["image_id"].tolist(), parts, strict=True))

    def write_tags(self, columns: dict[str, np.ndarray]) -> None:
        """Writes a draw's tags: `image_id` str (N,), and for each task int8 (N,), positions in SPLITS, -1 for none."""
        files.write_arrays(files.join(self.path, _TAGS), **columns)

    @property
    def has_faces(self) -> bool:
        """Whether there is any file of face records, in a full set or not."""
        return bool(files.matching(self.path, schema.FACES_GLOB))

    @property
    def face_files(self) -> tuple[str, ...]:
        """The files of face records, a full set; raises InputError when there are none or some are missing."""
        return record_files(self._records_in, schema.FACES_GLOB)

    @property
    def pair_files(self) -> tuple[str, ...]:
        """The files of pair records, a full set; raises InputError when there are none or some are missing."""
        return record_files(self._records_in, schema.PAIRS_GLOB)

    def faces(self, about: int = 0) -> Iterator[FaceRecord]:
        """Yields face records in order.

        Args:
          about: at most about so many, spread evenly; 0 for all.

        Raises:
          InputError: when there are none, or a file is damaged.
        """
        paths = self.face_files
        # Counted and not read from dataset.json, which a folder of synthetic faces does not have.
        total = sum(1 for path in paths for _ in tfrecords.read(path)) if about else 0
        every = max(1, round(total / about)) if about else 1
        records = (record for path in paths for record in tfrecords.read(path))
        for record in itertools.islice(records, 0, None, every):
            yield schema.decode(record)

    def face_file(self, shard: int, shards: int) -> str:
        return files.join(self.path, schema.FACES_PATTERN.format(shard=shard, shards=shards))

    def pair_file(self, shard: int, shards: int) -> str:
        return files.join(self.path, schema.PAIRS_PATTERN.format(shard=shard, shards=shards))

    def landmark_file(self, clip_id: str) -> str:
        """The file with a clip's points as text; a name that is too long with its ending is cut and gets a hash."""
        *folders, name = f"{clip_id}.txt".split("/")
        encoded = name.encode("utf-8", "surrogateescape")
        if len(encoded) > _NAME_BYTES:
            ending = f"~{hashlib.blake2b(encoded, digest_size=8).hexdigest()}.txt"
            name = encoded[: _NAME_BYTES - len(ending)].decode("utf-8", "ignore") + ending
        return files.join(self.path, "landmarks", *folders, name)

    @property
    def page(self) -> str:
        """The corpus on one page."""
        return files.join(self.path, _PAGE)

    @property
    def leaks(self) -> str:
        """The list of faces that the parts of a task share."""
        return files.join(self.path, _LEAKS)

    @property
    def rejected(self) -> str:
        """The list of all that was left out."""
        return files.join(self.path, _REJECTED)

    @property
    def rejected_by_failed(self) -> str:
        """The list of what a build left out that has failed since."""
        return files.join(self.path, "rejected.failed.jsonl")

    @property
    def alignments(self) -> str:
        """Where each picture of a public set has its face, as it was found once."""
        return files.join(self.path, "alignments.npz")

    @property
    def building(self) -> str:
        """The folder of a build that is under way."""
        return files.join(self.path, ".building")

    @property
    def extracted(self) -> str:
        """The folder of the finished clips' faces, which the next build finds again."""
        return files.join(self.path, ".extracted")

    def write_rejected(self, parts: Iterable[str], path: str = "") -> None:
        """Joins some files into the list of all that was left out, or into another."""
        with files.whole_file(path or self.rejected) as target:
            for part in parts:
                with files.open_to_read(part) as source:
                    shutil.copyfileobj(source, target)

    def take(self, made: DataFolder, dataset: dict[str, Any], rejected: Iterable[str], aside: str) -> None:
        """Moves what a build has made to its final names, in the place of what an earlier one left.

        Args:
          made: the folder that it was made in, on the same file system.
          dataset: for dataset.json, by which readers know a data folder.
          rejected: files that together list all that was left out.
          aside: how the names of the build's own notes end, which stay behind.
        """
        files.delete(files.join(self.path, DATASET_FILE))
        for folder in _FOLDERS:
            files.delete_folder(files.join(self.path, folder))
        for path in files.matching(made.path, files.ANY_DEPTH):
            # What a killed worker had begun is no shard.
            if not path.endswith(aside) and files.UNFINISHED not in path:
                files.move(path, files.join(self.path, os.path.relpath(path, made.path)))
        self.write_rejected(rejected)
        files.delete(self.rejected_by_failed)
        self.write_dataset(dataset)

    def write_dataset(self, dataset: dict[str, Any]) -> None:
        """Writes dataset.json, which makes the folder a data folder: after all else."""
        files.write_json(files.join(self.path, DATASET_FILE), dataset)


def record_files(folder: str, pattern: str = schema.FACES_GLOB) -> tuple[str, ...]:
    """Returns a folder's shards in order; raises InputError when there are none or some are missing."""
    found = tuple(files.matching(folder, pattern))
    if not found:
        raise InputError(
            f"no record files {files.join(folder, pattern)!r}; run `python -m beam_pipelines.build` first."
        )
    stem, shards = found[0].rsplit("-of-", 1)[0][:-5], int(found[0].rsplit("-of-", 1)[1].split(".")[0])
    wanted = tuple(f"{stem}{shard:05d}-of-{shards:05d}.tfrecord" for shard in range(shards))
    if found != wanted:
        odd = sorted(set(wanted) ^ set(found))
        raise InputError(f"record files do not form one set of {shards} shards; missing or left over: {odd[0]}.")
    return found


def digest(record: bytes) -> int:
    """Returns a record's share of the fingerprint of its set; shares are added up modulo 2 ** 256."""
    return int.from_bytes(hashlib.sha256(record).digest(), "little")


def fingerprint(digests: int, examples: int) -> str:
    """Returns a hash of a set of records, whatever their order and shards: of the sum of their SHA-256 digests."""
    return hashlib.sha256(f"{digests % (1 << _DIGEST_BITS):064x}/{examples}".encode()).hexdigest()


def fingerprint_of(paths: Sequence[str]) -> str:
    """Returns the fingerprint of the records in some files, empty for no file; raises InputError for a damaged one."""
    digests, examples = 0, 0
    for path in paths:
        for record in tfrecords.read(path):
            digests, examples = digests + digest(record), examples + 1
    return fingerprint(digests, examples) if paths else ""
