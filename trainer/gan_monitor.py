"""How good FaPE-GAN's faces are while it trains: numbers and pictures of the same held-out pairs, epoch after epoch."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from fer_tf import files
from fer_tf.data.pairs import PairStream
from fer_tf.data.preprocess import preprocess
from fer_tf.evaluation import face_quality
from fer_tf.models import fa_net
from fer_tf.models.fape_gan import FapeGan
from fer_tf.models.light_cnn import FEATURES_LAYER
from fer_tf.run_folder import RunFolder
from fer_tf.synthesis.judge import SAME_PERSON, FaceMeter, to_uint8
from trainer import runtime

PICTURES = 8
# The generated faces differ this much less from each other than the real ones when the generator has collapsed.
COLLAPSE_SPREAD = 0.1
COLLAPSE_EPOCHS = 3


class HeldOut:
    """Pairs of the validation part with what is needed to measure the faces that a generator makes of them.

    Args:
      stream: the pairs of the validation part.
      limit: how many of them at most, mixed; there must be at least one.
      landmark_model: path of the dlib predictor that made the data; empty for the packaged one.
    """

    def __init__(self, stream: PairStream, limit: int, landmark_model: str = "") -> None:
        self._batch_size = stream.batch_size
        self._meter = FaceMeter(landmark_model)
        batches = list(stream.in_order(limit).as_numpy_iterator())
        self.pairs = {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}
        self._identities = self._meter.descriptors(self.pairs.pop("source_face"), self.pairs["source_landmarks"])

    def __len__(self) -> int:
        return len(self._identities)

    def generate(self, gan: FapeGan) -> np.ndarray:
        """Returns the held-out faces made by the averaged generator, uint8 (N, S, S, 3)."""
        generator = gan.averaged_generator()
        made = []
        for start in range(0, len(self), self._batch_size):
            part = slice(start, start + self._batch_size)
            made.append(generator([self.pairs["source"][part], self.pairs["mask"][part]], training=False))
        return to_uint8(np.concatenate(made))

    def measure(self, generated: np.ndarray) -> dict[str, float]:
        """Returns L1, SSIM, spread, landmark error and identity of generated held-out faces."""
        targets = to_uint8(self.pairs["target"])
        measures = self._meter.measure(self._identities, generated, self.pairs["target_landmarks"])
        distances = np.array([measure.identity_distance for measure in measures])
        return {
            "held_out_l1": face_quality.l1(targets, generated),
            "held_out_ssim": face_quality.ssim(targets, generated),
            "held_out_spread": face_quality.spread(generated) / max(face_quality.spread(targets), 1e-6),
            "held_out_face_found": float(np.mean([measure.found for measure in measures])),
            "held_out_landmark_error": float(np.mean([measure.landmark_error for measure in measures])),
            "held_out_identity_distance": float(distances.mean()),
            "held_out_identity_kept": float(np.mean(distances <= SAME_PERSON)),
        }

    def reference(self) -> dict[str, float]:
        """Returns the same numbers for the real targets at FaPE-GAN's image size: what no generator can beat."""
        return self.measure(to_uint8(self.pairs["target"]))

    def frechet(self, generated: np.ndarray, folder: str) -> float:
        """Returns the Fréchet distance of generated held-out faces to the real targets on a Fa-Net's features.

        Args:
          generated: what `generate` gave.
          folder: a folder with a Fa-Net.
        """
        model, spec = fa_net.load(folder)
        features = keras.Model(model.inputs, model.get_layer(FEATURES_LAYER).output)

        def of(faces: np.ndarray) -> np.ndarray:
            window = spec.window(aligned=True)
            return features.predict(preprocess(faces, spec.image_size, spec.channels, window), verbose=0)

        return face_quality.frechet(of(to_uint8(self.pairs["target"])), of(generated))


class Monitor:
    """Measures and draws the same held-out pairs after each epoch.

    Args:
      run: the run folder.
      held_out: the pairs; None measures and draws nothing.
    """

    def __init__(self, run: RunFolder, held_out: HeldOut | None) -> None:
        self._held_out = held_out
        self._folder = run.gan
        self._writer = tf.summary.create_file_writer(files.join(runtime.tensorboard_dir(run), "fape_gan"))

    def after_epoch(self, gan: FapeGan, epoch: int) -> dict[str, float]:
        """Returns the numbers of the held-out faces and draws them."""
        if self._held_out is None:
            return {}
        generated = self._held_out.generate(gan)
        self._draw(generated, epoch)
        return self._held_out.measure(generated)

    def _draw(self, generated: np.ndarray, epoch: int) -> None:
        """Writes a picture, one row a pair: source, mask, generated, target."""
        rows = min(PICTURES, len(generated))
        masks = np.repeat((self._held_out.pairs["mask"][:rows] * 255).astype(np.uint8), 3, axis=-1)
        columns = [to_uint8(self._held_out.pairs["source"][:rows]), masks, generated[:rows]]
        columns.append(to_uint8(self._held_out.pairs["target"][:rows]))
        picture = np.concatenate([np.concatenate(list(column), axis=0) for column in columns], axis=1)
        self._folder.write_sample(epoch + 1, tf.io.encode_png(picture).numpy())
        with self._writer.as_default(epoch + 1):
            tf.summary.image("held_out/source_mask_generated_target", picture[None])

    def log(self, entry: dict[str, Any], step: int) -> None:
        """Writes an epoch's numbers to TensorBoard."""
        with self._writer.as_default(step):
            for name, value in entry.items():
                if isinstance(value, float):
                    group = "held_out/" if name.startswith("held_out_") else "train/"
                    tf.summary.scalar(group + name.removeprefix("held_out_"), value)
        self._writer.flush()

    def stop_if_collapsed(self, history: list[dict[str, Any]]) -> None:
        """Raises TrainingFailed when the generator has given nearly one face for several epochs."""
        last = [entry.get("held_out_spread", 1.0) for entry in history[-COLLAPSE_EPOCHS:]]
        if len(last) == COLLAPSE_EPOCHS and max(last) < COLLAPSE_SPREAD:
            raise runtime.TrainingFailed(
                f"FaPE-GAN collapsed: for {COLLAPSE_EPOCHS} epochs its faces differ by {last[-1]:.1%} of what real"
                " faces do. Begin anew in another --run_dir with another --seed, a larger --gan_batch_size or"
                " --gan_recipe=best."
            )
