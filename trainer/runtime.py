"""How a run is executed, apart from what it trains: strategy, precision, seed, versions, the run folder."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
import os
import platform
import sys
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from fer_tf import environment, files, start_up
from fer_tf.config import replace, to_dict
from fer_tf.data import draws
from fer_tf.data.folder import DataFolder
from fer_tf.environment import Workers
from fer_tf.errors import InputError
from fer_tf.models import fa_net
from fer_tf.run_folder import RunFolder
from trainer.config import RunOptions, TaskConfig

# These flags may differ when a run goes on: they do not change what is trained.
FREE_FLAGS = ("stage", "run_dir", "tta", "profile", "data", "synthetic_ratio", "seeds", "draws", "persons_left_out")

# Where below a hosted trainer's log folder a cell of a table writes.
_CELL: ContextVar[str] = ContextVar("cell", default="")


class TrainingFailed(RuntimeError):
    """A run that cannot go on, such as a loss that became nan; the message says at which step."""


def refuse_not_finite(variables: Sequence[Any], what: str) -> None:
    """Raises TrainingFailed when a weight is nan or infinite: what is kept of it would be of no use.

    Args:
      variables: of a network, or averages of them.
      what: they are, and when, for the message.
    """
    bad = [variable.path for variable in variables if not np.isfinite(keras.ops.convert_to_numpy(variable)).all()]
    if bad:
        raise TrainingFailed(
            f"{what} became nan or infinite ({len(bad)} of {len(variables)} variables, first {bad[0]}) and are not "
            "kept; the checkpoint and the weights before are intact. Take another --run_dir with a lower learning "
            "rate, another --seed or --precision=float32."
        )


def set_up(config: TaskConfig) -> None:
    """Seeds everything, joins the other workers, sets determinism and writes config.json; call before any operation.

    Raises:
      InputError: when the run folder belongs to another config or to other data.
    """
    if workers() > 1:
        if config.stage != "fa_net":
            raise InputError(
                f"`stage` {config.stage!r} runs on one worker; TF_CONFIG names {workers()}. Give --stage=fa_net here, "
                "and run the other stages without TF_CONFIG on the same --run_dir."
            )
        # TensorFlow can only join the workers before its first operation.
        strategy(config.run)
    keras.utils.set_random_seed(config.run.seed)
    if config.run.deterministic:
        tf.config.experimental.enable_op_determinism()
    files.make_folder(config.run.run_dir)
    if is_across(config):
        return
    flags, fingerprint = to_dict(config), _fingerprint(config)
    if refuse_other_flags(config, fingerprint):
        return
    if not is_chief():
        return
    about = {"command": sys.argv, "versions": versions(), "machine": machine(), "data_fingerprint": fingerprint}
    config.folder.write_config({"flags": flags, **about})


def refuse_other_flags(config: TaskConfig, fingerprint: str = "") -> bool:
    """Returns whether the run has begun; raises InputError where it was with other flags, or on data of another print.

    Flags that were refused before anything was made bind nobody.
    """
    if not config.folder.has_begun:
        return False
    known = config.folder.read_config()
    _check_same(known.get("flags", {}), to_dict(config), config)
    _check_data(known.get("data_fingerprint", ""), fingerprint, config)
    return True


def _fingerprint(config: TaskConfig) -> str:
    # A public set is only known when it is read.
    data = DataFolder(config.data)
    return "" if config.is_public or not data.exists else data.dataset.get("fingerprint", "")


def is_across(config: TaskConfig) -> bool:
    """Whether a network is to be scored on a set that it was not trained for: the run's, or without one init_from's."""
    if config.stage != "evaluate" or config.is_competitor or config.is_table:
        return False
    folder = config.folder.fa_net
    if not folder.has_spec:
        return bool(config.fa_net.init_from) and not config.folder.has_begun
    return fa_net.load_spec(folder.path).task not in ("", config.task)


def as_begun(config: TaskConfig) -> TaskConfig:
    """Returns the config to score a run with: flags at their defaults are those that it was trained with."""
    if config.stage != "evaluate" or is_across(config):
        return config
    trained, now, default = config.folder.read_config().get("flags", {}), to_dict(config), to_dict(TaskConfig())
    # Data moves, so it binds nobody; but where none is given, the run's is meant, whatever lies at the default.
    is_there = _data_is_there(trained.get("data", "")) or not files.exists(config.data)
    free = {*FREE_FLAGS} - ({"data"} if is_there else set())
    taken = [name for name in trained if name not in free and name in now and now[name] == default[name]]
    return replace(config, **{name: trained[name] for name in taken})


def _data_is_there(data: str) -> bool:
    """Whether a run's data is still where it was; of several sets each reader tells what is missing."""
    if "=" in data and not files.exists(data):
        return True
    folder = DataFolder(data)
    if not folder.exists:
        return bool(data) and files.exists(data)
    # A draw's records lie in the folder that it is of.
    return not folder.drawn_from or DataFolder(folder.drawn_from).exists


