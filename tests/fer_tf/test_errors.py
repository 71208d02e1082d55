"""The checks that every command's flags share."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from beam_pipelines.build import BuildConfig
from fer_tf.errors import InputError, check_least, check_port
from fer_tf.faces.extractor import ExtractorOptions
from serving.config import ServerConfig
from serving.demo import DemoConfig


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (0, "`gan_steps` must be at least 1. Received: 0."),
        (0.5, "`gan_steps` must be at least 1. Received: 0.5."),
        (float("nan"), "`gan_steps` must be a finite number of at least 1. Received: nan."),
        (float("inf"), "`gan_steps` must be a finite number of at least 1. Received: inf."),
    ],
)
def test_a_number_below_the_least_is_refused_by_the_flags_name(given: float, message: str) -> None:
    with pytest.raises(InputError) as error:
        check_least(SimpleNamespace(seed=0, steps=given), "gan_", seed=0, steps=1)
    assert str(error.value) == message


def test_the_least_number_passes_and_so_does_one_that_no_float_can_hold() -> None:
    check_least(SimpleNamespace(steps=1, bytes=10**400), steps=1, bytes=1)


@pytest.mark.parametrize("given", [0.0, -1.0, float("nan"), float("inf")])
@pytest.mark.parametrize(
    ("options", "name"),
    [
        (ExtractorOptions, "decode_timeout_s"),
        (BuildConfig, "progress_s"),
        (ServerConfig, "file_system_poll_wait_seconds"),
        (DemoConfig, "max_seconds"),
    ],
)
def test_a_time_that_nobody_can_wait_is_refused(options: type, name: str, given: float) -> None:
    with pytest.raises(InputError, match=rf"`{name}` must be a finite number of more than 0\. Received: {given}\."):
        options(**{name: given})
    assert getattr(options(**{name: 1e10}), name) == 1e10


def test_a_port_lies_in_its_range() -> None:
    for port, least in ((0, 0), (65535, 0), (-1, -1)):
        check_port("port", port, least)
    for port, least in ((-1, 0), (65536, 0), (-2, -1)):
        with pytest.raises(InputError, match=rf"`port` must be a port number\. Received: {port}\."):
            check_port("port", port, least)
