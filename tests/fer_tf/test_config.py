"""Groups of options give the same flags as single fields, and what is wrong is said alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from fer_tf import config
from fer_tf.config import group, parse, to_dict
from fer_tf.errors import InputError


@dataclass(frozen=True)
class Training:
    """How the network is trained.

    Attributes:
      epochs: passes over the data, 50 % of them at full size.
      recipe: which one.
    """

    epochs: int = 3
    recipe: Literal["paper", "best"] = "best"

    def __post_init__(self) -> None:
        if self.epochs < 0:
            raise InputError(f"`epochs` must not be negative. Received: {self.epochs}.")


@dataclass(frozen=True)
class Command:
    """What to do.

    Attributes:
      data: the data.
      inputs: files.
      own: as the command wants it.
      gan: the generator's.
      verify: whether to look twice.
    """

    data: str = "data"
    inputs: list[str] = field(default_factory=list)
    own: Training = group(Training, epochs=5)
    gan: Training = group(Training, prefix="gan_")
    verify: bool = False


def parsed(*argv: str) -> Command:
    return parse(Command, argv, prog="python -m it", description="It.", positional="inputs")[0]


def test_a_groups_fields_are_flags_with_its_prefix_and_the_commands_defaults() -> None:
    assert parsed() == Command() and Command().own.epochs == 5 and Command().gan.epochs == 3
    found = parsed("a", "b", "--epochs=7", "--gan_recipe=paper", "--verify")
    assert found == Command("data", ["a", "b"], Training(7), Training(3, "paper"), True)


def test_config_json_and_yaml_are_flat(tmp_path: Path) -> None:
    made = config.of(Command, data="d", gan_epochs=1)
    flat = to_dict(made)
    assert list(flat) == ["data", "inputs", "epochs", "recipe", "gan_epochs", "gan_recipe", "verify"]
    assert config.of(Command, **json.loads(json.dumps(flat))) == made
    assert config.replace(made, epochs=9).own.epochs == 9 and config.replace(made, epochs=9).gan == made.gan
    (tmp_path / "c.yaml").write_text("gan_epochs: 1\ndata: d\n")
    assert parsed(f"--config={tmp_path / 'c.yaml'}") == made


@pytest.mark.parametrize(
    ("argv", "reason"),
    [
        (["--epochs=-1"], "`epochs` must not be negative. Received: -1."),
        (["--gan_epochs=many"], "`gan_epochs` must be a whole number. Received: 'many'."),
        (["--gan_recipe=worst"], "`gan_recipe` must be one of ('paper', 'best'). Received: 'worst'."),
        (["--verify=perhaps"], "`verify` must be true or false. Received: 'perhaps'."),
        (["--epoch=3"], "unknown flag '--epoch=3'; --help lists the flags"),
    ],
)
def test_what_is_wrong_is_printed_alone(argv: list[str], reason: str, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as ended:
        parsed(*argv)
    assert ended.value.code == config.EXIT_USAGE
    assert capsys.readouterr().err == f"error: {reason}\nsee python -m it --help\n"


def test_an_unknown_key_of_a_yaml_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "c.yaml").write_text("epochz: 1\n")
    with pytest.raises(SystemExit):
        parsed(f"--config={tmp_path / 'c.yaml'}")
    assert "error: unknown flag 'epochz' in the YAML file" in capsys.readouterr().err
    with pytest.raises(InputError, match=r"`flag` must be one of \('data', .*Received: 'epochz'"):
        config.of(Command, epochz=1)


def test_help_stands_under_the_groups_headings(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as ended:
        parsed("--help")
    text = capsys.readouterr().out
    assert ended.value.code == 0
    assert text.index("What to do:") < text.index("--data DATA") < text.index("How the network is trained:")
    assert "passes over the data, 50 % of them at full" in text


def test_what_tensorflow_says_while_it_starts_is_led_aside_and_all_else_is_shown() -> None:
    code = (
        "import os, sys\n"
        "from fer_tf import config, start_up\n"
        "def main(argv):\n"
        "    import tensorflow as tf\n"
        "    assert tf.constant(1) + 1 == 2\n"
        "    print('its own line', file=sys.stderr)\n"
        "    os.write(2, b'E0000 00:00 later errors are shown\\n')\n"
        "    print(len(start_up.notes))\n"
        "    return 0\n"
        "sys.exit(config.run_command(main))\n"
    )
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    both = [subprocess.Popen([sys.executable, "-c", code, *flags], text=True, **pipes) for flags in ([], ["--verbose"])]
    for process, verbose in zip(both, (False, True), strict=True):
        said, errors = process.communicate(timeout=120)
        ours = ["its own line", "E0000 00:00 later errors are shown"]
        assert (errors.splitlines() == ours) == (not verbose), errors
        assert process.returncode == 0 and errors.splitlines()[-2:] == ours and (int(said) > 0) == (not verbose)


def test_ctrl_c_promises_to_go_on_where_a_command_does(capsys: pytest.CaptureFixture) -> None:
    from beam_pipelines import build, predict, synthesize
    from fer_tf.recognition import __main__ as recognition
    from serving import client, review
    from trainer import task

    def stopped(argv: object) -> int:
        raise KeyboardInterrupt

    assert config.run_command(stopped, []) == 130 and capsys.readouterr().err == "stopped: Ctrl-C\n"
    assert config.run_command(config.resuming(lambda argv: stopped(argv)), []) == 130
    assert "the same command goes on where this one stopped" in capsys.readouterr().err
    assert {build.main, synthesize.main, task.main, review.main} <= config._RESUMING
    assert not {predict.main, recognition.main, client.main} & config._RESUMING


@pytest.mark.parametrize("lines", [1, 100_000])
@pytest.mark.parametrize("buffered", ["", "1"])
def test_a_command_whose_lines_nobody_reads_further_ends_without_a_word(lines: int, buffered: str) -> None:
    code = (
        "import sys\n"
        "from fer_tf import config\n"
        "def main(argv):\n"
        "    sys.stdin.readline()\n"
        f"    for _ in range({lines}): print('a line')\n"
        "    return 0\n"
        "sys.exit(config.run_command(main))\n"
    )
    pipes = {name: subprocess.PIPE for name in ("stdin", "stdout", "stderr")}
    environment = {**os.environ, "PYTHONUNBUFFERED": buffered}
    with subprocess.Popen([sys.executable, "-c", code], env=environment, text=True, **pipes) as process:
        process.stdout.close()
        process.stdin.write("go\n")
        process.stdin.close()
        assert process.stderr.read() == "" and process.wait(60) == config.EXIT_UNREAD


def test_a_broken_pipe_to_another_program_is_still_an_error() -> None:
    def main(argv: object) -> int:
        raise BrokenPipeError("the decoder's")

    with pytest.raises(BrokenPipeError, match="the decoder's"):
        config.run_command(main, [])


@pytest.mark.parametrize(("given", "seen"), [(None, "true"), ("false", "false")])
def test_a_command_leaves_gpu_memory_to_others_unless_told_otherwise(
    monkeypatch: pytest.MonkeyPatch, given: str | None, seen: str
) -> None:
    # Set first, so that what the command sets is undone after the test.
    monkeypatch.setenv("TF_FORCE_GPU_ALLOW_GROWTH", given or "")
    if given is None:
        monkeypatch.delenv("TF_FORCE_GPU_ALLOW_GROWTH")
    found: list[str] = []
    assert config.run_command(lambda argv: found.append(os.environ["TF_FORCE_GPU_ALLOW_GROWTH"]) or 0, []) == 0
    assert found == [seen]


@pytest.mark.parametrize(
    ("argv", "inputs", "verify", "epochs"),
    [
        (["--verify", "a", "b"], ["a", "b"], True, 5),
        (["--verify", "false", "a"], ["a"], False, 5),
        (["a", "--verify", "True", "b"], ["a", "b"], True, 5),
        (["--verify=false", "a", "--epochs", "2", "b", "--data=x"], ["a", "b"], False, 2),
        (["--epochs", "2", "--verify"], [], True, 2),
    ],
)
def test_a_flags_value_may_follow_it_and_inputs_stand_anywhere(
    argv: list[str], inputs: list[str], verify: bool, epochs: int
) -> None:
    found = parsed(*argv)
    assert (found.inputs, found.verify, found.own.epochs) == (inputs, verify, epochs)


def test_behind_two_hyphens_names_may_begin_with_one() -> None:
    assert parsed("a.jpg", "--", "-dash.jpg", "--epochs=3").inputs == ["a.jpg", "-dash.jpg", "--epochs=3"]
    assert parsed("--", "-dash.jpg").inputs == ["-dash.jpg"]


def test_the_users_folder_stands_for_a_tilde_which_a_shell_leaves_in_flags(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/anna")
    found = parsed("~/a.jpg", "a~/b~.jpg", "~backup", "--data=~/out")
    assert found.inputs == ["/home/anna/a.jpg", "a~/b~.jpg", "~backup"] and found.data == "/home/anna/out"
    assert parsed("--data=er_ss=~/faces,jaffe=~/j").data == "er_ss=/home/anna/faces,jaffe=/home/anna/j"
