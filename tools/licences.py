"""`make licences`: what the installed packages may be used for, and a bill of materials (CycloneDX), in build/.

Packages come with data whose terms are narrower than the package's own; those are marked (docs/licences.md).
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
NON_COMMERCIAL = "**not for commercial use**"
# What a package's metadata does not say.
REMARKS = {
    "face_recognition_models": f"{NON_COMMERCIAL}: the 68-point model learned from iBUG 300-W",
    "fer_tf": f"{NON_COMMERCIAL}: models/pretrained learned from FER2013, research pictures; the code is free",
    "mtcnn": "its weights learned from WIDER FACE and CelebA, which are for research; ask before you sell",
    "dlib-bin": "the library alone; its models are in face_recognition_models",
    "av": "holds FFmpeg, LGPL",
    "opencv-python-headless": "holds FFmpeg, LGPL",
    "pi_heif": "holds libheif and libde265, LGPL",
    "namex": "says none in its metadata; its repository says Apache-2.0",
}


def table(packages: list[dict[str, str]]) -> str:
    """Returns a Markdown table of packages, the marked ones first.

    Args:
      packages: Name, Version and License of each, as pip-licenses gives them.
    """
    remarks = {name.lower().replace("_", "-"): remark for name, remark in REMARKS.items()}
    rows = []
    for package in packages:
        remark = remarks.get(package["Name"].lower().replace("_", "-"), "")
        licence = " ".join(package["License"].split())
        rows.append((not remark.startswith(NON_COMMERCIAL), not remark, package["Name"], package, licence, remark))
    lines = ["| package | version | licence | remark |", "|---|---|---|---|"]
    for *_, package, licence, remark in sorted(rows, key=lambda row: row[:3]):
        lines.append(f"| {package['Name']} | {package['Version']} | {licence} | {remark} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Writes build/licences.md and build/sbom.cdx.json of the environment that runs this."""
    build = ROOT / "build"
    build.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "piplicenses", "--format=json", "--with-system"]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    # An editable install is found twice.
    packages = list({package["Name"]: package for package in found}.values())
    (build / "licences.md").write_text(table(packages))
    command = [sys.executable, "-m", "cyclonedx_py", "environment", "--output-reproducible", "--of=JSON"]
    subprocess.run([*command, f"--output-file={build / 'sbom.cdx.json'}", sys.executable], check=True)
    marked = [line for line in table(packages).splitlines() if NON_COMMERCIAL in line]
    print("\n".join([*marked, f"{len(packages)} packages: build/licences.md, build/sbom.cdx.json"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
