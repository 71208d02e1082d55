"""From the server's flags and TensorFlow Serving's text files to what the parts of the server take."""

from __future__ import annotations

import os
import re

import grpc
from tensorflow_serving.config import model_server_config_pb2

from fer_tf.errors import InputError
from serving.batching import BatchingOptions
from serving.config import ServerConfig
from serving.export import versions
from serving.metrics import METRICS_PATH
from serving.rest import OWN_PATHS, Limits
from serving.services import check_configs
from serving.tensors import RequestError
from serving.tf_serving_protos import BatchingParameters, MonitoringConfig, SSLConfig, read_text

# A body that takes longer ties up what others could use.
BODY_SECONDS = 30.0
# A client that is gone without a word is noticed, and no connection keeps what it holds for ever: those that are in use
# are asked to connect anew, which clients do by themselves, and may end what they have begun.
CONNECTIONS = {
    "grpc.keepalive_time_ms": 60_000,
    "grpc.keepalive_timeout_ms": 20_000,
    "grpc.keepalive_permit_without_calls": 1,
    "grpc.max_connection_age_ms": 600_000,
    "grpc.max_connection_age_grace_ms": 60_000,
}


def batching_options(config: ServerConfig) -> BatchingOptions:
    """Returns how requests are batched; the parameters file wins over the flags."""
    sizes = {
        "max_batch_size": config.max_batch_size,
        "batch_timeout_micros": config.batch_timeout_micros,
        "num_batch_threads": config.num_batch_threads,
    }
    max_enqueued = config.max_enqueued_images
    if config.batching_parameters_file:
        parameters = read_text(config.batching_parameters_file, BatchingParameters, "batching_parameters_file")
        sizes |= {name: getattr(parameters, name).value for name in sizes if parameters.HasField(name)}
        if parameters.HasField("max_enqueued_batches"):
            max_enqueued = parameters.max_enqueued_batches.value * sizes["max_batch_size"]
        if sizes["max_batch_size"] < 1 or sizes["num_batch_threads"] < 1 or sizes["batch_timeout_micros"] < 0:
            raise InputError(f"`batching_parameters_file` has a size below 1. Received: {sizes}.")
    return BatchingOptions(
        enabled=config.enable_batching,
        max_batch_size=sizes["max_batch_size"],
        timeout_s=sizes["batch_timeout_micros"] / 1e6,
        max_enqueued=max(max_enqueued, 1),
        threads=sizes["num_batch_threads"],
    )


def model_configs(config: ServerConfig) -> tuple[str, list[model_server_config_pb2.ModelConfig]]:
    """Returns the root that models must stand in, and the models to serve.

    Raises:
      InputError: when a folder does not exist or has no version, or a model stands outside the root.
    """
    if config.model_config_file:
        read = read_text(config.model_config_file, model_server_config_pb2.ModelServerConfig, "model_config_file")
        configs = list(read.model_config_list.config)
        root = config.model_root or os.path.dirname(os.path.abspath(config.model_config_file))
    else:
        base_path = os.path.abspath(config.model_base_path)
        configs = [
            model_server_config_pb2.ModelConfig(
                name=config.model_name, base_path=base_path, model_platform="tensorflow"
            )
        ]
        root = config.model_root or os.path.dirname(base_path)
    try:
        check_configs(configs, root)
    except RequestError as error:
        raise InputError(error.message) from None
    for model in configs:
        if not versions(model.base_path):
            raise InputError(f"no exported version in {model.base_path!r}; run `python -m serving.export` first")
    return root, configs


def server_credentials(ssl_config_file: str) -> grpc.ServerCredentials | None:
    """Returns the server's key and certificate, and the authority that clients must show when it verifies them."""
    if not ssl_config_file:
        return None
    ssl = read_text(ssl_config_file, SSLConfig, "ssl_config_file")
    if not ssl.server_key or not ssl.server_cert:
        raise InputError(f"`ssl_config_file` {ssl_config_file!r} needs server_key and server_cert (their PEM text)")
    for name in ("server_key", "server_cert", "custom_ca"):
        if (text := getattr(ssl, name)) and "-----BEGIN" not in text:
            # A key must not stand in a log.
            raise InputError(
                f"`ssl_config_file` {ssl_config_file!r}: {name} must be the PEM text itself, which begins with "
                "-----BEGIN, and not a path or another form. Write the file's content there, with \\n for line ends."
            )
    if ssl.client_verify and not ssl.custom_ca:
        raise InputError(f"`ssl_config_file` {ssl_config_file!r} verifies clients and names no custom_ca")
    return grpc.ssl_server_credentials(
        [(ssl.server_key.encode(), ssl.server_cert.encode())],
        root_certificates=ssl.custom_ca.encode() or None,
        require_client_auth=ssl.client_verify,
    )


def monitoring(config: ServerConfig) -> tuple[bool, str]:
    """Returns whether the metrics are shown, and under which path; raises InputError for one that cannot be theirs."""
    if not config.monitoring_config_file:
        return True, METRICS_PATH
    read = read_text(config.monitoring_config_file, MonitoringConfig, "monitoring_config_file").prometheus_config
    path = read.path or METRICS_PATH
    if not re.fullmatch(r"/[\w.~/-]*", path, re.ASCII) or f"{path}/".startswith(OWN_PATHS):
        raise InputError(
            f"`monitoring_config_file` {config.monitoring_config_file!r}: path must begin with /, be of letters, "
            f"digits and /.-_~, and not be or lie below {', '.join(own.rstrip('/') for own in OWN_PATHS)}. "
            f"Received: {path!r}."
        )
    return read.enable, path


def rest_limits(config: ServerConfig) -> Limits:
    """Returns what one caller may take over HTTP: as much as over gRPC."""
    return Limits(config.max_message_bytes, BODY_SECONDS, config.max_concurrent_rpcs, bool(config.ssl_config_file))


def grpc_options(config: ServerConfig) -> list[tuple[str, int | str]]:
    """Returns the gRPC server's settings; those of the flag win."""
    options: dict[str, int | str] = {
        "grpc.max_receive_message_length": config.max_message_bytes,
        "grpc.max_send_message_length": config.max_message_bytes,
        # A taken port is an error, not a second server that gets half of the requests.
        "grpc.so_reuseport": 0,
        **CONNECTIONS,
    }
    for pair in filter(None, config.grpc_channel_arguments.split(",")):
        name, separator, value = pair.partition("=")
        if not separator:
            raise InputError(f"`grpc_channel_arguments` must be name=value pairs. Received: {pair!r}.")
        options[name.strip()] = int(value) if value.strip().lstrip("-").isdigit() else value.strip()
    return list(options.items())
