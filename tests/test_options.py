"""The same options mean the same in every command: their defaults stand in one place."""

from __future__ import annotations

import dataclasses

import pytest

from beam_pipelines.build import BuildConfig
from beam_pipelines.predict import PredictConfig
from fer_tf import config
from fer_tf.errors import InputError
from fer_tf.faces.extractor import ExtractorOptions
from serving.client import ClientConfig
from serving.demo import DemoConfig

# What a command means otherwise, on purpose: one thread for each of a pipeline's workers, and everybody in a picture.
OWN = {BuildConfig: {"threads": 1}, PredictConfig: {"threads": 1, "subject": "all"}, ClientConfig: {}, DemoConfig: {}}


@pytest.mark.parametrize("command", OWN)
def test_faces_are_found_alike_in_every_command(command: type) -> None:
    inputs = {"inputs": ["a.jpg"]} if command is ClientConfig else {}
    made = config.of(command, **inputs)
    assert made.faces == dataclasses.replace(ExtractorOptions(), **OWN[command])
    chosen = config.replace(made, min_score=0.5, max_side=800, max_pixels=1000)
    assert (chosen.faces.min_score, chosen.faces.max_side, chosen.faces.max_pixels) == (0.5, 800, 1000)


def test_a_client_has_no_flags_that_do_nothing_there() -> None:
    with pytest.raises(InputError, match="'max_keyframes'"):
        config.of(ClientConfig, inputs=["a.jpg"], max_keyframes=3)


def test_a_build_is_about_one_person_a_clip() -> None:
    with pytest.raises(InputError, match=r"`subject` must be one of .*'largest'\). Received: 'all'"):
        config.of(BuildConfig, subject="all")
