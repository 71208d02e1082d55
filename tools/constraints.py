"""`make constraints`: resolves setup.cfg for each Python version and writes constraints.txt and constraints-gpu.txt.

What is pinned stays as far as setup.cfg allows; `make constraints UPGRADE=1` takes the newest of everything. It prints
what changed. Packages are resolved by uv, by their metadata alone.
"""

from __future__ import annotations

import argparse
import difflib
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent
PYTHONS = ("3.10", "3.11", "3.12")
# The pip that reads these markers knows python_version; which of the three a version is for fits one comparison.
MARKERS = {
    PYTHONS: "",
    PYTHONS[:1]: '; python_version < "3.11"',
    PYTHONS[:2]: '; python_version < "3.12"',
    PYTHONS[1:]: '; python_version >= "3.11"',
    PYTHONS[2:]: '; python_version >= "3.12"',
    PYTHONS[1:2]: '; python_version == "3.11"',
    (PYTHONS[0], PYTHONS[2]): '; python_version != "3.11"',
}
CONSTRAINTS = """\
# Exact versions of every package, resolved for CPython 3.10, 3.11 and 3.12 by `make constraints` and tested on 3.11.
# Some libraries have left Python 3.10 behind: it gets their last release that still runs there.
"""
GPU_CONSTRAINTS = """\
# NVIDIA's libraries for the extra `gpu`, beside constraints.txt: resolved by `make constraints` for the same Pythons.
"""


def merged(resolved: dict[str, Sequence[str]]) -> list[str]:
    """Returns one line a package and version, marked with the Pythons that take it.

    Args:
      resolved: `name==version` lines by Python version.
    """
    takers: dict[str, list[str]] = defaultdict(list)
    for python, pins in resolved.items():
        for pin in pins:
            takers[pin].append(python)
    # By name, and a name's versions by the oldest Python that takes them.
    ordered = sorted(takers, key=lambda pin: (pin.split("==")[0], takers[pin]))
    return [pin + MARKERS[tuple(takers[pin])] for pin in ordered]


def resolve(extras: Sequence[str], pinned: Sequence[Path], upgrade: bool) -> dict[str, Sequence[str]]:
    """Returns the pins of extras by Python version, near to what is pinned."""
    resolved = {}
    with tempfile.TemporaryDirectory() as folder:
        for python in PYTHONS:
            output = Path(folder, f"{python}.txt")
            # uv keeps the versions of a file that it overwrites.
            output.write_text("".join(path.read_text() for path in pinned if path.exists()))
            command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--no-header", "--no-annotate"]
            command += ["--python-version", python, "--python-platform", "x86_64-manylinux_2_28"]
            command += [
                *(f"--extra={extra}" for extra in extras),
                "--output-file",
                str(output),
                *(["--upgrade"] if upgrade else []),
            ]
            subprocess.run([*command, "setup.cfg"], cwd=ROOT, check=True)
            resolved[python] = output.read_text().splitlines()
    return resolved


def write(path: Path, text: str) -> None:
    """Writes a file and prints what is different in it."""
    before = path.read_text() if path.exists() else ""
    path.write_text(text)
    changes = difflib.unified_diff(before.splitlines(), text.splitlines(), path.name, path.name, lineterm="", n=0)
    print("\n".join(changes) or f"{path.name}: nothing changed")


def main(argv: Sequence[str] | None = None) -> int:
    """Writes both files."""
    parser = argparse.ArgumentParser(prog="python -m tools.constraints", description=__doc__)
    parser.add_argument("--upgrade", action="store_true", help="take the newest version of everything")
    upgrade = parser.parse_args(argv).upgrade
    everything, gpu = ROOT / "constraints.txt", ROOT / "constraints-gpu.txt"
    pins = resolve(["test", "release"], [everything], upgrade)
    write(everything, CONSTRAINTS + "\n".join(merged(pins)) + "\n")
    pins = resolve(["gpu"], [everything, gpu], False)
    only = {python: [pin for pin in lines if pin.startswith("nvidia-")] for python, lines in pins.items()}
    write(gpu, GPU_CONSTRAINTS + "\n".join(merged(only)) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
