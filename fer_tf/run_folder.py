"""A run folder: the names of what a training leaves, whether it is finished, and its readers and writers.

    run = RunFolder("runs/er_ss")
    run.read_metrics()["test"]["accuracy"]
    run.fa_net.is_finished

No other module spells a file name of a run folder. All that is written has its name only when it is whole.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fer_tf import files
from fer_tf.errors import InputError
from fer_tf.resources import PUBLISHED, resource

# A trained network's own files, which stand in a published or exported model's folder too.
SPEC_FILE, WEIGHTS_FILE, LINEAGE_FILE = "spec.json", "best.weights.h5", "lineage.json"
# Those of a published or exported model alone: its card, and an exported one's graph.
CARD_FILE, GRAPH_FILE = "MODEL_CARD.md", "saved_model.pb"
# What stands between the sources of networks that are asked together, such as `pretrained+runs/mine`.
PLUS = "+"
_CONFIG, _METRICS, _PAGE, _LOG = "config.json", "metrics.json", "evaluation.html", "log.txt"
# The parts of a set that a run answers: its test part, and all faces, each by a network that never saw its person.
TEST, PERSONS = "test", "persons"
_EVALUATIONS = "evaluations"
_TABLE_5 = "table5.json"
_FINISHED, _HISTORY, _CHECKPOINTS = "FINISHED", "history.json", "checkpoints"


@dataclass(frozen=True)
class NetworkFolder:
    """What the training of one network leaves in a run folder.

    Attributes:
      path: `fa_net` or `fape_gan` in the run folder.
    """

    path: str

    @property
    def mark(self) -> str:
        """The file that says that the training came to its end."""
        return files.join(self.path, _FINISHED)

    @property
    def is_finished(self) -> bool:
        """Whether the training came to its end."""
        return files.exists(self.mark)

    def finish(self, note: str) -> None:
        """Marks the training as finished, with a line on how long it took; written last."""
        files.write_text(self.mark, f"{note}\n")

    @property
    def has_spec(self) -> bool:
        """Whether a network was saved, finished or not."""
        return files.exists(files.join(self.path, SPEC_FILE))

    @property
    def has_weights(self) -> bool:
        return files.exists(files.join(self.path, WEIGHTS_FILE))

    @property
    def weights_bytes(self) -> int:
        """Size of the weights' file."""
        return files.stat(files.join(self.path, WEIGHTS_FILE))[0]

    @property
    def checkpoints(self) -> str:
        """The folder of the checkpoints, which TensorFlow keeps."""
        return files.join(self.path, _CHECKPOINTS)

    @property
    def has_checkpoint(self) -> bool:
        return files.exists(files.join(self.checkpoints, "checkpoint"))

    @property
    def backup(self) -> str:
        """The folder of a competitor's newest epoch, which Keras keeps until the training has come to its end."""
        return files.join(self.path, "backup")

    @property
    def has_begun(self) -> bool:
        """Whether anything of the network is there that its lineage tells of: weights, or a checkpoint of them."""
        return self.has_spec or self.has_checkpoint

    def read_history(self) -> Any:
        """Returns what the training noted of its epochs, or None when it noted nothing yet."""
        return _read_json(files.join(self.path, _HISTORY))

    def write_history(self, history: Any) -> None:
        files.write_json(files.join(self.path, _HISTORY), history)

    def write_metrics(self, metrics: dict[str, Any]) -> None:
        files.write_json(files.join(self.path, _METRICS), metrics)

    @property
    def samples(self) -> list[str]:
        """The pictures of held-out faces, the earliest epoch's first."""
        return files.matching(files.join(self.path, "samples"), "*.png")

    def write_sample(self, epoch: int, png: bytes) -> None:
        """Writes the picture of an epoch, from 1."""
        files.write_bytes(files.join(self.path, "samples", f"epoch-{epoch:04d}.png"), png)