def _not_of_tracing(record: logging.LogRecord) -> bool:
    return "tf.function retracing" not in record.getMessage()


def _check_data(before: str, now: str, config: TaskConfig) -> None:
    """Refuses to go on, in any stage, with data whose splits may be others: training faces would be test faces."""
    if before and now and before != now:
        raise InputError(
            f"{config.folder.path} was begun on data with fingerprint {before[:12]}. Received: {now[:12]} "
            f"({config.data}); the data changed since: take another --run_dir to train anew."
        )


def _check_same(before: dict[str, Any], now: dict[str, Any], config: TaskConfig) -> None:
    # What was trained before there was a flag was trained with its default.
    before = {**to_dict(TaskConfig()), **before} if before else before
    for name, value in now.items():
        if name not in FREE_FLAGS and name in before and before[name] != value:
            raise InputError(
                f"`{name}` was {before[name]!r} when this run began. Received: {value!r} ({config.folder.config}). "
                "Give the same flags to go on, or another --run_dir to begin anew; where a table chose them, remove "
                "the cell's folder."
            )


def drawn(config: TaskConfig) -> TaskConfig:
    """Returns the config with the draw of its data that --split_seed asks for, which is made in the run folder."""
    data = DataFolder(config.data)
    # A cell of a table names its draw as its data.
    is_it = data.exists and data.drawn_from and data.dataset["draw"]["seed"] == config.split_seed
    if config.split_seed < 0 or is_it:
        return config
    data = draws.draw(data, config.folder.draw(config.split_seed), config.split_seed)
    return dataclasses.replace(config, data=data.path)


def strategy(run: RunOptions) -> tf.distribute.Strategy:
    """Returns the distribution strategy: TF_CONFIG asks for several workers, several GPUs for mirroring."""
    name = run.strategy
    if name == "multi_worker" or (name == "auto" and workers() > 1):
        return _all_workers()
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    if name == "auto":
        name = "mirrored" if len(devices) > 1 else "one_device"
    if name == "mirrored":
        return _mirrored(tuple(device.name for device in devices))
    return tf.distribute.get_strategy()


def even(batch_size: int, strategy: tf.distribute.Strategy) -> int:
    """Returns the images of a global step, rounded down so that every replica gets equally many.

    Losses are means over a replica's images, and their gradients are added up: unequal shares would weigh images
    unequally.

    Raises:
      InputError: when there are fewer images than replicas.
    """
    replicas = strategy.num_replicas_in_sync
    if batch_size < replicas:
        raise InputError(
            f"a batch must hold an image for each of the {replicas} replicas. Received: {batch_size}; give more, or "
            "--strategy=one_device."
        )
    return batch_size // replicas * replicas


@functools.cache
def _mirrored(devices: tuple[str, ...]) -> tf.distribute.Strategy:
    # One for the process: a second would number its collective operations like the first, and their shapes clash.
    return tf.distribute.MirroredStrategy(list(devices))


class _AllWorkers(tf.distribute.MultiWorkerMirroredStrategy):
    """Every worker that TF_CONFIG names, in a form that Keras 3's `fit` can use.

    Keras reduces a whole batch, a tuple, when it builds a model, and means of scalars along axis 0 after a step;
    TensorFlow takes one tensor at a time, and no axis for a scalar.
    """

    def reduce(self, reduce_op: Any, value: Any, axis: int | None = None) -> Any:
        def one(part: Any) -> Any:
            scalar = self.experimental_local_results(part)[0].shape.rank == 0
            return tf.distribute.Strategy.reduce(self, reduce_op, part, axis=None if scalar else axis)

        return tf.nest.map_structure(one, value)


@functools.cache
def _all_workers() -> tf.distribute.Strategy:
    # One for the process: the workers are joined once.
    return _AllWorkers()


def worker() -> int:
    """Returns this worker's number among those that TF_CONFIG names; 0 is the chief."""
    return Workers.read().number


def workers() -> int:
    """Returns how many workers TF_CONFIG names; 1 without it."""
    return Workers.read().count


def is_chief() -> bool:
    """Whether this worker writes the run folder's files; always so with one worker."""
    return worker() == 0


