"""The exported module: from image bytes to calibrated probabilities, in stock TensorFlow ops only.

TensorFlow Serving has no Python, so everything that a request needs stands in the graph: the size check before an image
is unpacked, the decoding, the preprocessing of training, the network, the temperature, the label names, and a test
whether the picture is a face crop at all.
"""

from __future__ import annotations

import os
from typing import Any

import keras
import tensorflow as tf

from fer_tf.data.inputs import decode_image
from fer_tf.data.preprocess import preprocess
from fer_tf.data.schema import FaceRecord, key_of
from fer_tf.faces.mtcnn import face_windows, output_network, output_weights
from fer_tf.models.fa_net import FaNetSpec
from fer_tf.models.light_cnn import FEATURES_LAYER
from fer_tf.run_folder import GRAPH_FILE
from serving.image_headers import PNG_MAGIC

# A face crop is 256 x 256; a picture of 4 million pixels takes about 60 MB while it is prepared.
MAX_IMAGE_PIXELS = 2048 * 2048
TOP_K = 5
# The input that holds JPEG or PNG bytes, by which a server knows what to look at before it unpacks.
IMAGE_BYTES = "image_bytes"
# The input that holds unpacked pictures.
IMAGES = "images"
# How many images of a batch are unpacked at a time: bounds the memory that one request can take.
DECODE_PARALLELISM = 4
# Side of what MTCNN's last network looks at, pixels.
WINDOW = 48


def within_limit(shape: tf.Tensor) -> tf.Operation:
    """Returns the check that a picture's (height, width), int64, holds at most MAX_IMAGE_PIXELS.

    Raises:
      tf.errors.InvalidArgumentError: when it runs and there are more.
    """
    claim = ["image too large, limit", MAX_IMAGE_PIXELS, "pixels; height, width:", shape]
    return tf.debugging.Assert(tf.reduce_prod(shape) <= MAX_IMAGE_PIXELS, claim)


def bounded_image(encoded: tf.Tensor) -> tf.Tensor:
    """Returns a JPEG or PNG as uint8 (H, W, 3); its header is checked before anything is unpacked.

    Args:
      encoded: scalar string.

    Raises:
      tf.errors.InvalidArgumentError: when it is neither JPEG nor PNG, is damaged, or claims over MAX_IMAGE_PIXELS.
    """

    def png_shape() -> tf.Tensor:
        # IHDR comes first: width and height are big-endian 32-bit integers at byte 16.
        header = tf.cast(tf.io.decode_raw(tf.strings.substr(encoded, 16, 8), tf.uint8), tf.int64)
        factors = tf.constant([1 << 24, 1 << 16, 1 << 8, 1], tf.int64)
        width, height = tf.unstack(tf.reduce_sum(tf.reshape(header, (2, 4)) * factors, axis=1))
        return tf.stack([height, width])

    def jpeg_shape() -> tf.Tensor:
        return tf.io.extract_jpeg_shape(encoded, tf.int64)[:2]

    shape = tf.cond(tf.equal(tf.strings.substr(encoded, 0, 8), PNG_MAGIC), png_shape, jpeg_shape)
    with tf.control_dependencies([within_limit(shape)]):
        return decode_image(tf.identity(encoded))


def windows(images: tf.Tensor) -> tf.Tensor:
    """Whole pictures, uint8 (B, H, W, 3), as MTCNN's last network looks at a box, float32 (B, 48, 48, 3).

    That network learned to tell boxes that a face fills from boxes beside, around or inside a face, and a picture that
    holds a face somewhere is such a box around it.
    """
    count = tf.shape(images)[0]
    whole = tf.repeat([[0.0, 0.0, 1.0, 1.0]], count, axis=0)
    return face_windows(images, whole, tf.range(count))


