"""One door to files, near and far: whole or not there, listed, moved, deleted, and records that others can read."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fer_tf import files, tfrecords
from fer_tf.errors import InputError
from fer_tf.faces import media
from fer_tf.faces.frame import ClipError


@pytest.fixture(params=["local", "ram://"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A folder whose name looks like a pattern on this machine, and one that TensorFlow alone knows."""
    return str(tmp_path / "a[1]*") if request.param == "local" else f"ram://files{tmp_path}"


def test_files_are_written_listed_moved_and_deleted_alike_here_and_far_away(folder: str) -> None:
    for name in ("b/2.json", "b/1.json", "b/deep/3.json"):
        files.write_json(files.join(folder, name), {"name": name, "sign": "é"})
    assert files.matching(files.join(folder, "b"), "*.json") == [files.join(folder, f"b/{n}.json") for n in (1, 2)]
    assert len(files.matching(folder, files.ANY_DEPTH)) == 3
    assert files.matching(files.join(folder, "none"), "*") == []
    files.move(files.join(folder, "b/1.json"), files.join(folder, "c/new.json"))
    assert files.read_json(files.join(folder, "c/new.json")) == {"name": "b/1.json", "sign": "é"}
    assert not files.exists(files.join(folder, "b/1.json"))
    assert files.stat(files.join(folder, "c/new.json"))[0] == len(files.read_bytes(files.join(folder, "c/new.json")))
    with files.local_copy(files.join(folder, "c/new.json")) as path, open(path) as file:
        assert "é" in file.read() and path.endswith(".json")
    files.delete(files.join(folder, "c/new.json"), files.join(folder, "never"))
    files.delete_folder(files.join(folder, "b"))
    files.delete_folder(files.join(folder, "never"))
    assert files.matching(folder, files.ANY_DEPTH) == []
    with pytest.raises(FileNotFoundError):
        files.read_bytes(files.join(folder, "c/new.json"))


def test_arrays_come_back_as_they_were_and_nothing_else_is_read(folder: str) -> None:
    arrays = {
        "points": np.arange(6, dtype=np.float16).reshape(2, 3),
        "names": np.array(["a", "é"]),
        "none": np.zeros(0),
    }
    path = files.join(folder, "deep/arrays.npz")
    files.write_arrays(path, **arrays, about="a text")
    found = files.read_arrays(path)
    assert found.keys() == {*arrays, "about"} and str(found["about"]) == "a text"
    files.write_array(f"{path}.npy", arrays["points"])
    for name, array in (*arrays.items(), ("points", files.read_array(f"{path}.npy"))):
        assert found[name].dtype == array.dtype and np.array_equal(found[name], array)
    # Pickled objects would run what they hold.
    files.write_arrays(path, objects=np.array([{}], object))
    with pytest.raises(ValueError, match="allow_pickle=False"):
        files.read_arrays(path)
    with pytest.raises(FileNotFoundError):
        files.read_arrays(files.join(folder, "gone.npz"))


def test_a_file_has_its_name_only_when_it_is_whole_and_keeps_what_was_there(folder: str) -> None:
    path = files.join(folder, "a")
    files.write_text(path, "before")
    with pytest.raises(KeyboardInterrupt), files.whole_file(path) as file:
        file.write(b"half")
        assert files.read_text(path) == "before"
        raise KeyboardInterrupt
    assert files.matching(folder, files.ANY_DEPTH) == [path] and files.read_text(path) == "before"


