"""What face extraction costs, against the loop that a user would write today.

taskset -c 0 python -m benchmarks.extraction --part=speed     # faces a second and recall, on one core
python -m benchmarks.extraction --part=boxes                  # what converting MTCNN's boxes for dlib helps
python -m benchmarks.extraction --part=memory                 # peak memory against a clip's length
"""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fer_tf.config import parse, run_command
from fer_tf.errors import InputError, not_one_of

PARTS = ("all", "speed", "boxes", "memory")
SPEED_CLIPS = 24
VIDEO_SUFFIXES = (".mp4", ".mov", ".avi", ".mkv", ".webm")


@dataclass(frozen=True)
class BenchmarkConfig:
    """Measures face extraction.

    Attributes:
      part: all, speed, boxes or memory.
      videos: a folder of clips, searched in depth, or one clip.
      clips: how many of the clips to use, spread evenly over the folder; 0 for all. Left out, speed takes 24 and boxes
        all.
      repeats: how often each side runs, in turn.
      keyframe_rule: which frames both sides work on: apex, motion or uniform.
    """

    part: str = "all"
    videos: str = "samples"
    clips: int | None = None
    repeats: int = 3
    keyframe_rule: str = "apex"

    def __post_init__(self) -> None:
        if self.part not in PARTS:
            raise not_one_of("part", self.part, PARTS)


def clips_of(config: BenchmarkConfig, default: int = 0) -> list[str]:
    """Returns the clips to use, `default` of them (0 for all) when the flag is left out.

    Raises:
      InputError: when there is none.
    """
    count = default if config.clips is None else config.clips
    root = Path(config.videos)
    paths = [root] if root.is_file() else sorted(p for p in root.rglob("*") if p.suffix.lower() in VIDEO_SUFFIXES)
    if not paths:
        raise InputError(f"`videos` must hold at least one clip. Received: {config.videos!r}.")
    step = len(paths) / count if 0 < count < len(paths) else 1
    return [str(paths[int(number * step)]) for number in range(min(count or len(paths), len(paths)))]


class Loop:
    """The loop of a user: OpenCV decodes, MTCNN and dlib look at each wanted frame, the face is warped and coded."""

    def __init__(self) -> None:
        import dlib
        from mtcnn import MTCNN

        from fer_tf.faces.landmarks import packaged_model

        self._mtcnn = MTCNN()
        self._predictor = dlib.shape_predictor(packaged_model())
        self._rectangle = dlib.rectangle
        self.seconds_in_mtcnn = 0.0

    def run(self, path: str, wanted: set[int]) -> dict[int, np.ndarray]:
        """Returns the boxes (n, 4) of each wanted frame, largest first."""
        import cv2

        found, number, capture = {}, 0, cv2.VideoCapture(path)
        while True:
            good, bgr = capture.read()
            if not good:
                capture.release()
                return found
            if number in wanted:
                found[number] = self._frame(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB))
            number += 1

    def _frame(self, rgb: np.ndarray) -> np.ndarray:
        from fer_tf.faces import align, media

        start = cpu_seconds()
        faces = self._mtcnn.detect_faces(rgb)
        self.seconds_in_mtcnn += cpu_seconds() - start
        faces.sort(key=lambda face: -face["box"][2] * face["box"][3])
        if faces:
            x, y, width, height = (int(v) for v in faces[0]["box"])
            parts = self._predictor(rgb, self._rectangle(x, y, x + width, y + height)).parts()
            points = np.array([(point.x, point.y) for point in parts], np.float32)
            media.encode_jpeg(align.warp(rgb, align.transform_of(points)))
        return np.array([face["box"] for face in faces], float).reshape(-1, 4)


