"""Wrong images, for the mutated requests of `benchmarks/serving_fuzz.py` over gRPC and HTTP."""

from __future__ import annotations

import abc
import random
import struct
from typing import Generic, TypeVar

import cv2
import numpy as np

# What goes to the server.
Sent = TypeVar("Sent")


def picture(rng: random.Random) -> np.ndarray:
    return np.random.default_rng(rng.randrange(2**32)).integers(0, 255, (64, 64, 3), np.uint8)


def encode(image: np.ndarray, suffix: str) -> bytes:
    return cv2.imencode(suffix, image)[1].tobytes()


class WrongImages(abc.ABC, Generic[Sent]):
    """Makes requests with wrong images among good ones; how they are asked is the mutator's own."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.jpeg, self.png = (encode(picture(self.rng), suffix) for suffix in (".jpg", ".png"))

    def _image(self) -> bytes:
        return self.rng.choice((self.jpeg, self.png))

    @abc.abstractmethod
    def _among_good(self, bad: bytes) -> Sent:
        """Returns a request with a wrong image among good ones."""

    def damaged_image(self) -> Sent:
        data = bytearray(self._image())
        for _ in range(self.rng.choice((1, 3, 30))):
            data[self.rng.randrange(len(data))] = self.rng.randrange(256)
        return self._among_good(bytes(data))

    def cut_image(self) -> Sent:
        data = self._image()
        return self._among_good(data[: self.rng.randrange(len(data))])

    def random_bytes_as_image(self) -> Sent:
        start = self.rng.choice((b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM", b"RIFF"))
        return self._among_good(start + self.rng.randbytes(self.rng.randrange(2000)))

    def huge_claim(self) -> Sent:
        width, height = (self.rng.choice((0, 1, 20_000, 65_535, 2**31 - 1)) for _ in range(2))
        if self.rng.random() < 0.5:
            return self._among_good(self.png[:16] + struct.pack(">II", width, height) + self.png[24:])
        frame = self.jpeg.index(b"\xff\xc0") + 5
        claim = struct.pack(">HH", height % 65_536, width % 65_536)
        return self._among_good(self.jpeg[:frame] + claim + self.jpeg[frame + 4 :])
