"""The commands that the benchmarks' own texts show are ones that their parsers take."""

from __future__ import annotations

import re
import shlex
from importlib import import_module
from pathlib import Path

import cv2
import pytest
import tensorflow as tf

from benchmarks import extraction
from fer_tf.config import parse

FOLDER = Path(extraction.__file__).parent


def shown_commands() -> list[tuple[str, str]]:
    found = []
    for path in sorted(FOLDER.glob("*.py")):
        text = path.read_text().split('"""')[1]
        found += re.findall(r"python -m benchmarks\.(\w+)((?: --[\w=\[\],./-]+)+)", text)
    return found


@pytest.mark.parametrize(("module", "flags"), shown_commands())
def test_a_shown_command_is_taken(module: str, flags: str) -> None:
    benchmark = import_module(f"benchmarks.{module}")
    config_class = benchmark.FuzzConfig if module == "serving_fuzz" else benchmark.BenchmarkConfig
    config, _ = parse(config_class, shlex.split(flags), prog=module, description="")
    assert isinstance(config, config_class)


def test_each_part_of_extraction_uses_the_clips_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(30):
        (tmp_path / f"{number:02}.mp4").touch()
    # Threads are the process's, which other tests share.
    for name in ("intra", "inter"):
        monkeypatch.setattr(tf.config.threading, f"set_{name}_op_parallelism_threads", lambda count: None)
    monkeypatch.setattr(cv2, "setNumThreads", lambda count: None)
    used = {}
    for part in ("speed", "boxes", "memory"):
        monkeypatch.setattr(extraction, part, lambda config, part=part: used.update({part: config}))
    assert extraction.main([f"--videos={tmp_path}", "--clips=3"]) == 0
    assert {part: len(extraction.clips_of(config)) for part, config in used.items()} == dict.fromkeys(used, 3)
    assert len(used) == 3
    left_out = extraction.BenchmarkConfig(videos=str(tmp_path))
    assert len(extraction.clips_of(left_out)) == 30
    assert len(extraction.clips_of(left_out, extraction.SPEED_CLIPS)) == 24
