"""Facial expression recognition over many poses: faces, data, models and evaluation.

`import fer_tf` is instant: TensorFlow, OpenCV and dlib are imported where they are used.

Example:
  from fer_tf import Recognizer

  recognize = Recognizer.load("pretrained")
  recognize(["photo.jpg", "clip.mp4"]).table()
"""

from __future__ import annotations

import importlib
from typing import Any

__all__ = ["Recognizer", "__version__"]

__version__ = "0.2.0"


def __getattr__(name: str) -> Any:
    if name == "Recognizer":
        start_up = importlib.import_module("fer_tf.start_up")
        start_up.ask_for_onednn()
        # In a notebook too, a user's own output stays alone.
        start_up.quiet()
        # By its name: the library's front door is no part of what it opens on.
        return importlib.import_module("fer_tf.recognition.recognizer").Recognizer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