def cpu_seconds(pid: int | None = None) -> float:
    """CPU time of this process, or of another; other programs on the machine do not distort it."""
    if pid is None:
        return time.process_time()
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def speed(config: BenchmarkConfig) -> None:
    """Prints faces a second of both sides and the share of the loop's faces that ours finds."""
    from fer_tf.faces import media
    from fer_tf.faces.extractor import ExtractorOptions, FaceExtractor

    paths = clips_of(config, SPEED_CLIPS)
    loop = Loop()
    ours = FaceExtractor(ExtractorOptions(keyframe_rule=config.keyframe_rule, threads=1))
    results = {path: ours.extract(path) for path in paths}
    wanted = {path: _kept_frames(result) for path, result in results.items()}
    for path in paths[:2]:
        loop.run(path, set(sorted(wanted[path])[:2]))
    frames = sum(len(numbers) for numbers in wanted.values())
    print(f"\n## Speed: {len(paths)} clips of {config.videos}, {frames} kept frames ({config.keyframe_rule}), one core")
    loop_cpu, loop_wall, ours_cpu, ours_wall, decoder = [], [], [], [], []
    loop.seconds_in_mtcnn = 0.0
    for _ in range(config.repeats):
        clock, cpu = time.perf_counter(), cpu_seconds()
        boxes = {path: loop.run(path, wanted[path]) for path in paths}
        loop_cpu.append(cpu_seconds() - cpu)
        loop_wall.append(time.perf_counter() - clock)
        clock, cpu, child = time.perf_counter(), cpu_seconds(), cpu_seconds(ours.decoder.pid)
        for path in paths:
            for face in ours.extract(path).faces:
                media.encode_jpeg(face.image)
        decoder.append(cpu_seconds(ours.decoder.pid) - child)
        ours_cpu.append(cpu_seconds() - cpu + decoder[-1])
        ours_wall.append(time.perf_counter() - clock)
    share = loop.seconds_in_mtcnn / sum(loop_cpu)
    loop_faces = sum(len(b) > 0 for found in boxes.values() for b in found.values())
    our_faces = sum(len(result.faces) for result in results.values())
    for name, cpu, wall, faces in (("loop", loop_cpu, loop_wall, loop_faces), ("ours", ours_cpu, ours_wall, our_faces)):
        c, w = statistics.median(cpu), statistics.median(wall)
        print(
            f"{name}: {faces} faces, {faces / c:.1f} faces per CPU second ({1000 * c / frames:.1f} ms a frame); "
            f"wall {faces / w:.1f} faces/s"
        )
    print(f"MTCNN's share of the loop: {share:.1%}")
    ratio = statistics.median(loop_cpu) / statistics.median(ours_cpu) * our_faces / loop_faces
    wall = statistics.median(a / b for a, b in zip(loop_wall, ours_wall, strict=True)) * our_faces / loop_faces
    print(f"ratio: {ratio:.1f} times the faces per CPU second, {wall:.1f} times by the wall clock (at least 8 wanted)")
    _recall(boxes, results)
    _breakdown(ours, paths, frames, statistics.median(decoder))
    ours.close()


def _kept_frames(result: Any) -> set[int]:
    return {face.frame for face in result.faces} | {item.frame for item in result.rejected if item.frame >= 0}


def _recall(boxes: dict[str, dict[int, np.ndarray]], results: dict[str, Any]) -> None:
    from fer_tf.faces.boxes import overlap

    hits = largest = ours_only = 0
    for path, found in boxes.items():
        mine = {face.frame: face.box for face in results[path].faces}
        ours_only += sum(number in mine and not len(b) for number, b in found.items())
        for number, theirs in found.items():
            if len(theirs):
                largest += 1
                hits += number in mine and overlap(mine[number], theirs[0]) >= 0.5
    print(f"recall: {hits} of the loop's {largest} faces ({hits / max(largest, 1):.2%}) at IoU >= 0.5", end="; ")
    print(f"{ours_only} faces that the loop does not find")


def _breakdown(extractor: Any, paths: Sequence[str], frames: int, decoder: float) -> None:
    """Prints where our time goes, from one more pass with a clock around each part."""
    from fer_tf.faces import align, detect, media
    from fer_tf.faces.follow import ClipFinder
    from fer_tf.faces.landmarks import LandmarkPredictor

    spent: dict[str, float] = {}

    def timed(owner: Any, name: str, label: str) -> tuple[Any, str, Any]:
        original = getattr(owner, name)

        def wrapper(*args: Any, **kwargs: Any) -> Any:
            start = time.process_time()
            try:
                return original(*args, **kwargs)
            finally:
                spent[label] = spent.get(label, 0.0) + time.process_time() - start

        setattr(owner, name, wrapper)
        return owner, name, original

    parts = [
        timed(ClipFinder, "find", "find"),
        timed(detect.FaceDetector, "detect", "full search"),
        timed(detect.FaceDetector, "verify", "follow"),
        timed(LandmarkPredictor, "predict", "landmarks"),
        timed(align, "transform_of", "align"),
        timed(align, "draw_mask", "mask"),
    ]
    start = time.process_time()
    images = [face.image for path in paths for face in extractor.extract(path).faces]
    total = time.process_time() - start
    start = time.process_time()
    for image in images:
        media.encode_jpeg(image)
    jpeg = time.process_time() - start
    for owner, name, original in parts:
        setattr(owner, name, original)
    spent["shrink and choose"] = spent.pop("find") - spent["full search"] - spent["follow"]
    spent |= {"decode and choose keyframes (own process)": decoder, "JPEG": jpeg}
    known = sum(spent.values()) - decoder - jpeg
    spent["receive frames, warp and the rest"] = total - known
    print("where our time goes, CPU ms a kept frame:")
    for label, seconds in sorted(spent.items(), key=lambda item: -item[1]):
        print(f"  {1000 * seconds / frames:6.2f}  {label}")


