"""Writes a trained Fa-Net for TensorFlow Serving, TFLite or ONNX.

`python -m serving.export` takes the newest finished run under `runs/` and writes the next version under
`models/fa_net`. A version appears under its number only when it is complete, so that a server that watches the
folder never loads half of one.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from fer_tf import files
from fer_tf.config import EXIT_OK, parse, run_command
from fer_tf.errors import InputError, check_least
from fer_tf.models.precision import dtype_policy
from fer_tf.recognition.networks import EXTRA, MAX_VERSION, MODEL_FILE, WEIGHTS_DIR, newest_version, version_number
from fer_tf.resources import PUBLISHED
from fer_tf.run_folder import CARD_FILE, SPEC_FILE, WEIGHTS_FILE, NetworkFolder, RunFolder, network_folder
from fer_tf.runs import newest_finished

# All but the first: `serving.portable.FORMATS`.
Format = Literal["saved_model", "tflite", "onnx"]
MODEL_NAME = "fa_net"
RUNS = "runs"
LABELS_FILE = f"{EXTRA}/labels.txt"


@dataclass(frozen=True)
class ExportConfig:
    """Flags of `python -m serving.export`.

    Args:
      run_dir: the trainer's run folder, or the folder that holds spec.json; empty takes the newest finished run under
        runs/.
      output: folder of the model; versions are numbered folders in it.
      format: saved_model, tflite (float16 and int8) or onnx.
      version: the version's number, for saved_model; 0 takes the next free one.
      precision: float32 or bfloat16 (faster where the processor has such instructions), for saved_model.
      data: for tflite and onnx, the data that the run was trained on: int8 takes its ranges from the training part, and
        each format is compared with the live model on the test part; empty takes what the run's config.json names.
      max_faces: how many test faces to compare on.
    """

    run_dir: str = ""
    output: str = "models/fa_net"
    format: Format = "saved_model"
    version: int = 0
    precision: Literal["float32", "bfloat16"] = "float32"
    data: str = ""
    max_faces: int = 500

    def __post_init__(self) -> None:
        if not 0 <= self.version <= MAX_VERSION:
            raise InputError(f"`version` must be from 0 to {MAX_VERSION}. Received: {self.version}.")
        if self.format != "saved_model":
            for name, fixed in (("version", 0), ("precision", "float32")):
                if getattr(self, name) != fixed:
                    raise InputError(
                        f"`{name}` belongs to --format=saved_model; leave it out for {self.format!r}. "
                        f"Received: {getattr(self, name)!r}."
                    )
        check_least(self, max_faces=1)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command."""
    config, _ = parse(
        ExportConfig, argv, prog="python -m serving.export", description="Write a trained Fa-Net for serving."
    )
    files.refuse_remote("output", config.output, "; copy the version from there")
    fa_net_dir = find_fa_net(config.run_dir)
    files.check_writable(config.output)
    if config.format == "saved_model":
        version_dir = export_saved_model(fa_net_dir, config.output, config.version, config.precision)
        print(f"exported {fa_net_dir} to {version_dir}")
        print(f"serve it with: python -m serving.server --model_base_path={config.output}")
        return EXIT_OK
    from serving import portable

    for line in portable.export(fa_net_dir, config.output, config.format, config.data, config.max_faces):
        print(line)
    return EXIT_OK


def find_fa_net(run_dir: str, runs: str = RUNS) -> str:
    """Returns the folder with spec.json of a run, or of the newest finished one.

    Raises:
      InputError: when there is none.
    """
    if not run_dir:
        newest = newest_finished(runs)
        if newest is None:
            raise InputError(f"no finished run under {runs!r}; run `python -m trainer.task` or give --run_dir")
        return newest.fa_net.path
    network = NetworkFolder(network_folder(run_dir))
    if not network.has_spec:
        raise InputError(f"`run_dir` holds no trained Fa-Net ({SPEC_FILE}). Received: {run_dir!r}.")
    if not network.is_finished and run_dir not in PUBLISHED:
        print(f"note: {network.path} is not marked FINISHED; its best weights so far are exported", file=sys.stderr)
    return network.path


