"""Roots, globs and outputs on a filesystem that is not this machine's own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from apache_beam.io.filesystem import CompressionTypes, FileMetadata, FileSystem
from apache_beam.io.localfilesystem import LocalFileSystem
from apache_beam.options.pipeline_options import PipelineOptions

from beam_pipelines import extract
from fer_tf.data import schema
from fer_tf.data.schema import FaceRecord
from fer_tf.faces.extractor import ClipError
from tests.beam_pipelines.conftest import Built, read, run, sample_rows, write_rows

SCHEME = "bucket"


class BucketFileSystem(FileSystem):
    """An object store in all but distance: `bucket://...` names files below a folder, and nothing names a folder."""

    base = Path()

    @classmethod
    def scheme(cls) -> str:
        return SCHEME

    @property
    def _local(self) -> LocalFileSystem:
        return LocalFileSystem(PipelineOptions())

    def _inside(self, path: str) -> str:
        return str(self.base / path.removeprefix(f"{SCHEME}://"))

    def _outside(self, path: str) -> str:
        return f"{SCHEME}://{Path(path).relative_to(self.base)}"

    def join(self, basepath: str, *paths: str) -> str:
        return "/".join([basepath.rstrip("/"), *(path.strip("/") for path in paths)])

    def split(self, path: str) -> tuple[str, str]:
        return tuple(path.rsplit("/", 1))

    def mkdirs(self, path: str) -> None:
        self._local.mkdirs(self._inside(path))

    def has_dirs(self) -> bool:
        return False

    def _list(self, dir_or_prefix: str) -> object:
        for path in sorted(self.base.rglob("*")):
            if path.is_file() and self._outside(str(path)).startswith(dir_or_prefix):
                stat = path.stat()
                yield FileMetadata(self._outside(str(path)), stat.st_size, stat.st_mtime)

    def create(self, path: str, mime_type: str = "", compression_type: str = CompressionTypes.AUTO) -> object:
        Path(self._inside(path)).parent.mkdir(parents=True, exist_ok=True)
        return self._local.create(self._inside(path), mime_type, compression_type)

    def open(self, path: str, mime_type: str = "", compression_type: str = CompressionTypes.AUTO) -> object:
        return self._local.open(self._inside(path), mime_type, compression_type)

    def copy(self, sources: list[str], targets: list[str]) -> None:
        self._local.copy([*map(self._inside, sources)], [*map(self._inside, targets)])

    def rename(self, sources: list[str], targets: list[str]) -> None:
        for target in targets:
            Path(self._inside(target)).parent.mkdir(parents=True, exist_ok=True)
        self._local.rename([*map(self._inside, sources)], [*map(self._inside, targets)])

    def exists(self, path: str) -> bool:
        return Path(self._inside(path)).is_file()

    def size(self, path: str) -> int:
        return self._local.size(self._inside(path))

    def last_updated(self, path: str) -> float:
        return self._local.last_updated(self._inside(path))

    def checksum(self, path: str) -> str:
        return self._local.checksum(self._inside(path))

    def metadata(self, path: str) -> FileMetadata:
        found = self._local.metadata(self._inside(path))
        return FileMetadata(path, found.size_in_bytes, found.last_updated_in_seconds)

    def delete(self, paths: list[str]) -> None:
        # As of gs:// and s3://: the object of that very name, and none is no error.
        for path in paths:
            if self.exists(path):
                Path(self._inside(path)).unlink()


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(BucketFileSystem, "base", tmp_path)
    return tmp_path


def test_a_corpus_in_a_bucket_is_built_into_a_bucket(bucket: Path, built: Built, samples: Path) -> None:
    rows = [row for row in sample_rows(samples) if row["person"] == "P001" and row["expression"] == "happy"]
    for row in rows:
        (bucket / "videos" / row["video"]).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(samples / row["video"], bucket / "videos" / row["video"])
    write_rows(bucket / "a.csv", [*rows, {**rows[0], "video": "gone.mp4"}])
    for shards in (3, 2):  # The second build replaces the first and finds its finished clips.
        assert run(f"{SCHEME}://a.csv", f"{SCHEME}://videos", f"{SCHEME}://out", f"--num_shards={shards}") == 3
    names = sorted(path.name for path in (bucket / "out/records").iterdir())
    assert names == ["faces-00000-of-00002.tfrecord", "faces-00001-of-00002.tfrecord"]
    faces = {face.image_id: face.image for face in read(bucket / "out", schema.FACES_GLOB, FaceRecord)}
    local = {face.image_id: face.image for face in read(built.folder, schema.FACES_GLOB, FaceRecord)}
    assert faces and faces == {name: local[name] for name in faces}
    dataset = json.loads((bucket / "out/dataset.json").read_text())
    assert dataset["rejected"]["missing"] == 1
    assert dataset["records"]["files"] == 2 and dataset["records"]["examples"] == len(faces)
    assert dataset["counts"]["clips_cached"] == dataset["counts"]["clips_read"] == 4
    assert not [path for path in (bucket / "out/.building").rglob("*") if path.is_file()]


def test_a_glob_names_the_root_and_the_clips_that_may_be_used(tmp_path: Path) -> None:
    for name in ("a/x.mp4", "b/x.mov"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    videos = extract.Videos.parse(f"{tmp_path}/*/*.mp4")
    assert videos.root == str(tmp_path)
    assert videos.locate("a/x.mp4")[0] == str(tmp_path / "a/x.mp4")
    with pytest.raises(ClipError) as error:
        videos.locate("b/x.mov")
    assert error.value.reason == "outside_glob"


def test_a_folder_that_cannot_be_read_costs_its_own_clips_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(folder: str) -> list[str]:
        raise PermissionError(13, "Permission denied", folder)

    monkeypatch.setattr("os.listdir", denied)
    with pytest.raises(ClipError) as error:
        extract.Videos(str(tmp_path)).locate("locked/x.mp4")
    assert error.value.reason == "missing"


def test_a_changed_clip_or_option_is_not_taken_for_a_finished_one(tmp_path: Path) -> None:
    (tmp_path / "x.mp4").write_bytes(b"one")
    videos, options = extract.Videos(str(tmp_path)), extract.ExtractorOptions()
    first = extract.cache_path("e", extract.extraction_key(options), "x.mp4", videos.locate("x.mp4")[1])
    assert first == extract.cache_path("e", extract.extraction_key(options), "x.mp4", videos.locate("x.mp4")[1])
    faster = extract.ExtractorOptions(threads=2, decode_timeout_s=3)
    assert first == extract.cache_path("e", extract.extraction_key(faster), "x.mp4", videos.locate("x.mp4")[1])
    other = extract.ExtractorOptions(max_keyframes=3)
    assert first != extract.cache_path("e", extract.extraction_key(other), "x.mp4", videos.locate("x.mp4")[1])
    (tmp_path / "x.mp4").write_bytes(b"other")
    assert first != extract.cache_path("e", extract.extraction_key(options), "x.mp4", videos.locate("x.mp4")[1])


def test_a_predictor_is_the_same_wherever_it_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder, name, content in (
        ("a", "own.dat", b"1"),
        ("b", "own.dat", b"1"),
        ("c", "own.dat", b"2"),
        ("c", "o", b"1"),
    ):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / name).write_bytes(content)

    def key(path: str) -> str:
        return extract.extraction_key(extract.ExtractorOptions(landmark_model=path))

    assert key("a/own.dat") == key(f"{tmp_path}/a/own.dat") == key("b/own.dat")
    # Faces name their predictor.
    assert len({key("a/own.dat"), key("c/own.dat"), key("c/o"), key("")}) == 4
