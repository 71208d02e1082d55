"""Every command starts the same quiet way: nothing of TensorFlow's start-up stands between a user's lines."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest

import fer_tf
from fer_tf.__main__ import COMMANDS

ROOT = Path(__file__).parent.parent
ALSO = ("cluster.flink", "cluster.dataflow", "cluster.workers", "benchmarks.report", "serving.review.__main__")


def started(tmp_path: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    environment["PYTHONPATH"] = str(ROOT)
    return subprocess.run(
        [sys.executable, *command], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
    )


def test_no_command_imports_tensorflow_before_its_main_can_lead_the_notes_aside(tmp_path: Path) -> None:
    modules = [*(module for module, _ in COMMANDS.values()), *ALSO]
    code = f"import importlib, sys\nfor name in {modules}:\n    importlib.import_module(name)\n"
    code += "    assert 'tensorflow' not in sys.modules, name"
    done = started(tmp_path, "-c", code)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_library_asks_tensorflow_for_errors_alone_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    for before, after in ((None, "2"), ("0", "0")):
        monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)
        if before:
            monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", before)
        assert fer_tf.Recognizer and os.environ["TF_CPP_MIN_LOG_LEVEL"] == after


@pytest.mark.skipif(platform.machine() != "x86_64", reason="asked for on x86 alone")
def test_tensorflow_computes_by_onednn_unless_told_otherwise() -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TF_")}
    environment |= {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "0"}

    def printed(code: str, **more: str) -> str:
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, env=environment | more, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    # TensorFlow's own word for it, which the library leads aside.
    code = "import fer_tf; fer_tf.Recognizer; import tensorflow; from fer_tf import start_up; print(*start_up.notes)"
    assert "oneDNN custom operations are on" in printed(code)
    asked = "import os; print('asks', os.environ['TF_ENABLE_ONEDNN_OPTS'])"
    assert "asks 1" in printed(f"import beam_pipelines; {asked}")
    assert "asks 0" in printed(f"import fer_tf; fer_tf.Recognizer; {asked}", TF_ENABLE_ONEDNN_OPTS="0")


# Each imports TensorFlow, and then meets an input that is not there.
@pytest.mark.parametrize(
    "command",
    [
        ["fer_tf", "look", "--run_dir=none", "--method=activation_maximization"],
    ],
    ids=" ".join,
)
def test_an_error_after_tensorflows_start_stands_alone(tmp_path: Path, command: list[str]) -> None:
    done = started(tmp_path, "-X", "importtime", "-m", *command)
    lines = [line for line in done.stderr.splitlines() if not line.startswith("import time:")]
    assert done.returncode == 2 and re.search(r"\| +tensorflow\n", done.stderr)
    assert len(lines) == 1 and lines[0].startswith("error: no trained Fa-Net in "), lines