class FaNetModule(tf.Module):
    """Fa-Net with its four signatures."""

    def __init__(self, model: keras.Model, spec: FaNetSpec, top_k: int = TOP_K) -> None:
        super().__init__(name="fa_net")
        self.trunk = keras.Model(model.inputs, [model.get_layer(FEATURES_LAYER).output, model.outputs[0]])
        self._spec = spec
        self._top_k = min(top_k, spec.num_classes)
        self.labels = tf.constant(spec.expressions)
        self.landmark_model = tf.constant(spec.landmark_model)
        self.picture_share = tf.constant(spec.picture_share, tf.float32)
        # Variables are stored once; constants would stand in the graph of each signature.
        self._detector = [tf.Variable(values, trainable=False) for values in output_weights()]

    def prepare_encoded(self, image_bytes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """JPEG or PNG bytes, string (B,), to the network's input, float32 (B, S, S, C), and `windows`."""

        def prepare(encoded: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            image = bounded_image(encoded)[None]
            return self.prepare(image)[0], windows(image)[0]

        size, channels = self._spec.image_size, self._spec.channels
        return tf.map_fn(
            prepare,
            image_bytes,
            parallel_iterations=DECODE_PARALLELISM,
            fn_output_signature=(
                tf.TensorSpec((size, size, channels), tf.float32),
                tf.TensorSpec((WINDOW, WINDOW, 3), tf.float32),
            ),
        )

    def prepare(self, images: tf.Tensor) -> tf.Tensor:
        """uint8 (B, H, W, 3) to the network's input, float32 (B, S, S, C)."""
        return preprocess(images, self._spec.image_size, self._spec.channels, self._spec.served_crop)

    def described(self, faces: tf.Tensor, whole: tf.Tensor) -> dict[str, tf.Tensor]:
        """What `scores` says, and how probable it is that each picture is a face crop, float32 (B,)."""
        return {**self.scores(faces), "is_face": output_network(whole, self._detector)[2]}

    def scores(self, faces: tf.Tensor) -> dict[str, tf.Tensor]:
        """Calibrated probabilities and the best labels of the network's input."""
        _, logits = self.trunk(faces, training=False)
        probabilities = tf.nn.softmax(tf.cast(logits, tf.float32) / self._spec.temperature)
        best, ids = tf.math.top_k(probabilities, self._top_k)
        # A server that batches splits every output by rows, so the names come once per row.
        count = tf.shape(probabilities)[0]
        names = tf.repeat(self.labels[None], count, axis=0)
        return {
            "probabilities": probabilities,
            "class_names": names,
            "labels": tf.gather(self.labels, ids),
            "scores": best,
            # Whoever finds the faces can see how the network's training faces were aligned and cut.
            "landmark_model": tf.repeat(self.landmark_model[None], count),
            "picture_share": tf.repeat(self.picture_share[None], count),
        }

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name=IMAGE_BYTES)], autograph=False)
    def predict_bytes(self, image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        return self.described(*self.prepare_encoded(image_bytes))

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8, name=IMAGES)], autograph=False)
    def predict_images(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        with tf.control_dependencies([within_limit(tf.shape(images, tf.int64)[1:3])]):
            images = tf.identity(images)
            return self.described(self.prepare(images), windows(images))

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name=IMAGE_BYTES)], autograph=False)
    def embed(self, image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        features, _ = self.trunk(self.prepare_encoded(image_bytes)[0], training=False)
        return {"features": tf.cast(features, tf.float32)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="inputs")], autograph=False)
    def classify(self, inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        key = key_of(FaceRecord, "image")
        parsed = tf.io.parse_example(inputs, {key: tf.io.FixedLenFeature([], tf.string)})
        answer = self.scores(self.prepare_encoded(parsed[key])[0])
        return {"classes": answer["labels"], "scores": answer["scores"]}

    def signatures(self) -> dict[str, Any]:
        """The signatures by the names under which they are served."""
        return {
            "serving_default": self.predict_bytes,
            "predict_images": self.predict_images,
            "embed": self.embed,
            "classify": self.classify,
        }


def save(module: FaNetModule, folder: str) -> None:
    """Writes the SavedModel, with the method name that the Classify call asks for."""
    from tensorflow.core.protobuf import saved_model_pb2

    tf.saved_model.save(module, folder, signatures=module.signatures())
    path = os.path.join(folder, GRAPH_FILE)
    with open(path, "rb") as file:
        saved_model = saved_model_pb2.SavedModel.FromString(file.read())
    for graph in saved_model.meta_graphs:
        graph.signature_def["classify"].method_name = tf.compat.v1.saved_model.CLASSIFY_METHOD_NAME
    with open(path, "wb") as file:
        file.write(saved_model.SerializeToString(deterministic=True))
