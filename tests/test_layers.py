"""The packages import each other one way only, and `import fer_tf` stays instant."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("fer_tf", "beam_pipelines", "trainer", "serving")
# Inside fer_tf each layer may import those before it.
LAYERS = (
    "errors",
    "environment",
    "labels",
    "filesystems",
    "files",
    "tfrecords",
    "resources",
    "lock",
    "run_folder",
    "runs",
    "start_up",
    "config",
    "faces",
    "data",
    "models",
    "evaluation",
    "synthesis",
    "competitors",
    "recognition",
    "reports",
)


def imported_modules(path: Path) -> set[str]:
    modules: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return modules


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_imports_only_itself_and_fer_tf(package: str) -> None:
    allowed = {package, "fer_tf"}
    for path in (ROOT / package).rglob("*.py"):
        crossing = {module for module in imported_modules(path) if module.split(".")[0] in set(PACKAGES) - allowed}
        assert not crossing, f"{path} imports {sorted(crossing)}"


def test_a_layer_of_fer_tf_imports_only_lower_layers() -> None:
    for path in (ROOT / "fer_tf").rglob("*.py"):
        layer = path.relative_to(ROOT / "fer_tf").parts[0].removesuffix(".py")
        if layer in ("__init__", "__main__"):
            continue
        assert layer in LAYERS, f"{path} stands in no layer"
        higher = {f"fer_tf.{name}" for name in LAYERS[LAYERS.index(layer) + 1 :]}
        crossing = {module for module in imported_modules(path) if ".".join(module.split(".")[:2]) in higher}
        assert not crossing, f"{path} imports {sorted(crossing)}"


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def import_circles() -> list[list[str]]:
    """The groups of modules that import each other, also inside functions and for types alone."""
    paths = {module_of(path): path for package in PACKAGES for path in (ROOT / package).rglob("*.py")}
    graph = {name: (imported_modules(path) & set(paths)) - {name} for name, path in paths.items()}
    reached = {name: set(others) for name, others in graph.items()}
    for middle in graph:
        for name in graph:
            if middle in reached[name]:
                reached[name] |= reached[middle]
    circles = {tuple(sorted(other for other in reached[name] if name in reached[other])) for name in graph}
    return [list(circle) for circle in circles if circle]


def test_no_module_imports_another_that_imports_it() -> None:
    assert import_circles() == []


def test_importing_fer_tf_loads_no_heavy_library() -> None:
    heavy = {"tensorflow", "keras", "cv2", "dlib", "pandas", "numpy"}
    code = f"import sys, fer_tf, fer_tf.labels; print(sorted({heavy} & set(sys.modules)))"
    assert subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True).strip() == "[]"
