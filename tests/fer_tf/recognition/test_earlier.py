"""What an earlier run wrote is replaced and said; a user's own files are neither replaced nor lost to a full disk."""

from __future__ import annotations

import resource
import signal
from pathlib import Path

import av
import pandas
import pytest
from PIL import Image

from fer_tf import Recognizer, files
from fer_tf.config import EXIT_INCOMPLETE, EXIT_OK
from fer_tf.errors import InputError
from fer_tf.faces.extractor import ExtractorOptions
from fer_tf.recognition import __main__ as command
from fer_tf.recognition import earlier
from fer_tf.recognition.command import Output
from fer_tf.recognition.given import GivenFaces
from fer_tf.recognition.video_writer import VideoWriter
from tests.fer_tf.faces.clips import drawn, write_clip
from tests.fer_tf.recognition.test_unsure import ByBrightness


@pytest.fixture
def recognizer(monkeypatch: pytest.MonkeyPatch) -> Recognizer:
    """What the command loads: each picture is one face, and no network takes seconds to begin."""
    made = Recognizer(ByBrightness(), GivenFaces(ExtractorOptions(subject="all")))
    monkeypatch.setattr(made.network, "close", lambda: None, raising=False)
    monkeypatch.setattr(Recognizer, "load", lambda *_, **__: made)
    return made


@pytest.fixture
def picture(tmp_path: Path) -> str:
    Image.new("RGB", (64, 64), (200, 190, 180)).save(tmp_path / "flat.png")
    return str(tmp_path / "flat.png")


def test_a_run_replaces_the_files_of_an_earlier_one_and_no_others(
    recognizer: Recognizer, picture: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    flags = [picture, f"--output={tmp_path}"]
    for name, content in (
        ("faces.csv", "name,age\nanna,31\n"),
        ("rejected.csv", "applicant\nanna\n"),
        ("faces.incomplete.csv", "mine\n"),
        ("flat.png.annotated.jpg", "mine"),
    ):
        (tmp_path / name).write_text(content)
        with pytest.raises(InputError, match=f"{name}' was not written by an earlier run and would be replaced"):
            command.main(flags)
        assert (tmp_path / name).read_text() == content
        (tmp_path / name).unlink()
    (tmp_path / "faces.jsonl").write_text('{"name": "anna"}\n')
    assert command.main(flags) == EXIT_OK and "replaced" not in capsys.readouterr().err
    # Once more, over what is this tool's own: the table, of as many rows, and the drawing.
    assert command.main(flags) == EXIT_OK
    assert f"an earlier run's table of 1 row is replaced: {tmp_path}/faces.csv" in capsys.readouterr().err
    assert (tmp_path / "faces.jsonl").read_text() == '{"name": "anna"}\n'
    for ending in earlier.FORMATS:
        path = recognizer([picture, picture]).save(tmp_path / f"b.{ending}")
        assert earlier.is_table(path) and earlier._count(path) == 2
    with pytest.raises(SystemExit):
        command.main([picture, f"--output={tmp_path}/result.csv"])
    assert f"--output={tmp_path}/result gives {tmp_path}/result/faces.csv" in capsys.readouterr().err


@pytest.mark.usefixtures("recognizer")
def test_a_full_disk_is_no_fault_of_the_flags(picture: str, tmp_path: Path) -> None:
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limit[1]))
    try:
        with pytest.raises(
            files.CannotWrite, match=r"cannot write .*flat\.png\.annotated\.jpg: File too large; free some"
        ):
            command.main([picture, f"--output={tmp_path}"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, before)


@pytest.mark.usefixtures("recognizer")
@pytest.mark.parametrize("size", [(1, 1), (2, 2), (16, 1), (1, 40), (3000, 2)])
def test_a_clip_of_any_size_is_drawn_or_listed_and_the_rest_goes_on(
    size: tuple[int, int], picture: str, tmp_path: Path
) -> None:
    frames = [Image.new("RGB", size, (shade, 0, 0)) for shade in (0, 120, 250)]
    frames[0].save(tmp_path / "small.gif", save_all=True, append_images=frames[1:], duration=100)
    code = command.main([str(tmp_path / "small.gif"), picture, f"--output={tmp_path / 'out'}"])
    assert code in (EXIT_OK, EXIT_INCOMPLETE)
    assert (tmp_path / "out" / "small.gif.annotated.mp4").exists() == (code == EXIT_OK)
    assert len(pandas.read_csv(tmp_path / "out" / "faces.csv")) >= 1
    assert not list((tmp_path / "out").glob(".*"))


@pytest.mark.usefixtures("recognizer")
def test_a_clip_that_cannot_be_encoded_is_listed_and_the_rest_goes_on(
    picture: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def refuses(writer: VideoWriter, *_: object) -> None:
        raise av.error.ExternalError(1, "no such size", "libx264")

    monkeypatch.setattr(VideoWriter, "_open", refuses)
    clip = str(write_clip(tmp_path / "a.mp4", drawn(3)))
    assert command.main([clip, picture, f"--output={tmp_path / 'out'}"]) == EXIT_INCOMPLETE
    assert f"not read: {clip}: not_drawn its annotated copy cannot be encoded" in capsys.readouterr().err
    assert set(pandas.read_csv(tmp_path / "out" / "faces.csv")["input"]) == {clip, picture}


def test_an_input_that_is_called_like_anothers_drawing_is_not_replaced(picture: str) -> None:
    drawing = f"{picture}.annotated.jpg"
    Image.new("RGB", (64, 64)).save(drawing)
    with pytest.raises(InputError, match=r"flat\.png\.annotated\.jpg' would replace the input"):
        Output(str(Path(picture).parent), several=True).check([picture, drawing])