def export_saved_model(fa_net_dir: str, output: str, version: int = 0, precision: str = "float32") -> str:
    """Writes one version as a SavedModel with card, labels and warm-up requests; returns its folder.

    Args:
      fa_net_dir: folder with spec.json and the weights.
      output: folder of the model.
      version: number of the version, or 0 for the next.
      precision: `float32` or `bfloat16`.

    Raises:
      InputError: when the version exists.
      CannotWrite: when the folder cannot be made.
    """
    from fer_tf.reports import model_card
    from serving import signatures, warmup

    files.make_folder(output)
    version = version or max(versions(output), default=0) + 1
    version_dir = os.path.join(output, str(version))
    if os.path.exists(version_dir):
        raise InputError(f"`version` {version} exists in {output!r}; choose another or leave it out for the next")
    model, spec = load_live(fa_net_dir, precision)
    with files.whole_path(version_dir) as partial:
        module = signatures.FaNetModule(model, spec)
        signatures.save(module, partial)
        os.makedirs(os.path.join(partial, WEIGHTS_DIR))
        for name in (SPEC_FILE, WEIGHTS_FILE):
            with files.local_copy(files.join(fa_net_dir, name)) as source:
                shutil.copyfile(source, os.path.join(partial, WEIGHTS_DIR, name))
        with open(os.path.join(partial, LABELS_FILE), "w", encoding="utf-8") as file:
            file.write("".join(f"{name}\n" for name in spec.expressions))
        facts = {
            "model_name": MODEL_NAME,
            "version": version,
            "precision": precision,
            "spec": dataclasses.asdict(spec),
            "signatures": sorted(module.signatures()),
            "max_image_pixels": signatures.MAX_IMAGE_PIXELS,
            "exported": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "versions": library_versions(),
            "metrics": read_metrics(fa_net_dir),
        }
        with open(os.path.join(partial, MODEL_FILE), "w", encoding="utf-8") as file:
            json.dump(facts, file, indent=2)
        with open(os.path.join(partial, CARD_FILE), "w", encoding="utf-8") as file:
            file.write(_published_card(fa_net_dir, facts) or model_card.exported(facts))
        warmup.write_warmup(partial, MODEL_NAME)
    return version_dir


def _published_card(fa_net_dir: str, facts: dict[str, Any]) -> str:
    """Returns the card that came with published weights, whose run and its metrics are elsewhere; empty without one."""
    path = files.join(fa_net_dir, CARD_FILE)
    if facts["metrics"] or not files.exists(path):
        return ""
    card = files.read_text(path).rstrip()
    return f"{card}\n\nExported as {facts['model_name']}, version {facts['version']}, in {facts['precision']}.\n"


def load_live(fa_net_dir: str, precision: str = "float32") -> tuple[Any, Any]:
    """Returns the live Keras model and its spec, computing in `precision`."""
    from fer_tf.models import fa_net

    with dtype_policy("mixed_bfloat16" if precision == "bfloat16" else "float32"):
        return fa_net.load(fa_net_dir)


def versions(model_folder: str) -> list[int]:
    """Returns the version numbers in an export's folder, ascending."""
    try:
        numbers = map(version_number, os.listdir(model_folder))
    except OSError:
        return []
    return sorted({number for number in numbers if number is not None})


def newest_version_dir(output: str) -> str:
    """Returns the folder of the newest version.

    Raises:
      InputError: when there is none.
    """
    found = newest_version(output)
    if not found:
        raise InputError(f"no exported version in {output!r}; run `python -m serving.export` first")
    return found


def library_versions() -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in ("tensorflow", "keras", "numpy")}


def read_metrics(fa_net_dir: str) -> dict[str, Any]:
    """Returns the metrics that the run measured, or nothing when it was not evaluated."""
    for folder in (fa_net_dir, os.path.dirname(files.absolute(fa_net_dir))):
        run = RunFolder(folder)
        if metrics := run.read_metrics():
            return {**metrics, "across": run.read_evaluations()}
    return {}


if __name__ == "__main__":
    sys.exit(run_command(main))