def test_a_disk_that_is_full_is_named_with_advice_and_so_is_a_folder_that_is_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", full)
        with pytest.raises(files.CannotWrite, match=r"cannot write .*/a: No space left on device; free some space"):
            files.write_text(f"{tmp_path}/a", "text")
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").touch()
    with pytest.raises(files.CannotWrite, match=r"cannot write .*/file/a: File exists; name another folder"):
        files.write_text(f"{tmp_path}/file/a", "text")


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        *((number, "; free some space, then the same command goes on") for number in (errno.EDQUOT, errno.EFBIG)),
        *((number, "; name another folder") for number in (errno.EINVAL, errno.ENOTEMPTY)),
        (errno.EROFS, "; change the permissions there, or name another folder"),
        *((number, "") for number in (errno.ENOENT, errno.ESTALE, errno.EMFILE, errno.EIO)),
    ],
)
def test_what_cannot_be_written_comes_with_advice_that_fits_or_none(number: int, advice: str) -> None:
    reason = os.strerror(number)
    assert str(files.cannot_write("a", OSError(number, reason))) == f"cannot write a: {reason}{advice}"
    # As TensorFlow tells it: without a number.
    full = ValueError(f"runs/a; {os.strerror(errno.ENOSPC)}")
    assert str(files.cannot_write("a", full)).endswith("; free some space, then the same command goes on")
    assert str(files.cannot_write("a", ValueError("it broke"))) == "cannot write a: it broke"


def test_what_goes_wrong_in_the_block_is_not_told_as_a_full_disk(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="gone"), files.whole_file(f"{tmp_path}/a") as file:
        file.write(Path(tmp_path, "gone").read_bytes())
    assert not list(tmp_path.iterdir())


def test_what_a_library_writes_by_itself_has_its_name_when_it_is_whole(tmp_path: Path) -> None:
    table, folder = tmp_path / "table.csv", tmp_path / "model"
    table.write_text("before")
    with pytest.raises(KeyboardInterrupt), files.whole_path(str(table)) as partial:
        Path(partial).write_text("half")
        raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt), files.whole_path(str(folder)) as partial:
        Path(partial, "assets").mkdir(parents=True)
        raise KeyboardInterrupt
    assert table.read_text() == "before" and list(tmp_path.iterdir()) == [table]
    with files.whole_path(str(table)) as partial:
        # Libraries choose the format by the extension, and listings leave hidden files out.
        assert partial.endswith(".csv") and os.path.basename(partial).startswith(".")
        Path(partial).write_text("whole")
        assert table.read_text() == "before"
    with files.whole_path(str(folder)) as partial:
        Path(partial, "assets").mkdir(parents=True)
    assert table.read_text() == "whole" and sorted(tmp_path.rglob("*")) == [folder, folder / "assets", table]
    (tmp_path / "taken").mkdir()
    with pytest.raises(files.CannotWrite, match="taken: Is a directory"), files.whole_path(f"{tmp_path}/taken") as path:
        Path(path).touch()
    assert not list(tmp_path.glob(".*"))


def test_what_a_library_must_seek_in_is_put_there_when_it_is_whole(folder: str) -> None:
    path = files.join(folder, "deep/net.weights.h5")
    with files.whole_local(path) as local:
        assert os.path.basename(local) == "net.weights.h5" and not files.exists(path)
        Path(local).write_bytes(b"before")
    with (
        pytest.raises(files.CannotWrite, match=r"net\.weights\.h5: No space left on device; free"),
        files.whole_local(path),
    ):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with pytest.raises(KeyboardInterrupt), files.whole_local(path):
        raise KeyboardInterrupt
    assert files.matching(folder, files.ANY_DEPTH) == [path] and files.read_bytes(path) == b"before"


def test_a_name_may_be_as_long_as_the_file_system_takes(tmp_path: Path) -> None:
    longest = tmp_path / ("ü" * 125 + "a.csv")
    files.write_text(str(longest), "whole")
    assert longest.read_text() == "whole"
    with files.whole_path(str(longest)) as partial:
        Path(partial).write_text("anew")
    assert longest.read_text() == "anew" and list(tmp_path.iterdir()) == [longest]


def test_an_unknown_kind_of_place_is_refused_in_a_sentence() -> None:
    with pytest.raises(InputError, match=r"no file system is known for 'nowhere://a/b'"):
        files.write_text("nowhere://a/b", "text")


def test_records_are_those_of_tensorflow_both_ways_and_found_by_their_place(folder: str) -> None:
    import tensorflow as tf

    records, path = [b"one", b"", b"three" * 1000], files.join(folder, "ours.tfrecord")
    tfrecords.write(path, records)
    if files.is_local(folder):
        assert list(tf.data.TFRecordDataset(path).as_numpy_iterator()) == records
    assert list(tfrecords.read(path)) == records
    theirs = files.join(folder, "theirs.tfrecord")
    with tf.io.TFRecordWriter(theirs) as writer:
        for record in records:
            writer.write(record)
    placed = dict(tfrecords.read_placed(theirs))
    assert list(placed.values()) == records
    assert all(tfrecords.read_one(theirs, place) == record for place, record in placed.items())


