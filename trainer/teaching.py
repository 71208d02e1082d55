"""A Fa-Net that learns from another one's answers too, against noisy labels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

LabelFn = Callable[[Any, Any], Any]


class Student(keras.Model):
    """A functional network whose training labels pass through a function in the step itself.

    The teacher then answers on the device that trains, for each replica's own faces.
    """

    # A function, because a network that was an attribute would count as part of this one.
    label_fn: LabelFn | None = None

    def train_step(self, batch: Any) -> dict[str, Any]:
        """One step of Keras on the faces and the labels that the function makes of them."""
        faces, labels, weights = keras.utils.unpack_x_y_sample_weight(batch)
        return super().train_step((faces, self.label_fn(faces, labels) if self.label_fn else labels, weights))


def student(model: keras.Model, teacher: keras.Model, weight: float, mirror: bool = False) -> Student:
    """Returns the network, with the same layers and weights, as one that `fit` teaches.

    A student of its own twin learns less of the wrong labels by heart (Furlanello et al. 2018, Born-Again Networks).

    Args:
      model: faces to logits, functional.
      teacher: faces to logits, made under the same strategy; faces of another size are resized to its own.
      weight: the teacher's share of a label, 0 to 1.
      mirror: whether it sees every other face mirrored. Over the epochs the student then learns the mean of its answers
        to a face and to the mirror image, which is right more often, for the price of one.
    """
    taught = Student(model.inputs, model.outputs[0], name=model.name)
    taught.label_fn = lambda faces, labels: mixed_labels(teacher, faces, labels, weight, mirror)
    return taught


def mixed_labels(teacher: keras.Model, faces: Any, labels: Any, weight: float, mirror: bool = False) -> Any:
    """Returns labels, float32 (B, num_classes), that are in part the teacher's answers to the faces; see `student`."""
    seen = tf.image.resize(faces, teacher.input_shape[1:3], antialias=True)
    if mirror:
        # By place in the batch and not drawn, so that a resumed run sees the same; batches are shuffled.
        even = tf.range(tf.shape(faces)[0]) % 2 == 0
        seen = tf.where(even[:, None, None, None], seen[:, :, ::-1], seen)
    # Of a class that the face's set does not have, the teacher says nothing either.
    known = labels >= 0
    logits = tf.where(known, tf.cast(teacher(seen, training=False), tf.float32), -1e9)
    return tf.where(known, (1.0 - weight) * labels + weight * tf.nn.softmax(logits), labels)
