"""TensorFlow Serving's JSON to the protos of its gRPC calls and back: https://www.tensorflow.org/tfx/serving/api_rest.

A request is read into the proto that the same question over gRPC would be, so that everything behind it is shared.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import gc
import itertools
import json
import math
import re
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf import json_format
from tensorflow.core.framework import tensor_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    predict_pb2,
)

from serving.tensors import RequestError, invalid, to_proto

ROWS, COLUMNS = "instances", "inputs"
EXAMPLES, CONTEXT = "examples", "context"
BASE64 = "b64"
# A string output whose name ends so holds bytes, which JSON cannot hold as they are.
BYTES_SUFFIX = "_bytes"
# Larger bodies are read in a thread, one at a time: a list of short lists takes thirty times its text's memory.
MANY_BYTES = 64 * 1024
# JSON can name halves of pairs that no text holds, and no proto.
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_LEAVES = {"integer": {int}, "bool": {bool}, "floating": {int, float}}


_pausing = threading.Lock()
_paused, _was_on = 0, False


@contextlib.contextmanager
def without_collector() -> Iterator[None]:
    """Python looks for no cycles meanwhile: to look at millions of lists again and again while they are made would
    hold up every thread for seconds."""
    global _paused, _was_on
    with _pausing:
        if not _paused:
            _was_on = gc.isenabled()
            gc.disable()
        _paused += 1
    try:
        yield
    except RequestError as error:
        # Its frames hold what was read, which must be gone when the collector is back.
        raise error.with_traceback(None) from None
    finally:
        with _pausing:
            _paused -= 1
            if _was_on and not _paused:
                gc.enable()


def read_object(body: bytes) -> dict[str, Any]:
    """Returns the JSON object in a request's body; NaN, Infinity and -Infinity are numbers, as in TensorFlow Serving.

    Raises:
      RequestError: INVALID_ARGUMENT for what is no JSON object, names a key twice, or nests too deep.
    """
    if not body.strip():
        raise invalid("JSON parse error: the body is empty")
    # `[1],` is the shortest list that says something.
    if len(body) > MANY_BYTES and body.count(b"[") + body.count(b"{") > len(body) // 4:
        raise invalid("JSON parse error: most of its lists are empty or hold lists alone")
    try:
        value = json.loads(body.decode("utf-8"), object_pairs_hook=_object, parse_float=_float)
        if _SURROGATE.search(body):
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise invalid("JSON parse error: half a surrogate pair, which is no text") from None
    except RecursionError:
        raise invalid("JSON parse error: lists or objects nest too deep") from None
    except ValueError as error:
        raise invalid(f"JSON parse error: {str(error)[:200]}") from None
    if not isinstance(value, dict):
        raise invalid(f"the body must be a JSON object. Received: {_kind(value)}.")
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"key {next(name for name in names if names.count(name) > 1)[:50]!r} stands twice")
    return value


def _float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"number {text[:20]} is too large for a double")
    return value


def signature_of(said: Mapping[str, Any]) -> str:
    """Returns the signature that a request names; empty for the default one.

    Raises:
      RequestError: INVALID_ARGUMENT when the name is no string.
    """
    name = said.get("signature_name", "")
    if not isinstance(name, str):
        raise invalid(f"`signature_name` must be a string. Received: {_kind(name)}.")
    return name


def fill_predict(request: predict_pb2.PredictRequest, said: Mapping[str, Any], specs: dict[str, tf.TensorSpec]) -> None:
    """Fills a Predict request from `instances`, one entry an image, or `inputs`, one list an input.

    Args:
      request: gets the inputs.
      said: the body.
      specs: what the signature declares, by input.

    Raises:
      RequestError: INVALID_ARGUMENT naming the input, and the value that does not fit.
    """
    if (ROWS in said) == (COLUMNS in said):
        raise invalid(f"the body must have one of `{ROWS}` and `{COLUMNS}`. Received: {sorted(said)[:5]}.")
    given = _columns_of(said[ROWS], specs) if ROWS in said else _named(said[COLUMNS], specs, COLUMNS)
    for name, value in given.items():
        # An input that the signature does not have is refused with the others' names where all requests are checked.
        proto = to_proto(_array(value, specs[name], name), packed=True) if name in specs else tensor_pb2.TensorProto()
        request.inputs[name].CopyFrom(proto)


def _columns_of(rows: Any, specs: dict[str, tf.TensorSpec]) -> dict[str, Any]:
    """The rows' values, an input at a time."""
    if not isinstance(rows, list):
        raise invalid(f"`{ROWS}` must be a list. Received: {_kind(rows)}.")
    if not rows:
        raise invalid("the batch is empty")
    by_name = [_names_inputs(row) for row in rows]
    if not any(by_name):
        return _named(rows, specs, ROWS)
    if not all(by_name):
        raise invalid(f"`{ROWS}[{by_name.index(False)}]` must be an object with its inputs, as others are")
    names = rows[0].keys()
    for number, row in enumerate(rows):
        if row.keys() != names:
            raise invalid(f"`{ROWS}[{number}]` has the inputs {sorted(row)[:5]}, the first one {sorted(names)[:5]}")
    return {name: [row[name] for row in rows] for name in names}


