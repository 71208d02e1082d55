"""Three lines from pictures and clips to a table of expressions."""

from __future__ import annotations

import math
import os
from typing import Any, Literal

from fer_tf.data.tta import TTA, TtaName
from fer_tf.errors import InputError, is_number, not_one_of
from fer_tf.faces.extractor import ExtractorOptions, FaceExtractor
from fer_tf.recognition.alignment import extractor_for
from fer_tf.recognition.answers import Network
from fer_tf.recognition.appearance import Describer
from fer_tf.recognition.augmented import augmented
from fer_tf.recognition.faces import Faces, RecognizeOptions
from fer_tf.recognition.given import MODES, GivenFaces
from fer_tf.recognition.looking import LookOptions
from fer_tf.recognition.networks import open_network
from fer_tf.recognition.owners import RELATIVE_TO, RelativeTo
from fer_tf.recognition.sources import sources_of


class Recognizer:
    """Finds the faces of pictures and clips and says which expressions they show.

    Example:
      from fer_tf import Recognizer

      recognize = Recognizer.load("pretrained")
      faces = recognize(["photo.jpg", "clip.mp4"])
      faces.table()

    Args:
      network: a way of asking; `load` makes one from a name, a folder or an address.
      extractor: finds and aligns the faces.
      unsure_below: the probability of the best expression below which an answer counts as unsure; 0 for never.

    Attributes:
      network: the way of asking.
      extractor: what finds and aligns the faces.
      unsure_below: as above.
    """

    def __init__(self, network: Network, extractor: FaceExtractor | GivenFaces, unsure_below: float = 0.0) -> None:
        self.network, self.extractor, self.unsure_below = network, extractor, unsure_below
        self._describe = Describer()

    @classmethod
    def load(
        cls,
        source: str | os.PathLike = "pretrained",
        *,
        faces: Literal["found", "given"] = "found",
        unsure_below: float = 0.0,
        tta: TtaName = "none",
        **options: Any,
    ) -> Recognizer:
        """Returns a recognizer; network and detector are loaded once, for any number of calls.

        Args:
          source: `pretrained` or `ferplus`, a run folder, an export's folder, a server's `host:port`, or several of
            them with a `+` between, such as `pretrained+runs/mine`, whose mean answer counts.
          faces: `found`, or `given` where each picture is a face that was cut out already.
          unsure_below: the probability of the best expression below which an answer counts as unsure; 0 for never.
          tta: test-time augmentation: `flip` asks about each face and its mirror image, `views` about three cuts of
            both, and the mean answer counts; the network takes two and six times as long.
          options: those of `fer_tf.faces.extractor.ExtractorOptions`, such as min_score=0.9; `subject`
            chooses among keyframes, and by default all faces count. `landmark_model` is the path of the predictor that
            aligned the network's training faces where that is not the packaged one.

        Raises:
          InputError: when the source is none of these, an option is unknown, or the network learned from faces aligned
            by another predictor.
          ServerError: when no server answers at the address.
        """
        if faces not in MODES:
            raise not_one_of("faces", faces, MODES)
        if tta not in TTA:
            raise not_one_of("tta", tta, TTA)
        known = ExtractorOptions.__dataclass_fields__
        for name in options:
            if name not in known:
                raise not_one_of("option", name, known)
        LookOptions(unsure_below=unsure_below)  # Refused before anything is loaded.
        chosen = ExtractorOptions(**{"subject": "all", **options})
        network: Network = open_network(source)
        try:
            network = augmented(network, tta)
            given = faces == "given"
            extractor = (
                GivenFaces(chosen, network.picture_share) if given else extractor_for(network.landmark_model, chosen)
            )
            return cls(network, extractor, unsure_below)
        except BaseException:
            network.close()
            raise

    def __call__(
        self,
        inputs: Any,
        *,
        frames_per_second: float | Literal["all"] = 5.0,
        keyframes: bool = False,
        smoothing: float = 0.4,
        head_pose: bool = False,
        eyes: bool = False,
        relative_to: RelativeTo = "nobody",
    ) -> Faces:
        """Returns the faces of some inputs; they are found while they are asked for.

        Args:
          inputs: one or a list of: paths of files, of folders, or patterns; uint8 RGB arrays (H, W, 3) or, for a clip,
            (N, H, W, 3); encoded bytes; Pillow images, of a moving one the frame at which it stands.
          frames_per_second: how many frames of a clip's second are looked at, or `all`.
          keyframes: whether a clip's keyframes are looked at instead, as a build keeps them, each alone.
          smoothing: time constant of the smoothing of a followed face's scores, seconds; 0 smooths nothing.
          head_pose: whether the table has yaw, pitch and roll, degrees.
          eyes: whether the table has the seven eye features of section 3.2.
          relative_to: whose other faces the table also compares an answer with: a clip's followed `person`, those of a
            `folder`, `all`, or `nobody`; see `Faces.relative`.

        Raises:
          InputError: for an input of another kind. What cannot be read or decoded is listed in `rejected`.
        """
        rate = math.inf if isinstance(frames_per_second, str) and frames_per_second == "all" else frames_per_second
        if not is_number(rate):
            raise InputError(f"`frames_per_second` must be a number or 'all'. Received: {frames_per_second!r}.")
        if self.extractor.options.subject != "all" and not keyframes:
            raise InputError(
                "`subject` chooses whose keyframes are kept: give keyframes=True too, or leave it out for all faces. "
                f"Received: {self.extractor.options.subject!r}."
            )
        if relative_to not in RELATIVE_TO:
            raise not_one_of("relative_to", relative_to, RELATIVE_TO)
        # In full precision: moments are counted by it.
        look = LookOptions(float(rate), smoothing, keyframes=keyframes, unsure_below=self.unsure_below)
        options = RecognizeOptions(look, head_pose, eyes, relative_to)
        return Faces(
            self.network, self.extractor, self._describe, sources_of(inputs, self.extractor.options.limits), options
        )

    def close(self) -> None:
        """Ends the decoder's process and the connection."""
        self.extractor.close()
        self.network.close()

    def __enter__(self) -> Recognizer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Recognizer by {self.network.name}: {', '.join(self.network.expressions)}>"
