"""Asking a server: face crops to an embedded or a real TensorFlow Serving over gRPC, answers back.

gRPC is imported when a connection is made, so that the other ways of asking do without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from fer_tf.errors import InputError, ServerError
from fer_tf.recognition.answers import Answer, encode_face
from fer_tf.recognition.reaching import is_loopback, why_no_answer

if TYPE_CHECKING:
    import grpc

MAX_MESSAGE_BYTES = 32 * 1024 * 1024
# A server takes at most 64 images in a request by default.
MAX_IMAGES = 32


@dataclass(frozen=True)
class TlsFiles:
    """PEM files for a connection over TLS.

    Attributes:
      ca_cert: the authority that signed the server's certificate; empty connects without TLS.
      client_cert, client_key: what the client shows when the server asks for it.
    """

    ca_cert: str = ""
    client_cert: str = ""
    client_key: str = ""

    def __post_init__(self) -> None:
        if bool(self.client_cert) != bool(self.client_key):
            raise InputError("`client_cert` and `client_key` belong together. Received: only one of them.")
        if self.client_cert and not self.ca_cert:
            raise InputError("`client_cert` needs `ca_cert`, the authority of the server's certificate")

    def credentials(self) -> grpc.ChannelCredentials | None:
        """Returns what the channel needs, or None for a plain one."""
        if not self.ca_cert:
            return None
        import grpc

        read = {name: _read(getattr(self, name), name) for name in ("ca_cert", "client_key", "client_cert")}
        return grpc.ssl_channel_credentials(read["ca_cert"], read["client_key"], read["client_cert"])


def _read(path: str, flag: str) -> bytes | None:
    if not path:
        return None
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise InputError(f"`{flag}` cannot be read: {error}") from None


class Connection:
    """A channel to one model of a server.

    Args:
      address: `host:port`.
      model_name: the model's name at the server.
      tls: PEM files, when the server speaks TLS.
      timeout_s: deadline of a request, seconds.
    """

    def __init__(
        self, address: str, model_name: str = "fa_net", tls: TlsFiles | None = None, timeout_s: float = 10.0
    ) -> None:
        import grpc
        from tensorflow_serving.apis import prediction_service_pb2_grpc

        self.name = self.address = address
        self.model_name, self.timeout_s = model_name, timeout_s
        options = [("grpc.max_receive_message_length", MAX_MESSAGE_BYTES)]
        if is_loopback(address):
            options.append(("grpc.enable_http_proxy", 0))
        credentials = tls.credentials() if tls else None
        self._over_tls = credentials is not None
        if credentials:
            self.channel = grpc.secure_channel(address, credentials, options)
        else:
            self.channel = grpc.insecure_channel(address, options)
        self.stub = prediction_service_pb2_grpc.PredictionServiceStub(self.channel)

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the channel."""
        self.channel.close()

    def wait(self, seconds: float = 5.0) -> None:
        """Returns when the server is there.

        Raises:
          ServerError: when it is not within `seconds`.
        """
        import grpc

        try:
            grpc.channel_ready_future(self.channel).result(timeout=seconds)
        except grpc.FutureTimeoutError:
            raise ServerError(why_no_answer(self.address, self._over_tls)) from None

    @cached_property
    def expressions(self) -> tuple[str, ...]:
        """The label names; raises ServerError."""
        return self._about[0]

    @cached_property
    def landmark_model(self) -> str:
        """What aligned the faces that the network learned from; empty when its export is too old to say."""
        return self._about[1]

    @cached_property
    def picture_share(self) -> float:
        """See `Network`; 1 when the network's export is too old to say."""
        return self._about[2]

    @cached_property
    def _about(self) -> tuple[tuple[str, ...], str, float]:
        """What the model says of itself with any answer, asked with a grey picture."""
        import tensorflow as tf

        grey = np.array([encode_face(np.full((8, 8, 3), 127, np.uint8))], object)
        # Without a filter: an older export has no such output, and naming it would be an error.
        outputs = self.predict({"image_bytes": grey})
        landmark_model = _words(outputs["landmark_model"])[0] if "landmark_model" in outputs else ""
        share = tf.make_ndarray(outputs["picture_share"]).item(0) if "picture_share" in outputs else 1.0
        return _words(outputs["class_names"]), landmark_model, share

    def classify(self, faces: Sequence[np.ndarray]) -> list[Answer]:
        """Returns what the network sees in each face.

        Args:
          faces: uint8 (256, 256, 3) RGB crops, aligned.

        Raises:
          ServerError: with the server's own words.
        """
        return self.classify_encoded([encode_face(face) for face in faces])

    def classify_encoded(self, images: Sequence[bytes]) -> list[Answer]:
        """Returns what the network sees in each JPEG or PNG; raises ServerError."""
        import tensorflow as tf

        answers: list[Answer] = []
        for start in range(0, len(images), MAX_IMAGES):
            part = np.array(images[start : start + MAX_IMAGES], object)
            # Without a filter: an older export has no `is_face`, and naming it would be an error.
            response = self._call({"image_bytes": part}, (), "serving_default")
            names = _words(response.outputs["class_names"])
            version = response.model_spec.version.value
            rows = tf.make_ndarray(response.outputs["probabilities"])
            seen: Sequence[float | None] = [None] * len(rows)
            if "is_face" in response.outputs:
                seen = tf.make_ndarray(response.outputs["is_face"]).tolist()
            answers += [Answer(names, row, version, is_face=is_face) for row, is_face in zip(rows, seen, strict=True)]
        return answers

    def embed(self, faces: Sequence[np.ndarray]) -> np.ndarray:
        """Returns the 256 features of each face, float32 (N, 256); raises ServerError."""
        import tensorflow as tf

        from fer_tf.models.light_cnn import FEATURE_SIZE

        rows = [np.zeros((0, FEATURE_SIZE), np.float32)]
        for start in range(0, len(faces), MAX_IMAGES):
            part = np.array([encode_face(face) for face in faces[start : start + MAX_IMAGES]], object)
            rows.append(tf.make_ndarray(self.predict({"image_bytes": part}, ("features",), "embed")["features"]))
        return np.concatenate(rows)

    def live(self) -> tuple[Any, Any]:
        """A server keeps its weights to itself.

        Raises:
          InputError: always.
        """
        raise InputError("a server does not give its weights; load the run folder or the export itself")

    def predict(
        self, inputs: dict[str, np.ndarray], outputs: Sequence[str] = (), signature: str = "serving_default"
    ) -> Any:
        """Calls Predict and returns the response's outputs as protos; raises ServerError."""
        return self._call(inputs, outputs, signature).outputs

    def _call(self, inputs: dict[str, np.ndarray], outputs: Sequence[str], signature: str) -> Any:
        import grpc
        import tensorflow as tf
        from tensorflow_serving.apis import predict_pb2

        request = predict_pb2.PredictRequest(output_filter=outputs)
        request.model_spec.name = self.model_name
        request.model_spec.signature_name = signature
        for name, values in inputs.items():
            request.inputs[name].CopyFrom(tf.make_tensor_proto(values))
        try:
            return self.stub.Predict(request, timeout=self.timeout_s)
        except grpc.RpcError as error:
            raise ServerError(f"{self.address} answered {error.code().name}: {error.details()}") from None


def _words(tensor: Any) -> tuple[str, ...]:
    """The first row of an output of strings."""
    import tensorflow as tf

    return tuple(word.decode() for word in np.atleast_1d(tf.make_ndarray(tensor)[0]))
