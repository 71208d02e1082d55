"""`make demo` fits a screen and keeps everything in a log; the commands are stood in for by their real run's lines."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).parent.parent
LINES = {
    "beam_pipelines.build": "12:00:00 extract: 3 of 132 clips\\n" * 9 + "913 faces of 6 persons from 132 clips\\n",
    "trainer.task": "2026-01-01 12:00:00 INFO stage fa_net of er_ss in runs/er_ss\\n"
    + "2026-01-01 12:00:00 INFO epoch 1/12 accuracy 0.1\\n" * 99,
    "serving.export": "exported runs/er_ss/fa_net to models/fa_net/1\\n",
    "serving.server": "ready: grpc=127.0.0.1:8500\\n",
    "serving.client": "photo.jpg: 1 face\\n",
}


def run_demo(folder: Path, failing: str = "") -> subprocess.CompletedProcess[str]:
    shutil.copyfile(ROOT / "demo.sh", folder / "demo.sh")
    cases = "".join(f"{module}) printf '{lines}' >&2;;\n" for module, lines in LINES.items())
    python = folder / "bin" / "python"
    python.parent.mkdir()
    ends = f"[ $2 != serving.server ] || exec sleep 60\n[ $2 != '{failing}' ]\n"
    python.write_text(f"#!/bin/bash\ncase $2 in\n{cases}esac\n{ends}")
    python.chmod(0o755)
    environment = os.environ | {"PATH": f"{python.parent}:{os.environ['PATH']}"}
    command = ["bash", str(folder / "demo.sh")]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


def test_the_demo_fits_a_screen_and_its_log_has_all_lines(tmp_path: Path) -> None:
    done = run_demo(tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) < 40
    assert "   913 faces of 6 persons" in done.stdout and "   stage fa_net of er_ss" in done.stdout
    assert "epoch 1/12" not in done.stdout
    assert (tmp_path / "demo" / "demo.log").read_text().count("epoch 1/12") == 99


def test_a_step_that_fails_ends_the_demo_with_its_last_lines(tmp_path: Path) -> None:
    done = run_demo(tmp_path, "trainer.task")
    assert done.returncode == 1 and "3/5 export" not in done.stdout
    assert done.stdout.count("epoch 1/12") == 20 and "demo/demo.log" in done.stderr
