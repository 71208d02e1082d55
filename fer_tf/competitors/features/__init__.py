"""Hand-crafted features, one file each: computed on all cores and kept between runs."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import logging
import os
import time

import numpy as np

from fer_tf import files
from fer_tf.errors import InputError

CHUNK = 256


def compute(name: str, images: np.ndarray, cache: str = "") -> np.ndarray:
    """Returns the features of faces, float32 (N, D).

    Args:
      name: a module of this package.
      images: uint8 (N, S, S), grey.
      cache: folder where they are kept under a hash of the pixels and the feature's version; empty keeps nothing.
    """
    module = importlib.import_module(f"{__name__}.{name}")
    if importlib.util.find_spec("skimage") is None:
        raise InputError(f"`method`: the feature {name!r} needs scikit-image; pip install .[competitors]")
    path = ""
    if cache:
        content = hashlib.sha256(np.ascontiguousarray(images).tobytes() + str(images.shape).encode()).hexdigest()[:16]
        path = files.join(cache, f"{name}-{module.VERSION}-{content}.npy")
        if files.exists(path):
            return files.read_array(path).astype(np.float32)
    started = time.monotonic()
    found = _on_all_cores(module.features, images)
    logging.info("%s of %d faces in %.1f s", name, len(images), time.monotonic() - started)
    if path:
        # Half the disk; a feature's third digit decides nothing.
        kept = found.astype(np.float16)
        files.write_array(path, kept)
        return kept.astype(np.float32)
    return found


def _on_all_cores(features: object, images: np.ndarray) -> np.ndarray:
    from joblib import Parallel, delayed

    chunks = [images[start : start + CHUNK] for start in range(0, len(images), CHUNK)]
    # Starting processes takes longer than a few chunks do.
    workers = min(os.cpu_count() or 1, len(chunks)) if len(chunks) > 4 else 1
    return np.concatenate(Parallel(n_jobs=workers)(delayed(features)(chunk) for chunk in chunks))
