"""A data folder as the report and `look` need it: its labels, poses, counts and fingerprint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fer_tf.data import public
from fer_tf.data.folder import DataFolder
from fer_tf.errors import InputError
from fer_tf.reports.paper_tables import SET_NAMES


@dataclass(frozen=True)
class Corpus:
    """What is known of some data.

    Attributes:
      data: its data folder; a public set's is the one that its records are in.
      name: what Table 1 calls it.
      summary: dataset.json.
      task: which public set, or empty.
      source: the public set as it was given, or empty.
    """

    data: str
    name: str
    summary: dict[str, Any] = field(repr=False)
    task: str = ""
    source: str = ""

    @property
    def fingerprint(self) -> str:
        return self.summary["fingerprint"]

    def fingerprint_of(self, flags: dict[str, Any]) -> str:
        """Returns the fingerprint that this data has for a run with these flags, which may split it otherwise."""
        share = flags.get("held_out", public.HELD_OUT)
        if not self.source or flags.get("task") != self.task or share == public.HELD_OUT:
            return self.fingerprint
        return DataFolder(public.folder_of(self.task, self.source, share)).dataset["fingerprint"]

    @property
    def statistics(self) -> dict[str, Any]:
        return self.summary["statistics"]


def read_corpus(data: str, tasks: Sequence[str] = ()) -> Corpus | None:
    """Returns a data folder, or a public set in one of its published layouts; None when there is neither.

    Args:
      data: a data folder of beam_pipelines.build, or a public set's folder or file.
      tasks: the public sets that it may be; all when empty.

    Raises:
      InputError: when a dataset.json cannot be read, or when `tasks` names one public set and the data is not that.
    """
    if DataFolder(data).exists:
        return _corpus(data)
    if not Path(data).exists():
        return None
    known = [name for name in SET_NAMES if public.public_set(name).expressions]
    if Path(data).is_file():
        # The one set that is a file; another's reader would hide what is wrong with it.
        tasks = tasks or [name for name in known if public.public_set(name).takes_file]
    for task in tasks or known:
        try:
            return _corpus(public.folder_of(task, data), data)
        except InputError:
            if len(tasks) == 1:
                raise
    return None


def _corpus(folder: str, source: str = "") -> Corpus:
    summary = DataFolder(folder).dataset
    if "statistics" not in summary:
        raise InputError(f"`data` {folder!r} has no `statistics` in its dataset.json; run beam_pipelines.build again.")
    task = summary.get("set", "")
    return Corpus(folder, f"{SET_NAMES[task]}, as found" if task else "this corpus", summary, task, source)