def distribute(batches: tf.data.Dataset, batch_size: int, strategy: tf.distribute.Strategy) -> Any:
    """Returns what `fit` takes: the batches themselves, or with several workers this worker's share of each step.

    Args:
      batches: on several workers, `batch_size / workers` images at a time, from files that this worker alone reads.
      batch_size: images in a global step.
      strategy: of `strategy`.
    """
    if workers() == 1:
        return batches
    per_replica = batch_size // strategy.num_replicas_in_sync
    return strategy.distribute_datasets_from_function(lambda context: batches.rebatch(per_replica, drop_remainder=True))


def wait_for_all(strategy: tf.distribute.Strategy) -> None:
    """Returns when every worker has come here: the chief may still write when the others are done."""
    if workers() > 1:
        strategy.reduce("SUM", tf.constant(1.0))


def precision(run: RunOptions) -> str:
    """Returns the Keras dtype policy's name; auto looks at the hardware, because bfloat16 without it is very slow."""
    if run.precision != "auto":
        return run.precision
    if run.deterministic:
        chosen, why = "float32", "--deterministic"
    elif gpus := tf.config.list_physical_devices("GPU"):
        # Replicas step together: the least of them decides.
        details = map(tf.config.experimental.get_device_details, gpus)
        capability = min(detail.get("compute_capability", (0, 0)) for detail in details)
        chosen = "mixed_bfloat16" if capability >= (8, 0) else "mixed_float16" if capability >= (7, 0) else "float32"
        why = f"GPU of compute capability {'.'.join(map(str, capability))}"
    elif cpu_prefers_bfloat16():
        chosen, why = "mixed_bfloat16", "this CPU is faster at bfloat16"
    else:
        chosen, why = "float32", "this CPU is not known to be faster at bfloat16"
    logging.info("precision %s: %s", chosen, why)
    return chosen


def cpu_prefers_bfloat16(cpuinfo: str = "/proc/cpuinfo") -> bool:
    """Whether the CPU trains faster in bfloat16; False where that cannot be read.

    AMX is made for it, and AVX512_BF16 on AMD trains 1.6 times as fast as float32. Intel's AVX512_BF16 without AMX, as
    virtual machines show it, does not: a Xeon of 2023 trained LightCNN-9 at 0.7 times float32's rate.
    """
    try:
        with open(cpuinfo) as file:
            text = file.read()
    except OSError:
        return False
    return "amx_bf16" in text or ("avx512_bf16" in text and "AuthenticAMD" in text)


def versions() -> dict[str, str]:
    """Returns the versions that decide a run's numbers."""
    import fer_tf

    return {
        "fer_tf": fer_tf.__version__,
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "numpy": np.__version__,
    }


def machine() -> dict[str, Any]:
    """Returns what the run was computed on."""
    return {
        "system": platform.platform(),
        "cores": os.cpu_count(),
        "gpus": [device.name for device in tf.config.list_physical_devices("GPU")],
    }


def tensorboard_dir(folder: RunFolder) -> str:
    """Returns where TensorBoard logs go: AIP_TENSORBOARD_LOG_DIR on a hosted trainer, else the run folder."""
    root = environment.log_folder()
    if not root:
        return folder.tensorboard
    return files.join(root, _CELL.get()) if _CELL.get() else root


@contextlib.contextmanager
def cell_logs(name: str) -> Iterator[None]:
    """Has `tensorboard_dir` give a folder of this name below a hosted trainer's, where cells would share one page."""
    token = _CELL.set(name)
    try:
        yield
    finally:
        _CELL.reset(token)


@contextlib.contextmanager
def run_log(folder: RunFolder) -> Iterator[None]:
    """Sends log lines to standard error and to the run folder's log.txt (where the folder is a local one)."""
    handlers: list[logging.StreamHandler] = [logging.StreamHandler()]
    if files.is_local(folder.path) and is_chief():
        os.makedirs(folder.path, exist_ok=True)
        handlers.append(logging.FileHandler(folder.log))
    root = logging.getLogger()
    before = root.level
    for handler in handlers:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%d %H:%M:%S"))
        root.addHandler(handler)
    root.setLevel(logging.INFO)
    # TensorFlow's own: what it says of its checkpoints' shards would stand between the run's lines.
    logging.getLogger("absl").setLevel(logging.WARNING)
    # Networks that follow one another, as those without a person do, are traced one after the other on purpose.
    logging.getLogger("tensorflow").addFilter(_not_of_tracing)
    for handler in handlers[1:]:
        handler.stream.writelines(f"{note}\n" for note in start_up.notes)
    try:
        yield
    finally:
        root.setLevel(before)
        for handler in handlers:
            root.removeHandler(handler)
            handler.close()
