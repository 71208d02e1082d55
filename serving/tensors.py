"""TensorProto to numpy and back; nothing that a request claims is believed before it is checked."""

from __future__ import annotations

import math

import grpc
import numpy as np
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2

# A TensorProto may claim any shape and give one number to fill it with.
MAX_TENSOR_BYTES = 64 * 1024 * 1024
# Where a TensorProto holds the values of a type when not as raw bytes; the other integers stand in `int_val`.
_VALUES_OF = {
    tf.float16: "half_val",
    tf.bfloat16: "half_val",
    tf.float32: "float_val",
    tf.float64: "double_val",
    tf.int64: "int64_val",
    tf.uint32: "uint32_val",
    tf.uint64: "uint64_val",
    tf.bool: "bool_val",
    tf.complex64: "scomplex_val",
    tf.complex128: "dcomplex_val",
}


class RequestError(Exception):
    """A request that is answered with an error code.

    Attributes:
      code: the gRPC status.
      message: what was wrong, for the caller.
    """

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def invalid(message: str) -> RequestError:
    """Returns the error of a request that is wrong itself, whatever the server's state (INVALID_ARGUMENT)."""
    return RequestError(grpc.StatusCode.INVALID_ARGUMENT, message)


def to_numpy(proto: tensor_pb2.TensorProto, spec: tf.TensorSpec, name: str) -> np.ndarray:
    """Returns an input as an array of the type and shape that the signature asks for.

    Args:
      proto: the request's tensor.
      spec: what the signature declares; its first dimension is the batch.
      name: the input's name, for errors.

    Raises:
      RequestError: INVALID_ARGUMENT for a wrong type, shape, size or number of values.
    """
    dtype = spec.dtype
    if proto.dtype != dtype.as_datatype_enum:
        raise invalid(f"input `{name}` must be {dtype.name}. Received: {_dtype_name(proto.dtype)}.")
    dims = [dim.size for dim in proto.tensor_shape.dim]
    wanted = spec.shape.as_list()
    if proto.tensor_shape.unknown_rank or len(dims) != len(wanted) or any(size < 0 for size in dims):
        raise invalid(f"input `{name}` must have the shape {wanted}. Received: {dims[:9]}.")
    if any(size not in (None, received) for size, received in zip(wanted, dims, strict=True)):
        raise invalid(f"input `{name}` must have the shape {wanted}. Received: {dims}.")
    count = math.prod(dims)
    if dtype == tf.string:
        if len(proto.string_val) != count:
            raise invalid(f"input `{name}` claims {count} strings and holds {len(proto.string_val)}")
        values = np.empty(count, object)
        values[:] = list(proto.string_val)
        return values.reshape(dims)
    if count * dtype.size > MAX_TENSOR_BYTES:
        raise invalid(f"input `{name}` of shape {dims} is above the limit of {MAX_TENSOR_BYTES} bytes")
    if proto.tensor_content:
        if len(proto.tensor_content) != count * dtype.size:
            raise invalid(f"input `{name}` of shape {dims} holds {len(proto.tensor_content)} bytes")
        return np.frombuffer(proto.tensor_content, dtype.as_numpy_dtype).reshape(dims)
    # TensorFlow would repeat the last value, or zero, up to the claimed size: a few bytes would become many megabytes.
    held = len(getattr(proto, _VALUES_OF.get(dtype, "int_val"))) // (2 if dtype.is_complex else 1)
    if held != count:
        raise invalid(f"input `{name}` of shape {dims} claims {count} values and holds {held}")
    try:
        return tf.make_ndarray(proto)
    except (ValueError, TypeError, OverflowError) as error:
        raise invalid(f"input `{name}`: {error}") from None


def _dtype_name(number: int) -> str:
    try:
        return tf.dtypes.as_dtype(number).name
    except (TypeError, KeyError):
        return f"unknown dtype {number}"


def to_proto(values: np.ndarray, packed: bool = False) -> tensor_pb2.TensorProto:
    """Returns an array as a TensorProto.

    Args:
      values: numbers, or an object array of bytes.
      packed: numbers as raw bytes. An answer lists its values, as TensorFlow Serving's do: many clients read
        `float_val` and nothing else.
    """
    dtype = tf.dtypes.as_dtype(values.dtype)
    proto = tensor_pb2.TensorProto(dtype=dtype.as_datatype_enum)
    for size in values.shape:
        proto.tensor_shape.dim.add(size=size)
    if values.dtype == object:
        proto.string_val.extend(values.reshape(-1).tolist())
    elif packed or dtype.is_complex:
        proto.tensor_content = values.tobytes()
    else:
        listed = _VALUES_OF.get(dtype, "int_val")
        flat = values.reshape(-1)
        getattr(proto, listed).extend((flat.view(np.uint16) if listed == "half_val" else flat).tolist())
    return proto