@dataclass(frozen=True)
class RunFolder:
    """A folder that `trainer.task` writes.

    Attributes:
      path: where it is, on this machine or such as `gs://`.
    """

    path: str

    @classmethod
    def of_network(cls, folder: str) -> RunFolder:
        """Returns the run folder that a network's folder stands in."""
        return cls(os.path.dirname(files.absolute(folder.rstrip("/"))))

    @property
    def fa_net(self) -> NetworkFolder:
        return NetworkFolder(files.join(self.path, "fa_net"))

    @property
    def competitor(self) -> NetworkFolder:
        """What the training of another method than Fa-Net leaves."""
        return NetworkFolder(files.join(self.path, "competitor"))

    @property
    def classifier(self) -> NetworkFolder:
        """What the run trained to recognize expressions: Fa-Net or a competitor."""
        return self.competitor if self.competitor.has_spec else self.fa_net

    @property
    def gan(self) -> NetworkFolder:
        return NetworkFolder(files.join(self.path, "fape_gan"))

    @property
    def synthetic(self) -> str:
        """The folder of the synthetic faces: records as in a data folder, and the plan that they were made by."""
        return files.join(self.path, "synthetic")

    def draw(self, split_seed: int) -> str:
        """The folder of a draw of the data's splits, which the runs below this folder share."""
        return files.join(self.path, "draws", str(split_seed))

    @property
    def has_synthetic(self) -> bool:
        """Whether there are records of synthetic faces."""
        return bool(files.matching(self.synthetic, "records/*.tfrecord"))

    @property
    def saliency(self) -> str:
        """The folder of the pictures of where the network looks."""
        return files.join(self.path, "saliency")

    @property
    def tensorboard(self) -> str:
        return files.join(self.path, "tensorboard")

    @property
    def config(self) -> str:
        """The file of flags, command, versions and machine."""
        return files.join(self.path, _CONFIG)

    @property
    def saliency_log(self) -> str:
        return files.join(self.tensorboard, "saliency")

    @property
    def log(self) -> str:
        return files.join(self.path, _LOG)

    @property
    def page(self) -> str:
        """The evaluation as a page."""
        return files.join(self.path, _PAGE)

    @property
    def has_begun(self) -> bool:
        """Whether a stage, or --task=all, has made something with the flags of its config.json."""
        made = (
            self.fa_net.has_checkpoint,
            self.gan.has_checkpoint,
            self.classifier.has_spec,
            bool(files.matching(self.competitor.backup, files.ANY_DEPTH)),
            bool(files.matching(self.synthetic, files.ANY_DEPTH)),
            self.is_evaluated,
            files.exists(files.join(self.path, _TABLE_5)),
        )
        return self.has_config and any(made)

    @property
    def has_config(self) -> bool:
        return files.exists(self.config)

    @property
    def is_evaluated(self) -> bool:
        return files.exists(files.join(self.path, _METRICS))

    def read_config(self) -> dict[str, Any]:
        """Returns config.json: flags, command, versions, machine; empty when there is none.

        Raises:
          InputError: when it cannot be read.
        """
        return _read_json(self.config) or {}

    def write_config(self, config: dict[str, Any]) -> None:
        files.write_json(self.config, config)

    def read_flags(self, needs: str = "") -> dict[str, Any]:
        """Returns the flags that the run was begun with; empty when they are not known.

        Args:
          needs: the command that writes them, where they are needed.

        Raises:
          InputError: when they are needed and not there.
        """
        flags = self.read_config().get("flags", {})
        if needs and not flags:
            raise InputError(f"`run_dir` {self.path!r} has no {_CONFIG}; run {needs} first.")
        return flags

    def read_metrics(self) -> dict[str, Any]:
        """Returns metrics.json; empty when the run was not evaluated.

        Raises:
          InputError: when it cannot be read, or is no evaluation's.
        """
        path = files.join(self.path, _METRICS)
        metrics = _read_json(path)
        if metrics is None:
            return {}
        if not {"task", "test"} <= metrics.keys():
            raise InputError(f"{path} has no `task` or no `test`; run trainer.task --stage=evaluate again.")
        return metrics

    def write_metrics(self, metrics: dict[str, Any]) -> None:
        files.write_json(files.join(self.path, _METRICS), metrics)

    def write_evaluation(self, name: str, metrics: dict[str, Any]) -> None:
        """Writes the scores on a set that the network was not trained for, beside those on its own."""
        files.write_json(files.join(self.path, _EVALUATIONS, f"{name}.json"), metrics)

    def read_evaluations(self) -> dict[str, dict[str, Any]]:
        """Returns the scores on other sets, by name."""
        paths = files.matching(files.join(self.path, _EVALUATIONS), "*.json")
        return {os.path.basename(path).removesuffix(".json"): _read_json(path) for path in paths}

    def read_predictions(self, split: str) -> dict[str, np.ndarray] | None:
        """Returns image_id, person, pose, label and logits of a part's faces, or None when it was not scored."""
        path = self._predictions(split)
        return files.read_arrays(path) if files.exists(path) else None

    def write_predictions(self, split: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Writes image_id, person, pose (unicode), label (int64) and logits (float32) of a part's faces."""
        files.write_arrays(self._predictions(split), **arrays)

    def _predictions(self, split: str) -> str:
        return files.join(self.classifier.path, f"predictions_{split}.npz")

    def write_table(self, name: str, table: dict[str, Any], text: str) -> None:
        """Writes what is finished of a table, as JSON and as Markdown; `table5` binds the folder to its flags."""
        files.write_json(files.join(self.path, f"{name}.json"), table)
        files.write_text(files.join(self.path, f"{name}.md"), text)


def network_folder(source: str) -> str:
    """Returns the folder with a Fa-Net's spec and weights that a flag's value means.

    Args:
      source: a run folder, the folder of a network itself, or a published network's name (`pretrained`, `ferplus`).
    """
    folder = resource(source) if source in PUBLISHED else source
    inner = RunFolder(folder).fa_net
    return inner.path if inner.has_spec else folder


def network_folders(source: str) -> list[str]:
    """Returns the folders of a flag's value that may mean several Fa-Nets, with a `+` between.

    Args:
      source: as for `network_folder`, or several; a folder that has a `+` in its name is one.
    """
    return [network_folder(part) for part in parts_of(source)]


def parts_of(source: str) -> list[str]:
    """Returns what a value names with a `+` between; a folder that has one in its name is one."""
    if PLUS not in source.strip(PLUS):
        return [source]
    scheme, _, path = source.partition("://")
    # `pretrained+gs` is no scheme, but a name and one.
    is_one_path = not (path and PLUS in scheme) and _is_there(source)
    return [source] if is_one_path else source.split(PLUS)


def _is_there(folder: str) -> bool:
    """Whether a folder is there, where buckets have none but by what lies in them: a run, a network or an export."""
    held = ("*", f"*/{SPEC_FILE}", f"*/{GRAPH_FILE}")
    return files.exists(folder) or any(files.matching(folder, pattern) for pattern in held)


def _read_json(path: str) -> Any:
    if not files.exists(path):
        return None
    try:
        return files.read_json(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {error}; run trainer.task --stage=evaluate again.") from None
