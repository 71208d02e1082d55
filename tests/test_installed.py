"""What is installed works from any folder, and `make clean` takes nothing that a researcher made."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fer_tf.__main__ import COMMANDS, main
from fer_tf.errors import InputError
from fer_tf.resources import resource, samples_folder

ROOT = Path(__file__).parent.parent
SOURCES = ("fer_tf", "beam_pipelines", "trainer", "serving", "samples", "models/pretrained", "models/ferplus")
FILES = ("setup.py", "setup.cfg", "pyproject.toml", "README.md", "LICENSE")

# The lookups behind the commands' defaults; each is what a command calls.
LOOKUPS = """
import json, os
import fer_tf
from fer_tf import Recognizer
from beam_pipelines.build import Build, BuildConfig
from fer_tf.resources import resource, samples_folder
from serving.demo_samples import sample_pictures
from fer_tf.run_folder import network_folder
from fer_tf.models import fa_net
model, spec = fa_net.load(network_folder("pretrained"))
print(json.dumps({
    "package": fer_tf.__file__,
    "task": spec.task,
    "annotations": Build(BuildConfig(), []).annotations,
    "clips": sum(name.endswith(".mp4") for _, _, names in os.walk(samples_folder()) for name in names),
    "pictures": len(sample_pictures(samples_folder())),
    "labels": len(fa_net.load(network_folder("ferplus"))[1].expressions),
    "rows": len(Recognizer.load("pretrained")(os.path.join(samples_folder(), "photo.jpg")).table()),
}))
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the project installed from its wheel, far from the checkout."""
    work = tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        shutil.copytree(ROOT / name, work / "source" / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in FILES:
        shutil.copyfile(ROOT / name, work / "source" / name)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "-q"]
    offline = ["--no-deps", "--no-index"]
    build = [*pip, "wheel", *offline, "--no-build-isolation", f"--wheel-dir={work}", str(work / "source")]
    subprocess.run(build, check=True, timeout=300)
    (wheel,) = work.glob("*.whl")
    subprocess.run([*pip, "install", *offline, f"--target={work / 'site'}", str(wheel)], check=True, timeout=300)
    return work / "site"


def run(installed: Path, folder: Path, *command: str) -> str:
    environment = os.environ | {"PYTHONPATH": str(installed)}
    environment.pop("TF_CPP_MIN_LOG_LEVEL", None)
    done = subprocess.run(
        [sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def test_an_installed_wheel_finds_samples_and_weights_from_any_folder(installed: Path, tmp_path: Path) -> None:
    found = json.loads(run(installed, tmp_path, "-c", LOOKUPS).splitlines()[-1])
    assert found["package"].startswith(str(installed)) and found["annotations"].startswith(str(installed))
    assert found["task"] == "fer2013" and found["clips"] == 144 and found["pictures"] > 1
    assert (found["rows"], found["labels"]) == (1, 8)
    for template in (path for package in ("fer_tf", "serving") for path in (ROOT / package).rglob("*")):
        if template.suffix in (".j2", ".html", ".js", ".css"):
            assert (installed / template.relative_to(ROOT)).exists(), f"{template} is not in the wheel"


def test_the_installed_console_script_lists_its_commands(installed: Path, tmp_path: Path) -> None:
    shown = run(installed, tmp_path, str(installed / "bin" / "fer-tf"), "--help")
    assert all(f"  {name} " in shown for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_of_the_console_script_has_a_main(name: str) -> None:
    assert callable(importlib.import_module(COMMANDS[name][0]).main)


def test_an_unknown_command_is_a_usage_error_that_lists_the_right_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bild"]) == 2
    shown = capsys.readouterr().err
    assert "'bild'" in shown and "'build'" in shown and "beam_pipelines.build" in shown


def test_a_command_gets_the_flags_after_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["export", "--no_such_flag=1"])
    assert stopped.value.code == 2 and "no_such_flag" in capsys.readouterr().err


def test_the_folder_here_comes_before_the_packaged_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert samples_folder() == resource("samples") and samples_folder("clips") == "clips"
    (tmp_path / "samples").mkdir()
    assert samples_folder() == "samples"


def test_an_unknown_resource_is_refused() -> None:
    with pytest.raises(InputError, match="'weights'"):
        resource("weights")


def test_make_clean_leaves_the_default_folders_of_the_commands(tmp_path: Path) -> None:
    shutil.copyfile(ROOT / "Makefile", tmp_path / "Makefile")
    theirs = ("data/faces", "runs/er_ss", "report", "models/fa_net/1", "models/pretrained", "samples")
    made = ("demo/data/faces", "demo/runs/er_ss", ".venv/bin", ".pytest_cache", "fer_tf/__pycache__", "build")
    for name in (*theirs, *made):
        (tmp_path / name).mkdir(parents=True)
    # A make around the tests hands down its variables, such as another environment's name.
    environment = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKEOVERRIDES")}
    subprocess.run(["make", "clean"], cwd=tmp_path, env=environment, check=True, capture_output=True)
    assert [name for name in theirs if not (tmp_path / name).is_dir()] == []
    assert [name for name in made if (tmp_path / name).exists()] == []
