"""The number format that layers compute in."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator


@contextlib.contextmanager
def dtype_policy(name: str) -> Iterator[None]:
    """Builds layers in a number format, and leaves the process-wide one as it was.

    Args:
      name: of a Keras policy: `float32`, `mixed_bfloat16` or `mixed_float16`.
    """
    import keras

    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
