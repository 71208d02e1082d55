"""Asks a model server about the faces in pictures and videos.

`python -m serving.client photo.jpg` prints a table; `--json` prints JSON; `--output annotated.jpg` draws what was seen.
Videos get a CSV and an annotated video, each face followed through the clip.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fer_tf import files
from fer_tf.config import group, parse, run_command
from fer_tf.data.tta import TtaName
from fer_tf.errors import InputError, check_least
from fer_tf.faces.extractor import OF_KEYFRAMES, ExtractorOptions
from fer_tf.recognition.command import Output, inputs_of, names_of, show

if TYPE_CHECKING:
    from fer_tf.recognition.answers import Answer

# A whole picture is sent no larger than this on its long side, pixels.
WHOLE_SIDE = 1024


@dataclass(frozen=True)
class ClientConfig:
    """Flags of `python -m serving.client`.

    Args:
      inputs: pictures and videos.
      server: address of the model server, HOST:PORT.
      model_name: the model's name at the server.
      output: where to draw what was seen: a file for one input, a folder for several; a video's CSV stands beside.
      json: whether to print JSON instead of a table.
      top_k: how many expressions to show for a face.
      explain: whether to say of each picture how sure the model is that what it was shown is a face crop, and what it
        answers to the whole picture, which is the usual mistake.
      frames_per_second: frames of a video's second that are looked at.
      smoothing: time constant by which a followed face's scores are smoothed, seconds.
      unsure_below: the probability of the best expression below which an answer counts as unsure; 0 for never.
      tta: flip asks about each face and its mirror image, views about three cuts of both, and the mean answer counts.
      faces: how faces are found.
      landmark_model: path of the dlib predictor that aligned the faces which the network learned from, where that is
        not the packaged one; `packaged` goes on with the packaged one all the same.
      timeout: deadline of a request, seconds.
      ca_cert: PEM file of the server's authority; with it the connection uses TLS.
      client_cert: PEM file that this client shows, for mutual TLS.
      client_key: PEM file with its key.
    """

    inputs: list[str] = field(default_factory=list)
    server: str = "localhost:8500"
    model_name: str = "fa_net"
    output: str = ""
    json: bool = False
    top_k: int = 3
    explain: bool = False
    frames_per_second: float = 5.0
    smoothing: float = 0.4
    unsure_below: float = 0.0
    tta: TtaName = "none"
    faces: ExtractorOptions = group(ExtractorOptions, without=OF_KEYFRAMES)
    timeout: float = 10.0
    ca_cert: str = ""
    client_cert: str = ""
    client_key: str = ""

    def __post_init__(self) -> None:
        if not self.inputs:
            raise InputError("name at least one picture or video, such as: python -m serving.client photo.jpg")
        check_least(self, top_k=1, smoothing=0, timeout=0.001, frames_per_second=0.01)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command."""
    config, _ = parse(
        ClientConfig,
        argv,
        prog="python -m serving.client",
        description="Ask a model server about the faces in pictures and videos.",
        positional="inputs",
    )
    from fer_tf.recognition.alignment import extractor_for
    from fer_tf.recognition.appearance import Describer
    from fer_tf.recognition.augmented import augmented
    from fer_tf.recognition.looking import LookOptions, look
    from fer_tf.recognition.server import Connection, TlsFiles
    from fer_tf.recognition.sources import sources_of

    options = LookOptions(
        config.frames_per_second,
        config.smoothing,
        with_pictures=bool(config.output) or config.explain,
        unsure_below=config.unsure_below,
    )
    sources = sources_of(inputs_of(config.inputs, config.output))
    names = names_of([source.name for source in sources])
    output = Output(config.output, len(sources) > 1, config.json, config.top_k, names=names)
    files.refuse_remote("output", config.output, "; beam_pipelines.predict writes into buckets")
    output.check([source.name for source in sources])
    tls = TlsFiles(config.ca_cert, config.client_cert, config.client_key)
    with Connection(config.server, config.model_name, tls, config.timeout) as connection:
        connection.wait()
        extractor = extractor_for(connection.landmark_model, config.faces)
        with closing(extractor):
            items = look(sources, extractor, augmented(connection, config.tta).classify, options, Describer())
            if config.explain:
                items = explained(items, connection.classify)
            return show(items, output)


def explained(items: Iterable[Any], ask: Callable[[list[Any]], list[Answer]]) -> Iterator[Any]:
    """Yields the items and says of each picture, on standard error, what the answers rest on.

    Args:
      items: what was seen, SeenFrame or Unreadable.
      ask: asks the model about pictures.
    """
    from fer_tf.faces.detect import shrunk

    for item in items:
        picture = getattr(item, "rgb", None)
        if picture is not None and item.still:
            name = item.source.name
            for face in item.faces:
                print(f"{name}: face {face.number}: {_certainty(face.answer)}", file=sys.stderr)
            whole = ask([shrunk(picture, WHOLE_SIDE / max(picture.shape[:2]))])[0]
            label, share = whole.best()[0]
            said = f"{label} {100 * share:.1f} %, {_certainty(whole)}"
            print(f"{name}: sent whole instead: {said}", file=sys.stderr)
        yield item


def _certainty(answer: Answer) -> str:
    if answer.is_face is None:
        return "this export does not say whether it was shown a face crop; export the run again"
    doubt = ": probably no face crop, so that its expression means nothing" if answer.doubtful else ""
    return f"is_face {answer.is_face:.2f}{doubt}"


if __name__ == "__main__":
    sys.exit(run_command(main))
