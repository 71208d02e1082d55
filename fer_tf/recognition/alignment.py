"""The extractor whose faces are aligned as those were that the network learned from."""

from __future__ import annotations

import dataclasses
import logging

from fer_tf.errors import InputError
from fer_tf.faces.extractor import ExtractorOptions, FaceExtractor
from fer_tf.faces.landmarks import LandmarkPredictor

_LOGGER = logging.getLogger(__name__)

# As `landmark_model`: the packaged predictor, whatever the network names.
PACKAGED = "packaged"
# What a network says that learned from pictures which no predictor aligned, or whose export is too old to say.
UNKNOWN = ("none", "")


def extractor_for(landmark_model: str, options: ExtractorOptions) -> FaceExtractor:
    """Returns an extractor that aligns faces for a network.

    Args:
      landmark_model: what aligned the faces that the network learned from.
      options: how clips become faces; their `landmark_model` may also be `packaged`.

    Raises:
      InputError: when the network learned from another predictor's faces and none was chosen.
    """
    extractor = FaceExtractor(resolved(options))
    compare(landmark_model, extractor.landmark_model, options.landmark_model)
    return extractor


def check(landmark_model: str, options: ExtractorOptions) -> None:
    """Raises InputError when `extractor_for` would; loads the predictor alone."""
    compare(landmark_model, LandmarkPredictor(resolved(options).landmark_model).name, options.landmark_model)


def resolved(options: ExtractorOptions) -> ExtractorOptions:
    """Returns the options with an empty `landmark_model` for the packaged one."""
    return dataclasses.replace(options, landmark_model="") if options.landmark_model == PACKAGED else options


def compare(learned_from: str, used: str, chosen: str) -> None:
    """Compares the predictor that a network names with the one that will align its faces.

    Args:
      learned_from: the name that the network gives; several with commas between.
      used: the name of the predictor at hand.
      chosen: the path that the user gave; empty when none was, and then the two must be the same.

    Raises:
      InputError: when they differ and the user chose none.
    """
    names = [_file_of(name) for name in learned_from.split(", ")]
    if learned_from in UNKNOWN or _file_of(used) in names:
        return
    if chosen:
        _LOGGER.warning(
            "the network learned from faces aligned by %s and gets faces aligned by %s, as `landmark_model` says",
            learned_from,
            used,
        )
        return
    raise InputError(
        f"the network learned from faces aligned by {learned_from!r}; `landmark_model` stands for {used!r}. Give the "
        f"path of that predictor with --landmark_model, or --landmark_model={PACKAGED} to go on with the packaged one."
    )


def _file_of(name: str) -> str:
    """A predictor's name without dlib's version, which does not move the points."""
    return name.split(" (dlib ", 1)[0]
