"""Fa-Net for phones and other runtimes: TFLite in float16 and int8, and ONNX; each compared with the live model.

These runtimes unpack and resize no pictures: the model takes the face crop at the network's own size, uint8 RGB, and
holds everything from there to the calibrated probabilities. `fa_net.json` beside it says so.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from fer_tf import files
from fer_tf.data import inputs, mixed, public
from fer_tf.data.inputs import FaceSet, Part
from fer_tf.data.preprocess import preprocess
from fer_tf.errors import InputError
from fer_tf.models import fa_net, lineage
from fer_tf.models.fa_net import FaNetSpec
from fer_tf.run_folder import RunFolder

ONNX_OPSET = 17
REPRESENTATIVE_FACES = 200
INPUT = "images"
OUTPUT = "probabilities"
DESCRIPTION_FILE = "fa_net.json"
# What a file of a format holds, and what runs it.
Converted = tuple[bytes, Callable[[str], Callable[[np.ndarray], np.ndarray]]]


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What a converted model loses on the test part.

    Attributes:
      faces: how many were compared.
      accuracy, live_accuracy: shares of right labels, 0 to 1.
      agreement: share of faces with the same label as the live model, 0 to 1.
      largest_difference: of any probability.
    """

    faces: int
    accuracy: float
    live_accuracy: float
    agreement: float
    largest_difference: float

    def __str__(self) -> str:
        return (
            f"accuracy {self.accuracy:.4f} (live {self.live_accuracy:.4f}), {100 * self.agreement:.1f} % same labels, "
            f"largest difference of a probability {self.largest_difference:.2g}, on {self.faces} test faces"
        )


def export(fa_net_dir: str, output: str, kind: str, data: str, max_faces: int) -> Iterator[str]:
    """Writes `<output>/<format>/` and yields a line about each file.

    The files get their names together, when all of them are compared: an earlier export stays until then.

    Args:
      fa_net_dir: folder with spec.json and the weights.
      output: folder of the model.
      kind: one of `FORMATS`.
      data: the data that the run was trained on; empty takes what the run's config.json names.
      max_faces: how many test faces to compare on.

    Raises:
      InputError: when a package is missing, or the data cannot be read: int8 needs its faces, and nothing is exported
        uncompared.
      CannotWrite: when the folder cannot be made.
    """
    check_packages(kind)
    folder = os.path.join(output, kind)
    if os.path.exists(folder) and not os.path.isdir(folder):
        raise InputError(f"`output` {output!r} holds a file {kind!r} where the folder goes. Move it, or name another.")
    model, spec = fa_net.load(fa_net_dir)
    faces = read_faces(fa_net_dir, spec, data)
    forward = forward_fn(model, spec)
    files.make_folder(folder)
    test = faces.parts["test"]
    crops, labels = crops_of(test, spec, max_faces)
    live = live_probabilities(model, spec, test, max_faces)
    made = FORMATS[kind].convert(forward, faces, spec)
    compared = {}
    # All of them appear, or none does.
    with contextlib.ExitStack() as finished:
        for name, (content, runner) in made.items():
            path = finished.enter_context(files.whole_path(os.path.join(folder, name)))
            with open(path, "wb") as file:
                file.write(content)
            compared[name] = compare(runner(path)(crops), live, labels)
    files.write_json(os.path.join(folder, DESCRIPTION_FILE), describe(spec, compared))
    for name, (content, _) in made.items():
        yield f"{os.path.join(folder, name)}: {len(content) / 1e6:.1f} MB; {compared[name]}"


def check_packages(kind: str) -> None:
    """Raises InputError when what converts and runs a format is not installed."""
    missing = [name for name in FORMATS[kind].packages if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(f"`format` {kind!r} needs the packages {missing}; install them with `pip install .[export]`")


def describe(spec: FaNetSpec, compared: dict[str, Comparison]) -> dict[str, Any]:
    """Returns what a user of the converted files must know, as JSON values."""
    return {
        "input": f"{INPUT}: uint8 (batch, {spec.image_size}, {spec.image_size}, 3), RGB",
        "preparation": f"keep the central {spec.served_crop:g} of the aligned 256 x 256 face crop's side, then resize "
        "with antialiasing (area averaging)",
        "output": f"{OUTPUT}: float32 (batch, {spec.num_classes}), calibrated",
        "expressions": list(spec.expressions),
        "spec": dataclasses.asdict(spec),
        "compared_with_live": {name: dataclasses.asdict(result) for name, result in compared.items()},
    }


def read_faces(fa_net_dir: str, spec: FaNetSpec, data: str) -> FaceSet:
    """Returns the faces of the task that the network was trained for, split as they were then.

    Raises:
      InputError: when they are not there, have other labels, or are split otherwise.
    """
    flags = RunFolder.of_network(fa_net_dir).read_flags()
    data = data or flags.get("data", "") or "data/faces"
    held_out = flags.get("held_out", public.HELD_OUT)
    if spec.task == mixed.NAME:
        faces = mixed.read(data, flags.get("mapping", ""), flags.get("set_weights", ""), held_out)
    else:
        faces = mixed.read_set(spec.task, data, held_out)
    if faces.expressions != spec.expressions:
        raise InputError(f"`data` {data!r} has the labels {faces.expressions}; the network has {spec.expressions}.")
    lineage.check_judged(spec, faces, fa_net_dir)
    return faces


def forward_fn(model: Any, spec: FaNetSpec) -> Any:
    """Returns the tf.function that is converted: uint8 crops at the network's size to calibrated probabilities."""
    size = spec.image_size

    @tf.function(input_signature=[tf.TensorSpec([None, size, size, 3], tf.uint8, name=INPUT)], autograph=False)
    def forward(images: tf.Tensor) -> dict[str, tf.Tensor]:
        logits = model(preprocess(images, size, spec.channels), training=False)
        return {OUTPUT: tf.nn.softmax(logits / spec.temperature)}

    return forward


def to_tflite(forward: Any, representative: np.ndarray | None) -> bytes:
    """Returns a TFLite model: float16 weights, or int8 with the ranges that `representative` crops show."""
    converter = tf.lite.TFLiteConverter.from_concrete_functions([forward.get_concrete_function()], forward)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if representative is None:
        converter.target_spec.supported_types = [tf.float16]
    else:
        converter.representative_dataset = lambda: ([crop[None]] for crop in representative)
        # The preparation of the pixels stays in float; every layer of the network is int8.
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8, tf.lite.OpsSet.TFLITE_BUILTINS]
    return converter.convert()