def _names_inputs(value: Any) -> bool:
    return isinstance(value, dict) and not _is_base64(value)


def _named(value: Any, specs: dict[str, tf.TensorSpec], place: str) -> dict[str, Any]:
    """The inputs by name; where there is one input, its value may stand alone."""
    if _names_inputs(value):
        return value
    if len(specs) > 1:
        raise invalid(f"`{place}` must name the inputs {sorted(specs)}. Received: {_kind(value)}.")
    return dict.fromkeys(specs, value)


def _array(value: Any, spec: tf.TensorSpec, name: str) -> np.ndarray:
    """A value as an array of the input's type; its shape is checked where all requests are."""
    shape, leaves = _leaves(value, len(spec.shape), name)
    if spec.dtype == tf.string:
        array = np.empty(len(leaves), object)
        array[:] = [_bytes(leaf, f"input `{name}`") for leaf in leaves]
        return array.reshape(shape)
    kind = "integer" if spec.dtype.is_integer else "floating" if spec.dtype.is_floating else spec.dtype.name
    if kind not in _LEAVES:
        raise invalid(f"input `{name}` of type {spec.dtype.name} cannot be given as JSON")
    if unfit := set(map(type, leaves)) - _LEAVES[kind]:
        received = next(leaf for leaf in leaves if type(leaf) in unfit)
        raise invalid(f"input `{name}` must be {spec.dtype.name}. Received: {_kind(received)}.")
    try:
        with np.errstate(over="ignore"):
            array = np.array(leaves, spec.dtype.as_numpy_dtype)
        if kind == "floating" and (np.isinf(array) & np.isfinite(np.array(leaves, np.float64))).any():
            raise OverflowError(f"a number is too large for {spec.dtype.name}")
    except OverflowError as error:
        raise invalid(f"input `{name}`: {str(error)[:100]}") from None
    return array.reshape(shape)


def _leaves(value: Any, rank: int, name: str) -> tuple[list[int], list[Any]]:
    """The shape of nested lists, and their values in order; no deeper than the input's rank."""
    shape: list[int] = []
    level = [value]
    while list in (kinds := set(map(type, level))):
        sizes = set(map(len, level)) if len(kinds) == 1 else set()
        if len(sizes) != 1:
            raise invalid(f"input `{name}`: the lists at depth {len(shape) + 1} are not equally long")
        if len(shape) == rank:
            raise invalid(f"input `{name}` has lists deeper than its {rank} dimensions")
        shape += sizes
        level = list(itertools.chain.from_iterable(level))
    return shape, level


