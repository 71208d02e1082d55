"""The server's flags."""

from __future__ import annotations

from dataclasses import dataclass

from fer_tf.errors import InputError, check_least, check_port, check_positive


@dataclass(frozen=True)
class ServerConfig:
    """Flags of `python -m serving.server`.

    Args:
      model_base_path: folder with the model's numbered versions.
      model_name: name under which requests ask for it.
      model_config_file: text file with a ModelServerConfig; serves its models instead of model_base_path.
      model_root: folder that every model must stand in, also those of a later HandleReloadConfigRequest; empty takes
        the folder around model_base_path.
      host: address to listen on; the default answers this machine alone.
      port: gRPC port; 0 takes a free one.
      rest_api_port: HTTP port for TensorFlow Serving's REST API, metrics and readiness; 0 takes a free one, -1 leaves
        it out.
      enable_batching: whether concurrent requests are run as one batch.
      max_batch_size: most images in a batch.
      batch_timeout_micros: longest wait for a fuller batch, microseconds.
      max_enqueued_images: images that may wait before requests are refused.
      num_batch_threads: batches that run side by side.
      batching_parameters_file: text file with BatchingParameters; overrides the batching flags.
      file_system_poll_wait_seconds: seconds between two looks for new versions.
      max_message_bytes: largest request or answer, bytes; over HTTP the largest body, whose base64 takes a third more.
      max_images: most images in one request.
      max_image_pixels: most pixels in one image.
      max_concurrent_rpcs: requests open at a time, of each protocol; more are refused.
      max_open_bytes: bytes that all open requests together may hold; more are refused. The server takes a few times as
        much, beside the model.
      drain_seconds: how long a SIGTERM waits for open requests.
      ssl_config_file: text file with an SSLConfig (key, certificate, client authority); empty serves without TLS.
      monitoring_config_file: text file with a MonitoringConfig; empty shows the metrics under their usual path.
      enable_reflection: whether gRPC clients may ask for the protos, as grpcurl does.
      grpc_channel_arguments: comma-separated gRPC settings, such as grpc.max_connection_age_ms=600000.
      tensorflow_intra_op_parallelism: threads within an operation; 0 lets TensorFlow choose.
      tensorflow_inter_op_parallelism: operations side by side; 0 lets TensorFlow choose.
    """

    model_base_path: str = "models/fa_net"
    model_name: str = "fa_net"
    model_config_file: str = ""
    model_root: str = ""
    host: str = "127.0.0.1"
    port: int = 8500
    rest_api_port: int = 8501
    enable_batching: bool = True
    max_batch_size: int = 64
    batch_timeout_micros: int = 2000
    max_enqueued_images: int = 1024
    num_batch_threads: int = 2
    batching_parameters_file: str = ""
    file_system_poll_wait_seconds: float = 1.0
    max_message_bytes: int = 8 * 1024 * 1024
    max_images: int = 64
    max_image_pixels: int = 2048 * 2048
    max_concurrent_rpcs: int = 256
    max_open_bytes: int = 128 * 1024 * 1024
    drain_seconds: float = 30.0
    ssl_config_file: str = ""
    monitoring_config_file: str = ""
    enable_reflection: bool = False
    grpc_channel_arguments: str = ""
    tensorflow_intra_op_parallelism: int = 0
    tensorflow_inter_op_parallelism: int = 0

    def __post_init__(self) -> None:
        check_least(
            self,
            max_batch_size=1,
            batch_timeout_micros=0,
            max_enqueued_images=1,
            num_batch_threads=1,
            max_message_bytes=1024,
            max_images=1,
            max_image_pixels=1,
            max_concurrent_rpcs=1,
            drain_seconds=0,
            tensorflow_intra_op_parallelism=0,
            tensorflow_inter_op_parallelism=0,
        )
        # A body and the message that it becomes are held at once.
        if self.max_open_bytes < 2 * self.max_message_bytes:
            raise InputError(
                f"`max_open_bytes` must be at least twice `max_message_bytes`, {2 * self.max_message_bytes}. "
                f"Received: {self.max_open_bytes}."
            )
        check_positive(self, "file_system_poll_wait_seconds")
        check_port("port", self.port)
        check_port("rest_api_port", self.rest_api_port, least=-1)