def test_a_damaged_record_file_is_named(tmp_path: Path) -> None:
    path = str(tmp_path / "a.tfrecord")
    tfrecords.write(path, [b"some face"])
    content = bytearray(Path(path).read_bytes())
    for damage in (content[:-1], content[:13], content[:5], bytes([content[0] ^ 1]) + content[1:]):
        Path(path).write_bytes(damage)
        with pytest.raises(InputError, match=r"a\.tfrecord is damaged"):
            list(tfrecords.read(path))


def test_neither_beam_nor_tensorflow_is_loaded_for_files_of_this_machine(tmp_path: Path) -> None:
    code = (
        "import sys; from fer_tf import tfrecords; tfrecords.write(sys.argv[1], [b'a']); "
        "assert list(tfrecords.read(sys.argv[1])) == [b'a']; "
        "print(sorted({'tensorflow', 'apache_beam', 'numpy'} & set(sys.modules)))"
    )
    argv = [sys.executable, "-c", code, str(tmp_path / "a")]
    assert subprocess.check_output(argv, text=True).strip() == "[]"


def test_what_exists_is_no_glob_and_hidden_files_of_a_folder_are_left_out(tmp_path: Path) -> None:
    root = tmp_path / "clips [raw]"
    (root / ".thumbnails").mkdir(parents=True)
    for name in ("a[1].mp4", "b.mp4", ".hidden.mp4", ".thumbnails/c.jpg"):
        (root / name).touch()
    both = [str(root / "a[1].mp4"), str(root / "b.mp4")]
    assert files.listed(str(root)) == files.listed(f"{root}/") == files.listed(f"{root}/*.mp4") == both
    assert files.listed(str(root / "a[1].mp4")) == both[:1]
    assert files.listed(str(tmp_path / "clips*" / "b.mp4")) == files.listed(f"{tmp_path}/**/b.mp4") == both[1:]
    assert files.listed(str(tmp_path / "clips [w]")) == files.listed(str(tmp_path / "no.mp4")) == []
    assert files.folder_and_pattern("gs://bucket/a/*/b[1].mp4") == ("gs://bucket/a", "*/b[1].mp4")
    assert files.listed(f"{root}/**") == both
    assert files.folder_and_pattern("*.mp4") == ("", "*.mp4")
    assert files.folder_and_pattern("/*.mp4") == ("/", "*.mp4")


def test_linked_folders_are_listed_each_real_one_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside, far = tmp_path / "in", tmp_path / "far"
    for folder in (inside / "zoo", inside / ".store", far / "deep"):
        folder.mkdir(parents=True)
        (folder / "a.jpg").touch()
    (inside / "again").symlink_to(inside / "zoo")
    (inside / "linked").symlink_to(far)
    (inside / "shown").symlink_to(inside / ".store")
    (far / "deep" / "cycle").symlink_to(inside)
    wanted = [str(inside / name) for name in ("linked/deep/a.jpg", "shown/a.jpg", "zoo/a.jpg")]
    for inputs in (inside, f"{inside}/**", f"{inside}/**/*.jpg"):
        assert files.listed(str(inputs)) == wanted
    monkeypatch.chdir(inside)
    assert files.listed(".") == files.listed("**") == [f"./{os.path.relpath(path)}" for path in wanted]


def test_a_folder_that_cannot_be_read_is_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "locked").mkdir()
    (tmp_path / "a.jpg").touch()
    scandir = os.scandir

    def refusing(path: str) -> object:
        if path.endswith("locked"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    assert files.listed(str(tmp_path)) == [str(tmp_path / "a.jpg"), str(tmp_path / "locked")]
    with pytest.raises(ClipError, match="locked`: missing"):
        media.open(str(tmp_path / "locked"))