def _is_base64(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() == {BASE64}


def _bytes(value: Any, place: str) -> bytes:
    """A string's bytes, or those that {"b64": ...} holds; padding may be left out."""
    if isinstance(value, str):
        return value.encode()
    if not _is_base64(value) or not isinstance(value[BASE64], str):
        raise invalid(f'{place} must be strings or {{"{BASE64}": "..."}}. Received: {_kind(value)}.')
    text = value[BASE64]
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise invalid(f"{place}: `{BASE64}` is not base64: {error}") from None


def _kind(value: Any) -> str:
    """What a JSON value is, for errors; its content may be long or private."""
    names = {dict: "an object", list: "a list", str: "a string", bool: "a bool", type(None): "null"}
    return names.get(type(value)) or f"the number {str(value)[:24]}"


def fill_examples(request: classification_pb2.ClassificationRequest, said: Mapping[str, Any]) -> None:
    """Fills a Classify or Regress request from `examples`, objects of features, and the `context` that they share.

    Raises:
      RequestError: INVALID_ARGUMENT naming the example and the feature that does not fit.
    """
    examples = said.get(EXAMPLES)
    if not isinstance(examples, list):
        raise invalid(f"the body must have a list of `{EXAMPLES}`. Received: {_kind(examples)}.")
    listed: Any = request.input.example_list
    if CONTEXT in said:
        listed = request.input.example_list_with_context
        _fill_example(listed.context, said[CONTEXT], f"`{CONTEXT}`")
    listed.SetInParent()
    for number, example in enumerate(examples):
        _fill_example(listed.examples.add(), example, f"`{EXAMPLES}[{number}]`")


def _fill_example(example: Any, features: Any, place: str) -> None:
    if not isinstance(features, dict):
        raise invalid(f"{place} must be an object of features. Received: {_kind(features)}.")
    example.features.SetInParent()
    for name, value in features.items():
        values = value if isinstance(value, list) else [value]
        feature = example.features.feature[name]
        kinds = {dict if type(entry) is str else int if type(entry) is bool else type(entry) for entry in values}
        try:
            if kinds == {dict}:
                feature.bytes_list.value.extend(_bytes(entry, f"{place}: feature {name[:50]!r}") for entry in values)
            elif kinds == {int}:
                feature.int64_list.value.extend(int(entry) for entry in values)
            elif kinds == {float}:
                feature.float_list.value.extend(values)
            elif kinds:
                raise ValueError("values must be strings, whole numbers or fractions, and all of one kind")
        except (ValueError, OverflowError) as error:
            raise invalid(f"{place}: feature {name[:50]!r}: {error}") from None


def predictions(outputs: Mapping[str, tensor_pb2.TensorProto], by_rows: bool) -> dict[str, Any]:
    """Returns a Predict response's outputs: `predictions`, one entry an image, or `outputs`, one list an output."""
    columns = {name: _plain(tf.make_ndarray(proto), name) for name, proto in sorted(outputs.items())}
    alone = len(columns) == 1
    if not by_rows:
        return {"outputs": next(iter(columns.values())) if alone else columns}
    rows: Iterable[Sequence[Any]] = zip(*columns.values(), strict=True)
    return {"predictions": [row[0] if alone else dict(zip(columns, row, strict=True)) for row in rows]}


def _plain(values: np.ndarray, name: str) -> Any:
    if values.dtype == object:
        as_bytes = name.endswith(BYTES_SUFFIX)
        plain = [
            {BASE64: base64.b64encode(value).decode()} if as_bytes else value.decode("utf-8", "replace")
            for value in values.reshape(-1)
        ]
        array = np.empty(len(plain), object)
        array[:] = plain
        return array.reshape(values.shape).tolist()
    if np.issubdtype(values.dtype, np.floating):
        # The shortest decimals that mean the same float32: 0.2 and not 0.20000000298.
        return values.astype(str).astype(np.float64).tolist()
    return values.tolist()


def classifications(response: classification_pb2.ClassificationResponse) -> dict[str, Any]:
    """Returns a Classify response: for each example, pairs of label and score."""
    return {
        "results": [
            [[entry.label, float(str(np.float32(entry.score)))] for entry in found.classes]
            for found in response.result.classifications
        ]
    }


def status(response: get_model_status_pb2.GetModelStatusResponse) -> dict[str, Any]:
    """Returns a GetModelStatus response."""
    return _message(response)


def metadata(response: get_model_metadata_pb2.GetModelMetadataResponse) -> dict[str, Any]:
    """Returns a GetModelMetadata response; what the proto holds packed stands open."""
    signatures = get_model_metadata_pb2.SignatureDefMap()
    response.metadata["signature_def"].Unpack(signatures)
    return {
        "model_spec": _message(response.model_spec),
        "metadata": {"signature_def": _message(signatures)},
    }


def _message(message: Any) -> dict[str, Any]:
    return json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )


def dump(value: Any) -> bytes:
    """Returns JSON; NaN and the infinities stand as such, as in TensorFlow Serving."""
    return json.dumps(value).encode()
