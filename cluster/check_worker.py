"""Says whether a worker has all that it needs: `python -m cluster.check_worker CLIP`, with the network off.

The worker image's build runs it, so that an image that would download something never leaves the build.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from fer_tf.config import EXIT_FAILED, EXIT_OK, EXIT_USAGE, run_command
from fer_tf.faces.extractor import ExtractorOptions, FaceExtractor


def main(argv: Sequence[str] | None = None) -> int:
    """Extracts the faces of one clip; returns 1 when there is none."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if len(argv) != 1:
        print("usage: python -m cluster.check_worker CLIP", file=sys.stderr)
        return EXIT_USAGE
    # With one thread, as a build does: it is a worker that is checked.
    extractor = FaceExtractor(ExtractorOptions(max_keyframes=2, threads=1))
    try:
        faces = extractor.extract(argv[0]).faces
    finally:
        extractor.close()
    print(f"{len(faces)} faces by {extractor.detector} and {extractor.landmark_model}")
    return EXIT_OK if faces else EXIT_FAILED


if __name__ == "__main__":
    sys.exit(run_command(main))
