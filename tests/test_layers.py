"""The packages import each other one way only, and `import fer_tf` stays instant."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("fer_tf", "beam_pipelines", "trainer", "serving")
# Fewer files would mean that they are looked for in another place than they lie.
LEAST = {"fer_tf": 100, "beam_pipelines": 10, "trainer": 20, "serving": 20}
# What stands on top of all packages, and may import each.
TOP = ("benchmarks", "cluster")
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


def files_of(package: str) -> list[Path]:
    found = sorted((ROOT / package).rglob("*.py"))
    assert len(found) >= LEAST.get(package, 5)
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_imports_only_itself_and_fer_tf(package: str) -> None:
    allowed = {package, "fer_tf"}
    for path in files_of(package):
        crossing = {module for module in imported_modules(path) if module.split(".")[0] in {*PACKAGES, *TOP} - allowed}
        assert not crossing, f"{path} imports {sorted(crossing)}"


def test_a_layer_of_fer_tf_imports_only_lower_layers() -> None:
    for path in files_of("fer_tf"):
        layer = path.relative_to(ROOT / "fer_tf").parts[0].removesuffix(".py")
        if layer in ("__init__", "__main__"):
            continue
        assert layer in LAYERS, f"{path} stands in no layer"
        higher = {f"fer_tf.{name}" for name in LAYERS[LAYERS.index(layer) + 1 :]}
        crossing = {module for module in imported_modules(path) if ".".join(module.split(".")[:2]) in higher}
        assert not crossing, f"{path} imports {sorted(crossing)}"


def private_uses(path: Path, modules: set[str]) -> list[str]:
    """What a file takes from other modules of the project that is private there, by line."""
    found, imported, tree = [], set(), ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {alias.asname or alias.name for alias in node.names if alias.name in modules}
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if f"{node.module}.{alias.name}" in modules:
                    imported.add(alias.asname or alias.name)
                elif node.module in modules and is_private(alias.name):
                    found.append(f"{path}:{node.lineno}: {node.module}.{alias.name}")
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_private(node.attr) and ast.unparse(node.value) in imported:
            found.append(f"{path}:{node.lineno}: {ast.unparse(node)}")
    return found


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def test_what_is_private_to_a_module_is_used_by_no_other() -> None:
    paths = [path for package in (*PACKAGES, "benchmarks", "cluster") for path in (ROOT / package).rglob("*.py")]
    modules = set(map(module_of, paths))
    assert [use for path in paths for use in private_uses(path, modules)] == []


def test_a_private_use_is_found(tmp_path: Path) -> None:
    path = tmp_path / "a.py"
    path.write_text(
        "from fer_tf import files as f\nfrom fer_tf.files import _BLOCK, join\nf._writing\nf.join.__doc__\n"
    )
    assert [use.split(": ")[1] for use in private_uses(path, {"fer_tf.files"})] == ["fer_tf.files._BLOCK", "f._writing"]


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def import_circles() -> list[list[str]]:
    """The groups of modules that import each other, also inside functions and for types alone."""
    paths = {module_of(path): path for package in (*PACKAGES, "cluster") for path in files_of(package)}
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
