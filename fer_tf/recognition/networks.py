"""Asking a Fa-Net in this process: from a run folder's weights, or through an exported SavedModel.

Both see each face as the JPEG that a server would get, so that the three ways give the same answer.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from fer_tf import files
from fer_tf.errors import InputError
from fer_tf.filesystems import as_local
from fer_tf.models.fa_net import picture_share
from fer_tf.recognition.answers import Answer, OneView, encode_face
from fer_tf.recognition.joined import JoinedNetwork
from fer_tf.run_folder import GRAPH_FILE, PLUS, NetworkFolder, network_folder, parts_of

# Beside an exported graph: what reads a version without running it finds everything here.
EXTRA = "assets.extra"
MODEL_FILE = f"{EXTRA}/model.json"
WEIGHTS_DIR = f"{EXTRA}/fa_net"
# Most faces that the network takes at once.
BATCH = 32
# Requests name a version by an int64.
MAX_VERSION = 2**63 - 1
# A web address is no folder, and a server's has no scheme.
_WEB = ("http://", "https://")
_ADDRESS = re.compile(r"(\[[0-9a-fA-F:]+\]|[\w.-]+):\d{1,5}")


def open_network(source: str | os.PathLike) -> OneView:
    """Returns the way of asking that a name, a folder or an address means.

    Args:
      source: `pretrained`, a run folder or its `fa_net`, an export's folder or one version's, a server's `host:port`,
        or several of them with a `+` between, whose mean answer counts (see `fer_tf.recognition.joined`). Folders lie
        on any filesystem that TensorFlow and Beam know.

    Raises:
      InputError: when it is none of these.
      ServerError: when no server answers at the address.
    """
    if not isinstance(source, (str, os.PathLike)):
        raise InputError(f"`source` must be a name, a path or an address. Received: {source!r}.")
    parts = [as_local(part) for part in parts_of(as_local(os.fspath(source)))]
    if len(parts) > 1:
        return _joined(parts)
    with _readable(parts[0]):
        return _open_one(parts[0])


def _open_one(source: str) -> OneView:
    if _has_fa_net(source):
        return LiveNetwork(network_folder(source))
    if version_dir := newest_version(source):
        return ExportedNetwork(version_dir)
    if _ADDRESS.fullmatch(source) and not os.path.isdir(source):
        from fer_tf.recognition.server import Connection

        connection = Connection(source)
        try:
            connection.wait()
        except BaseException:
            connection.close()
            raise
        return connection
    raise InputError(
        "`source` (of a command: --model) must be 'pretrained', 'ferplus', a run folder (with spec.json or "
        "fa_net/spec.json), the folder of an export by `python -m serving.export` (with numbered versions), a server's "
        f"host:port, or several of them with + between. Received: {source!r}."
    )


def _joined(sources: Sequence[str]) -> JoinedNetwork:
    with contextlib.ExitStack() as opened:
        networks = [opened.enter_context(contextlib.closing(open_network(source))) for source in sources]
        joined = JoinedNetwork(networks)
        opened.pop_all()
        return joined


def version_number(name: str) -> int | None:
    """Returns the version that a folder's name says; None when it says none, or one that no request can name."""
    is_number = name.isascii() and name.isdigit() and len(name) <= len(str(MAX_VERSION))
    return int(name) if is_number and int(name) <= MAX_VERSION else None


def newest_version(source: str) -> str:
    """Returns the folder of an export's newest version, or the folder itself when it is one; empty when neither."""
    if source.startswith(_WEB):
        return ""
    if files.exists(files.join(source, GRAPH_FILE)):
        return source
    folders = [path.rsplit("/", 1)[0] for path in files.matching(source, f"*/{GRAPH_FILE}")]
    named = {version_number(folder.rsplit("/", 1)[1]): folder for folder in folders}
    found = {number: folder for number, folder in named.items() if number is not None}
    return found[max(found)] if found else ""


def pinned(source: str) -> str:
    """Returns a source with the newest version of an export in the place of its folder, and the rest as it is."""
    return PLUS.join(_pinned(part) for part in parts_of(source))


def _pinned(source: str) -> str:
    with _readable(source):
        return source if _has_fa_net(source) else newest_version(source) or source


def landmark_model_of(source: str) -> str:
    """Returns what aligned the faces that a source's network learned from; raises as `open_network` does."""
    if len(parts_of(source)) == 1 and (version_dir := _pinned(source)) == newest_version(source):
        # A graph need not be loaded for it.
        return spec_of(version_dir).get("landmark_model", "")
    with contextlib.closing(open_network(source)) as network:
        return network.landmark_model


@contextlib.contextmanager
def _readable(source: str) -> Iterator[None]:
    """Names the source where a file system does not answer, or is not known."""
    try:
        yield
    except OSError as error:
        raise InputError(f"`source` (of a command: --model) {source!r} cannot be read: {error}") from None


def _has_fa_net(source: str) -> bool:
    return not source.startswith(_WEB) and NetworkFolder(network_folder(source)).has_spec


