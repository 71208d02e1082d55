"""TensorFlow Serving's text files that its Python package has no classes for: batching, monitoring and TLS.

The fields are those of `session_bundle_config.proto`, `monitoring_config.proto` and `ssl_config.proto`; only names
matter in the text format, and an unknown one is an error.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format, wrappers_pb2

from fer_tf.errors import InputError

_Field = descriptor_pb2.FieldDescriptorProto
_INT64 = ".google.protobuf.Int64Value"
_PACKAGE = "fer_tf.tf_serving"
_MESSAGES: dict[str, tuple[tuple[str, Any, bool], ...]] = {
    "BatchingParameters": (
        ("max_batch_size", _INT64, False),
        ("batch_timeout_micros", _INT64, False),
        ("max_enqueued_batches", _INT64, False),
        ("num_batch_threads", _INT64, False),
        ("thread_pool_name", ".google.protobuf.StringValue", False),
        ("allowed_batch_sizes", _Field.TYPE_INT64, True),
        ("pad_variable_length_inputs", _Field.TYPE_BOOL, False),
        ("enable_large_batch_splitting", ".google.protobuf.BoolValue", False),
        ("max_execution_batch_size", _INT64, False),
    ),
    "PrometheusConfig": (("enable", _Field.TYPE_BOOL, False), ("path", _Field.TYPE_STRING, False)),
    "MonitoringConfig": (("prometheus_config", f".{_PACKAGE}.PrometheusConfig", False),),
    "SSLConfig": (
        ("server_key", _Field.TYPE_STRING, False),
        ("server_cert", _Field.TYPE_STRING, False),
        ("custom_ca", _Field.TYPE_STRING, False),
        ("client_verify", _Field.TYPE_BOOL, False),
    ),
}


def _message_classes() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="fer_tf/tf_serving.proto", package=_PACKAGE, syntax="proto3")
    file.dependency.append(wrappers_pb2.DESCRIPTOR.name)
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for number, (field, kind, repeated) in enumerate(fields, 1):
            label = _Field.LABEL_REPEATED if repeated else _Field.LABEL_OPTIONAL
            entry = message.field.add(name=field, number=number, label=label)
            if isinstance(kind, str):
                entry.type, entry.type_name = _Field.TYPE_MESSAGE, kind
            else:
                entry.type = kind
    pool = descriptor_pool.Default()
    pool.Add(file) if hasattr(pool, "Add") else pool.AddSerializedFile(file.SerializeToString())
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}")) for name in _MESSAGES
    }


_CLASSES = _message_classes()
BatchingParameters = _CLASSES["BatchingParameters"]
MonitoringConfig = _CLASSES["MonitoringConfig"]
SSLConfig = _CLASSES["SSLConfig"]


def read_text(path: str, message_class: Any, flag: str) -> Any:
    """Returns the message in a text-format file.

    Args:
      path: the file.
      message_class: what it holds.
      flag: the flag that named it, for errors.

    Raises:
      InputError: when it cannot be read, with the line of the mistake.
    """
    try:
        with open(path, encoding="utf-8") as file:
            return text_format.Parse(file.read(), message_class())
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"`{flag}` cannot be read: {error}") from None
    except text_format.ParseError as error:
        raise InputError(f"`{flag}` {path!r} is not a {message_class.DESCRIPTOR.name}: line {error}") from None
