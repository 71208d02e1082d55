"""What judging a clip's frames costs beside decoding them: `python -m benchmarks.decoding CLIP...`, CPU seconds."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Sequence

import av

from fer_tf.faces import media
from fer_tf.faces.decoder import Judge


def decode(path: str) -> int:
    """Decodes a clip as FFmpeg does on one thread and returns its number of frames."""
    with av.open(path) as container:
        container.streams.video[0].codec_context.thread_count = 1
        return sum(1 for _ in container.decode(video=0))


def judge(path: str) -> int:
    """Decodes a clip and collects what the keyframe rules need."""
    judged = Judge()
    with contextlib.closing(media.open(path)) as clip:
        for seen in clip.frames():
            judged.add(seen.time, seen.grey())
    return len(judged.stats())


def main(paths: Sequence[str]) -> int:
    """Prints a line a clip and the sum."""
    total = {decode: 0.0, judge: 0.0}
    for path in paths:
        spent = {}
        for work in total:
            start = time.process_time()
            frames = work(path)
            spent[work] = time.process_time() - start
            total[work] += spent[work]
        print(f"{path}: {frames} frames, decoded {spent[decode]:.2f} s, decoded and judged {spent[judge]:.2f} s")
    print(f"all: {total[decode]:.2f} s and {total[judge]:.2f} s, {total[judge] / max(total[decode], 1e-9):.2f} times")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
