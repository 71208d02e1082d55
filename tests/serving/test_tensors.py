"""What a request's tensor claims is checked before any memory is taken for it."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2

from serving.tensors import RequestError, to_numpy, to_proto

NUMBERS = ("uint8", "int32", "int64", "uint32", "uint64", "float16", "bfloat16", "float32", "float64", "bool")


def one_by_one(values: np.ndarray) -> tensor_pb2.TensorProto:
    """A proto that lists its values instead of holding raw bytes, as some clients write it."""
    proto = tf.make_tensor_proto(values.reshape(-1)[:1], shape=[1])
    assert not proto.tensor_content
    field = next(field for field, _ in proto.ListFields() if field.name.endswith("_val"))
    # Half floats are listed by their bits.
    value = getattr(proto, field.name)[0]
    getattr(proto, field.name)[:] = [value] * values.size
    proto.tensor_shape.CopyFrom(tf.TensorShape(values.shape).as_proto())
    return proto


@pytest.mark.parametrize("name", (*NUMBERS, "complex64"))
def test_a_value_that_is_to_fill_a_claimed_shape_is_refused(name: str) -> None:
    dtype = tf.as_dtype(name)
    proto = tf.make_tensor_proto(np.ones(1, dtype.as_numpy_dtype), shape=[1])
    for held in ("one", "none"):
        if held == "none":
            proto = tensor_pb2.TensorProto(dtype=dtype.as_datatype_enum)
            proto.tensor_shape.dim.add()
        proto.tensor_shape.dim[0].size = 1_000_000
        with pytest.raises(RequestError, match="claims 1000000 values and holds"):
            to_numpy(proto, tf.TensorSpec([None], dtype), "x")


@pytest.mark.parametrize("name", NUMBERS)
def test_listed_values_and_raw_bytes_give_the_same_array(name: str) -> None:
    dtype = tf.as_dtype(name).as_numpy_dtype
    values = np.ones((2, 3), dtype)
    spec = tf.TensorSpec([None, 3], name)
    for proto in (one_by_one(values), tf.make_tensor_proto(values)):
        read = to_numpy(proto, spec, "x")
        assert read.dtype == dtype and read.shape == (2, 3) and (read == values).all()


def test_a_scalar_an_empty_and_a_complex_tensor_are_read() -> None:
    assert to_numpy(tf.make_tensor_proto(7), tf.TensorSpec([], tf.int32), "x") == 7
    empty = to_numpy(tf.make_tensor_proto(np.zeros((0, 3), np.float32)), tf.TensorSpec([None, 3], tf.float32), "x")
    assert empty.shape == (0, 3) and empty.dtype == np.float32
    number = to_numpy(tf.make_tensor_proto(1 + 2j, tf.complex64), tf.TensorSpec([], tf.complex64), "x")
    assert number == np.complex64(1 + 2j)


@pytest.mark.parametrize("name", (*NUMBERS, "complex64"))
def test_an_answer_lists_its_values_and_reads_back_the_same(name: str) -> None:
    values = np.arange(6).reshape(2, 3).astype(tf.as_dtype(name).as_numpy_dtype)
    for packed in (False, True):
        proto = to_proto(values, packed)
        assert bool(proto.tensor_content) == (packed or name == "complex64")
        read = tf.make_ndarray(proto)
        assert read.dtype == values.dtype and (read == values).all()
    words = np.array([[b"a", b"\xff"]], object)
    assert (tf.make_ndarray(to_proto(words)) == words).all()