def boxes(config: BenchmarkConfig) -> None:
    """Prints how well dlib's points sit for several ways of giving it MTCNN's face."""
    import dlib

    from fer_tf.faces.detect import FaceDetector
    from fer_tf.faces.landmarks import LandmarkPredictor, disagreement, hog_square

    detector, predictor, hog = FaceDetector(), LandmarkPredictor(), dlib.get_frontal_face_detector()

    def raw(box: np.ndarray, _: np.ndarray) -> tuple:
        return box[:2] + box[2:] / 2, float(box[2:].mean()), 0.0

    def centred(box: np.ndarray, keypoints: np.ndarray) -> tuple:
        _, side, roll = hog_square(box, keypoints)
        return box[:2] + box[2:] * (0.5, 0.57), side, roll

    ways = {"MTCNN's box": raw, "moved to brows and chin": centred, "and towards the nose": hog_square}
    errors: dict[tuple[str, str], list[float]] = {}
    to_hog: dict[tuple[str, str], list[float]] = {}
    for path in clips_of(config):
        pose, rgb = Path(path).stem, _last_frame(path)
        found = detector.detect(rgb[None])[0]
        if not len(found):
            continue
        box, keypoints = found.boxes[0], found.keypoints[0]
        own = _own_square(hog(rgb), box)
        reference = predictor.predict_square(rgb, *own) if own else None
        if own:
            errors.setdefault((pose, "dlib's own box"), []).append(disagreement(reference, keypoints, box))
        for way, square in ways.items():
            points = predictor.predict_square(rgb, *square(box, keypoints))
            errors.setdefault((pose, way), []).append(disagreement(points, keypoints, box))
            if own:
                gap = np.linalg.norm(points - reference, axis=1).mean() / np.sqrt(box[2] * box[3])
                to_hog.setdefault((pose, way), []).append(float(gap))
    print(f"\n## Boxes for dlib: last frames of {config.videos}; distances as shares of the face's size")
    print(f"{'pose':12} {'box':26} {'faces':>5} {'to MTCNN':>9} {'slid off':>9} {'to dlib-HOG':>12}")
    for (pose, way), values in sorted(errors.items()):
        gap = to_hog.get((pose, way))
        off = np.mean(np.array(values) > 0.1)
        tail = f"{np.median(gap):12.3f}" if gap else f"{'-':>12}"
        print(f"{pose:12} {way:26} {len(values):5d} {np.median(values):9.3f} {off:9.1%} {tail}")


def _last_frame(path: str) -> np.ndarray:
    import av

    with av.open(path) as container:
        *_, last = container.decode(video=0)
    return last.to_ndarray(format="rgb24")


def _own_square(rectangles: Any, box: np.ndarray) -> tuple[np.ndarray, float, float] | None:
    for rectangle in rectangles:
        centre = np.array([rectangle.left() + rectangle.right(), rectangle.top() + rectangle.bottom()]) / 2
        if np.all(centre > box[:2]) and np.all(centre < box[:2] + box[2:]):
            return centre, float(rectangle.width()), 0.0
    return None


def memory(config: BenchmarkConfig) -> None:
    """Prints the peak memory of extraction for a clip and for one ten times as long."""
    source = clips_of(config)[0]
    print(f"\n## Memory: {source} played to and fro, peak resident MiB in fresh processes")
    with tempfile.TemporaryDirectory() as folder:
        for length in (100, 1000):
            path = os.path.join(folder, f"{length}.mp4")
            _write_long(source, path, length)
            command = [sys.executable, "-m", "benchmarks.extraction", "--part=memory", f"--videos={path}"]
            print(subprocess.check_output([*command], text=True, env=os.environ | {"FER_TF_PEAK": "1"}).strip())


def _peak(path: str) -> None:
    from fer_tf.faces.extractor import FaceExtractor

    extractor = FaceExtractor()
    result = extractor.extract(path)
    peaks = []
    for pid in (os.getpid(), extractor.decoder.pid):
        with open(f"/proc/{pid}/status") as file:
            peaks.append(next(int(line.split()[1]) / 1024 for line in file if line.startswith("VmHWM")))
    extractor.close()
    print(
        f"{result.frames_decoded:6d} frames, {len(result.faces)} faces: {sum(peaks):7.1f} "
        f"(extractor {peaks[0]:.1f}, decoder {peaks[1]:.1f})"
    )


def _frames(path: str) -> Iterator[Any]:
    import av

    with av.open(path) as container:
        yield from container.decode(video=0)


def _write_long(source: str, path: str, length: int) -> None:
    import av

    frames = [frame.to_ndarray(format="yuv420p") for frame in _frames(source)]
    order = frames + frames[::-1]
    height, width = frames[0].shape[0] * 2 // 3, frames[0].shape[1]
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": "ultrafast", "crf": "20"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(length):
            frame = av.VideoFrame.from_ndarray(order[number % len(order)], format="yuv420p")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the chosen parts and prints their numbers."""
    config, _ = parse(
        BenchmarkConfig, argv, prog="python -m benchmarks.extraction", description="Measures face extraction."
    )
    if os.environ.get("FER_TF_PEAK"):
        _peak(config.videos)
        return 0
    import cv2
    import tensorflow as tf

    cores = len(os.sched_getaffinity(0))
    print(f"{platform.machine()}, {cores} core(s) of {os.cpu_count()}, Python {platform.python_version()}, ", end="")
    print(f"TensorFlow {tf.__version__}, OpenCV {cv2.__version__}")
    if config.part in ("all", "speed"):
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)
        cv2.setNumThreads(1)
        speed(config)
    if config.part in ("all", "boxes"):
        boxes(config)
    if config.part in ("all", "memory"):
        memory(config)
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
