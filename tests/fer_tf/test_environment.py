"""The environment is checked as flags are, and a terminal's coding does not end the work."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fer_tf.environment import Workers, check_keras
from fer_tf.errors import InputError

TWO = {"worker": ["a:1", "b:1"]}
FIRST = {"type": "worker", "index": 0}


def read(value: object) -> Workers:
    return Workers.read({"TF_CONFIG": value if isinstance(value, str) else json.dumps(value)})


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ('{"cluster": {"worker": ["localhost:1"]', "is no JSON: .* at character 39"),
        ("worker", "is no JSON"),
        ([], "must be an object"),
        ("null", "must be an object"),
        ({"cluster": []}, "field `cluster` must be an object"),
        ({"cluster": {"worker": "a:1"}}, "field `cluster.worker` must be a list"),
        ({"cluster": {"worker": ["a", "b:1"]}, "task": FIRST}, "must name HOST:PORT; 'a' is none"),
        ({"cluster": {"worker": ["a:one", "b:1"]}, "task": FIRST}, "'a:one' is none"),
        ({"cluster": {"worker": [1, 2]}, "task": FIRST}, "must name HOST:PORT"),
        ({"cluster": {"worker": ["a:1", "a:1"]}, "task": FIRST}, "names 'a:1' twice"),
        ({"cluster": {"chief": ["a:1", "c:1"], "worker": ["b:1"]}, "task": FIRST}, "names 2 chiefs"),
        ({"cluster": {"ps": ["a:1"], "worker": ["b:1"]}, "task": FIRST}, "must be one of .'chief', 'worker'"),
        ({"cluster": TWO}, "field `task.type` must be one of .'worker',."),
        ({"cluster": TWO, "task": []}, "field `task` must be an object"),
        ({"cluster": TWO, "task": {"index": 0}}, "field `task.type` must be one of"),
        ({"cluster": TWO, "task": {"type": "chief", "index": 0}}, "field `task.type` must be one of"),
        ({"cluster": TWO, "task": {"type": "worker"}}, "field `task.index` must be a number from 0 to 1, it is None"),
        ({"cluster": TWO, "task": {"type": "worker", "index": "two"}}, "from 0 to 1, it is 'two'"),
        ({"cluster": TWO, "task": {"type": "worker", "index": 2}}, "from 0 to 1, it is 2"),
        ({"cluster": TWO, "task": {"type": "worker", "index": -1}}, "from 0 to 1, it is -1"),
        ({"cluster": TWO, "task": {"type": "worker", "index": True}}, "from 0 to 1, it is True"),
        ({"cluster": TWO, "task": {"type": ["worker"], "index": 0}}, "field `task.type` must be one of"),
        ({"cluster": TWO, "task": {"type": "worker", "index": "²"}}, "from 0 to 1, it is '²'"),
        ({"cluster": {"worker": ["a:1", "b:²"]}, "task": FIRST}, "'b:²' is none"),
        ({"cluster": {"worker": ["http://a:1", "b:1"]}, "task": FIRST}, "'http://a:1' is none"),
        ({"cluster": {"worker": ["::1:1", "b:1"]}, "task": FIRST}, "'::1:1' is none"),
        ({"cluster": {"worker": []}, "task": FIRST}, "field `cluster.worker` must be a list"),
        ({"Cluster": TWO, "task": FIRST}, "field `Cluster` must be written `cluster`"),
        ("[" * 100_000, "nested too deep"),
    ],
)
def test_what_is_wrong_with_tf_config_is_told(value: object, words: str) -> None:
    with pytest.raises(InputError, match=f"TF_CONFIG.*{words}"):
        read(value)


@pytest.mark.parametrize(
    ("value", "workers"),
    [
        ("", Workers()),
        ("  ", Workers()),
        ({}, Workers()),
        ({"task": FIRST}, Workers()),
        ({"cluster": {}, "task": {}}, Workers()),
        ({"cluster": {"worker": ["localhost:1"]}}, Workers()),
        ({"cluster": {"worker": ["localhost:1"]}, "task": FIRST}, Workers()),
        ({"cluster": TWO, "task": {"type": "worker", "index": "1"}}, Workers(2, 1)),
        (
            {"cluster": {"chief": ["[::1]:1"], "worker": ["b:1", "c:1"]}, "task": {"type": "worker", "index": 1}},
            Workers(3, 2),
        ),
    ],
)
def test_a_good_tf_config_is_read(value: object, workers: Workers) -> None:
    assert read(value) == workers


def run(program: str, *args: str, **environment: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", program, *args] if program.count(" ") == 0 else [sys.executable, "-c", program]
    return subprocess.run(command, env={**os.environ, **environment}, capture_output=True, timeout=120)


def test_a_command_ends_with_2_and_one_line(tmp_path: Path) -> None:
    for variable, value in (("TF_CONFIG", '{"cluster": ['), ("KERAS_BACKEND", "torch")):
        ended = run("trainer.task", f"--run_dir={tmp_path / 'run'}", **{variable: value})
        assert ended.returncode == 2
        assert variable in ended.stderr.decode() and b"Traceback" not in ended.stderr
        assert not (tmp_path / "run").exists()


def test_keras_runs_on_tensorflow_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for value in ("", "tensorflow"):
        monkeypatch.setenv("KERAS_BACKEND", value)
        check_keras()
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    with pytest.raises(InputError, match=r"KERAS_BACKEND.*'jax'"):
        check_keras()


def test_what_a_terminal_cannot_show_is_printed_with_replacements() -> None:
    program = (
        "from fer_tf.config import run_command\n"
        "def main(argv):\n"
        "    print('Ren\\u00e9e', '\\udce9.jpg')\n"
        "    from fer_tf.errors import InputError\n"
        "    raise InputError('Ren\\u00e9e is missing')\n"
        "raise SystemExit(run_command(main, []))"
    )
    for coding in ("ascii", "latin-1", "utf-8"):
        ended = run(program, PYTHONIOENCODING=coding)
        assert ended.returncode == 2 and ended.stdout.startswith(b"Ren") and b"is missing" in ended.stderr
        assert b"Traceback" not in ended.stderr