class LiveNetwork:
    """A Fa-Net's weights, run here.

    Args:
      folder: holds spec.json and the weights.
    """

    def __init__(self, folder: str) -> None:
        import keras
        import tensorflow as tf

        from fer_tf.data.preprocess import preprocess
        from fer_tf.models import fa_net
        from fer_tf.models.light_cnn import FEATURES_LAYER

        self.name = folder
        self._model, self._spec = fa_net.load(folder)
        self.expressions, self.landmark_model = self._spec.expressions, self._spec.landmark_model
        self.picture_share = self._spec.picture_share
        trunk = keras.Model(self._model.inputs, [self._model.get_layer(FEATURES_LAYER).output, self._model.outputs[0]])

        @tf.function(input_signature=[tf.TensorSpec((None, None, None, 3), tf.uint8)], autograph=False)
        def run(faces: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            prepared = preprocess(faces, self._spec.image_size, self._spec.channels, self._spec.served_crop)
            features, logits = trunk(prepared, training=False)
            return features, tf.nn.softmax(tf.cast(logits, tf.float32) / self._spec.temperature)

        self._run = run

    def classify(self, faces: Sequence[np.ndarray]) -> list[Answer]:
        """Returns an answer for each aligned face, uint8 (H, W, 3) RGB."""
        return self.classify_encoded([encode_face(face) for face in faces])

    def classify_encoded(self, faces: Sequence[bytes]) -> list[Answer]:
        """Returns an answer for each JPEG or PNG."""
        return [Answer(self.expressions, row) for row in self._outputs(faces, 1, len(self.expressions))]

    def embed(self, faces: Sequence[np.ndarray]) -> np.ndarray:
        """Returns the 256 features of each aligned face, float32 (N, 256)."""
        from fer_tf.models.light_cnn import FEATURE_SIZE

        return self._outputs([encode_face(face) for face in faces], 0, FEATURE_SIZE)

    def _outputs(self, faces: Sequence[bytes], which: int, width: int) -> np.ndarray:
        import tensorflow as tf

        from fer_tf.data.inputs import decode_image

        # The graph's own decoder, as in an export: another library's differs by a grey level here and there.
        pictures = [decode_image(face) for face in faces]
        rows = [np.zeros((0, width), np.float32)]
        for batch in _equally_large(pictures):
            rows.append(np.asarray(self._run(tf.stack(batch))[which], np.float32))
        return np.concatenate(rows)

    def live(self) -> tuple[Any, Any]:
        """Returns the Keras model and its FaNetSpec."""
        return self._model, self._spec

    def close(self) -> None:
        """Nothing to let go of."""


class ExportedNetwork:
    """An exported Fa-Net, run here as TensorFlow Serving would.

    Args:
      version_dir: one version's folder, on any filesystem that TensorFlow reads.
    """

    def __init__(self, version_dir: str) -> None:
        import tensorflow as tf

        self.name = self._dir = version_dir.rstrip("/")
        self._signatures = tf.saved_model.load(version_dir).signatures
        about = spec_of(version_dir)
        self.landmark_model = about.get("landmark_model", "")
        self.picture_share = picture_share(about.get("crop", 1.0), about.get("aligned_crop", 0.0))
        number = os.path.basename(self.name)
        self._version = int(number) if number.isdigit() else 0

    @cached_property
    def expressions(self) -> tuple[str, ...]:
        """The label names; they stand in the graph."""
        return self.classify([np.full((8, 8, 3), 127, np.uint8)])[0].expressions

    def classify(self, faces: Sequence[np.ndarray]) -> list[Answer]:
        """Returns an answer for each aligned face, uint8 (H, W, 3) RGB."""
        return self.classify_encoded([encode_face(face) for face in faces])

    def classify_encoded(self, faces: Sequence[bytes]) -> list[Answer]:
        """Returns an answer for each JPEG or PNG."""
        answers = []
        for outputs in self._ask("serving_default", faces):
            names = tuple(name.decode() for name in outputs["class_names"].numpy()[0])
            rows = outputs["probabilities"].numpy()
            # An older export does not say.
            faces_seen = outputs["is_face"].numpy().tolist() if "is_face" in outputs else [None] * len(rows)
            answers += [
                Answer(names, row, self._version, is_face=seen) for row, seen in zip(rows, faces_seen, strict=True)
            ]
        return answers

    def embed(self, faces: Sequence[np.ndarray]) -> np.ndarray:
        """Returns the 256 features of each aligned face, float32 (N, 256)."""
        from fer_tf.models.light_cnn import FEATURE_SIZE

        outputs = self._ask("embed", [encode_face(face) for face in faces])
        return np.concatenate([np.zeros((0, FEATURE_SIZE), np.float32), *(found["features"] for found in outputs)])

    def _ask(self, signature: str, faces: Sequence[bytes]) -> list[dict[str, Any]]:
        import tensorflow as tf

        run = self._signatures[signature]
        return [
            run(image_bytes=tf.constant(list(faces[start : start + BATCH]))) for start in range(0, len(faces), BATCH)
        ]

    def live(self) -> tuple[Any, Any]:
        """Returns the Keras model and its FaNetSpec, from the weights that travel with the export."""
        from fer_tf.models import fa_net

        return fa_net.load(f"{self._dir}/{WEIGHTS_DIR}")

    def close(self) -> None:
        """Nothing to let go of."""


def spec_of(version_dir: str) -> dict[str, Any]:
    """Returns what an exported network's spec says; empty when the export is too old to have one."""
    path = files.join(version_dir, MODEL_FILE)
    return files.read_json(path).get("spec", {}) if files.exists(path) else {}


def _equally_large(pictures: Sequence[Any]) -> list[list[Any]]:
    """Groups neighbours of one size, at most BATCH together."""
    groups: list[list[Any]] = []
    for picture in pictures:
        if not groups or len(groups[-1]) == BATCH or groups[-1][0].shape != picture.shape:
            groups.append([])
        groups[-1].append(picture)
    return groups