def to_onnx(forward: Any) -> bytes:
    """Returns an ONNX model."""
    import tf2onnx

    model, _ = tf2onnx.convert.from_function(forward, input_signature=forward.input_signature, opset=ONNX_OPSET)
    return model.SerializeToString()


def tflite_runner(path: str) -> Callable[[np.ndarray], np.ndarray]:
    """Returns crops to probabilities by the TFLite file."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=path)
    index, out = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
    interpreter.allocate_tensors()

    def run(crops: np.ndarray) -> np.ndarray:
        answers = []
        for crop in crops:
            interpreter.set_tensor(index, crop[None])
            interpreter.invoke()
            answers.append(interpreter.get_tensor(out)[0])
        return np.array(answers)

    return run


def onnx_runner(path: str) -> Callable[[np.ndarray], np.ndarray]:
    """Returns crops to probabilities by the ONNX file."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda crops: np.concatenate(
        [session.run([OUTPUT], {INPUT: crops[start : start + 64]})[0] for start in range(0, len(crops), 64)]
    )


def _tflite_files(forward: Any, faces: FaceSet, spec: FaNetSpec) -> dict[str, Converted]:
    representative, _ = crops_of(faces.parts["train"], spec, REPRESENTATIVE_FACES)
    return {
        "fa_net_float16.tflite": (to_tflite(forward, None), tflite_runner),
        "fa_net_int8.tflite": (to_tflite(forward, representative), tflite_runner),
    }


def _onnx_files(forward: Any, faces: FaceSet, spec: FaNetSpec) -> dict[str, Converted]:
    return {"fa_net.onnx": (to_onnx(forward), onnx_runner)}


@dataclasses.dataclass(frozen=True)
class Format:
    """A format for other runtimes.

    Attributes:
      packages: what converts and runs it; all of the `export` extra.
      convert: from `forward_fn`, the run's faces and the network's spec to its files by name.
    """

    packages: tuple[str, ...]
    convert: Callable[[Any, FaceSet, FaNetSpec], dict[str, Converted]]


# By their names in `serving.export.Format`, which must be known before TensorFlow is imported.
FORMATS = {
    "tflite": Format(("ai_edge_litert",), _tflite_files),
    "onnx": Format(("onnx", "tf2onnx", "onnxruntime"), _onnx_files),
}


def crops_of(part: Part, spec: FaNetSpec, limit: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns faces spread over a part at the network's size, uint8 (N, S, S, 3), and their labels."""
    crops, labels = [], []
    for encoded, label in spread(part, limit).as_numpy_iterator():
        face = inputs.prepared(encoded, spec.image_size, 3, spec.crop)
        crops.append(np.clip(np.rint(face.numpy() * 255), 0, 255).astype(np.uint8))
        labels.append(label)
    return np.array(crops), np.array(labels)


def live_probabilities(model: Any, spec: FaNetSpec, part: Part, limit: int) -> np.ndarray:
    """Returns the live model's answers for the same faces, prepared as in training; float32 (N, classes)."""

    def prepare(encoded: Any, _: Any) -> Any:
        return inputs.prepared(encoded, spec.image_size, spec.channels, spec.crop)

    batches = spread(part, limit).map(prepare).batch(64)
    return np.concatenate([tf.nn.softmax(model(batch, training=False) / spec.temperature) for batch in batches])


def spread(part: Part, limit: int) -> tf.data.Dataset:
    """At most `limit` faces spread evenly over a part: records stand in order of clips."""
    stride = -(-len(part) // limit)
    return part.encoded().enumerate().filter(lambda index, _: index % stride == 0).map(lambda _, face: face)


def compare(probabilities: np.ndarray, live: np.ndarray, labels: np.ndarray) -> Comparison:
    """Returns how far a converted model's answers are from the live ones."""
    best, live_best = probabilities.argmax(1), live.argmax(1)
    return Comparison(
        faces=len(labels),
        accuracy=float((best == labels).mean()),
        live_accuracy=float((live_best == labels).mean()),
        agreement=float((best == live_best).mean()),
        largest_difference=float(np.abs(probabilities - live).max()),
    )
