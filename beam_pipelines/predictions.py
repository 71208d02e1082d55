"""The files that `beam_pipelines.predict` writes, and which of those that stand in a folder an earlier run wrote."""

from __future__ import annotations

import json
import os
import re

from fer_tf import files
from fer_tf.recognition import earlier

PREDICTIONS, REJECTED, SUMMARY = "predictions.jsonl", "rejected.jsonl", "summary.json"
COUNTS = ("read", "not_read", "other_files", "faces", "left_out")
_STEM, _ENDING = os.path.splitext(PREDICTIONS)
_NAMES = re.compile(rf"{_STEM}(-\d{{5}}-of-\d{{5}})?{re.escape(_ENDING)}|{re.escape(REJECTED)}|{re.escape(SUMMARY)}")
# What every line of predictions and of rejected files begins with, and more than a summary has.
_LINE, _LONGEST_SUMMARY = b'{"input":', 1 << 16


def paths_of(output: str, shards: int) -> list[str]:
    """Returns the paths of the predictions in so many files."""
    if shards == 1:
        return [files.join(output, PREDICTIONS)]
    return [files.join(output, f"{_STEM}-{shard:05d}-of-{shards:05d}{_ENDING}") for shard in range(shards)]


def is_earlier(path: str) -> bool:
    """Returns whether a file has the name and the content of one that an earlier run wrote; an empty one loses none."""
    name = os.path.basename(path)
    if not _NAMES.fullmatch(name):
        return False
    try:
        with files.open_to_read(path) as file:
            begin = file.read(_LONGEST_SUMMARY)
    except OSError:
        return False
    if name != SUMMARY:
        return not begin or begin.startswith(_LINE)
    try:
        return set(json.loads(begin)) == set(COUNTS)
    except (ValueError, TypeError):
        return not begin


def check(output: str, shards: int) -> None:
    """Raises InputError where a file that no earlier run wrote would be replaced."""
    for path in (*paths_of(output, shards), files.join(output, REJECTED), files.join(output, SUMMARY)):
        if files.exists(path) and not is_earlier(path):
            raise earlier.not_ours(path)


def delete_earlier(output: str, shards: int) -> None:
    """Deletes the predictions of an earlier run that wrote another number of files."""
    found = files.matching(output, f"{_STEM}*{_ENDING}")
    files.delete(*(path for path in set(found) - set(paths_of(output, shards)) if is_earlier(path)))
