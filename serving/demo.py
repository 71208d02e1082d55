"""A web page on this machine: a picture in, its faces, their expressions and what the network looks at out.

`python -m serving.demo` asks the model server over gRPC for the expressions. The heat map needs gradients, which a
server does not give: it is computed here, from the weights that travel with the export.
"""

from __future__ import annotations

import atexit
import functools
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fer_tf.config import EXIT_OK, group, parse, run_command
from fer_tf.errors import InputError, ServerError, check_port, check_positive
from fer_tf.faces.extractor import OF_KEYFRAMES, ExtractorOptions
from fer_tf.resources import samples_folder
from serving import hosts
from serving.demo_samples import sample_clips, sample_pictures
from serving.demo_video import VideoLooker, build_tab, keep_files_apart, styles

if TYPE_CHECKING:
    import gradio as gr

    from fer_tf.recognition.answers import Answer

# A picture with more pixels than this is refused before it is unpacked.
MAX_PICTURE_PIXELS = 24_000_000
# Nothing is fetched from elsewhere: the browser refuses it, whatever the page's template names.
CONTENT_POLICY = (
    "default-src 'self' data: blob:; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; connect-src 'self' data: blob:; frame-ancestors 'none'"
)
SYSTEM_FONTS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif")
MONO_FONTS = ("ui-monospace", "Consolas", "monospace")


@dataclass(frozen=True)
class DemoConfig:
    """Flags of `python -m serving.demo`.

    Args:
      server: address of the model server, HOST:PORT.
      model_name: the model's name at the server.
      model_base_path: folder of the exported versions, for the model card and the heat map.
      samples: folder of sample videos (their last frames are offered) and pictures.
      host: address to listen on; the default answers this machine alone.
      port: port of the page; 0 takes a free one.
      faces: how faces are found.
      landmark_model: path of the dlib predictor that aligned the faces which the network learned from, where that is
        not the packaged one; `packaged` goes on with the packaged one all the same.
      timeout: deadline of a request to the server, seconds.
      max_upload_mb: the largest file that may be uploaded, megabytes.
      max_seconds: of longer clips the beginning is looked at, seconds.
    """

    server: str = "localhost:8500"
    model_name: str = "fa_net"
    model_base_path: str = "models/fa_net"
    samples: str = "samples"
    host: str = "127.0.0.1"
    port: int = 7860
    faces: ExtractorOptions = group(ExtractorOptions, without=OF_KEYFRAMES)
    timeout: float = 10.0
    max_upload_mb: int = 100
    max_seconds: float = 60.0

    def __post_init__(self) -> None:
        check_port("port", self.port)
        check_positive(self, "max_upload_mb", "max_seconds")


def main(argv: Sequence[str] | None = None) -> int:
    """Shows the page until Ctrl-C."""
    config, _ = parse(DemoConfig, argv, prog="python -m serving.demo", description="Show the model on a web page.")
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            # As after an error, so that what must be deleted is. Process 1 of a container would not even end by itself.
            signal.signal(number, lambda number, _: sys.exit(128 + number))
    keep_files_apart()
    from fer_tf.recognition.server import Connection

    with Connection(config.server, config.model_name, timeout_s=config.timeout) as connection:
        connection.wait()
        page, url = launch(config, connection)
        print(f"open {url} in a browser; Ctrl-C ends it", flush=True)
        try:
            page.block_thread()
        finally:
            page.close(verbose=False)
    return EXIT_OK


@dataclass(frozen=True)
class Shown:
    """A face of the picture that the page shows: the crop, its box (x, y, width, height, pixels) and its answer."""

    image: np.ndarray
    box: np.ndarray
    answer: Answer


class Explorer:
    """What the page's controls call.

    Args:
      config: the command's flags.
      connection: to the model server.

    Raises:
      InputError: when the network learned from faces aligned by another landmark predictor.
    """

    def __init__(self, config: DemoConfig, connection: Any) -> None:
        from fer_tf.recognition.alignment import extractor_for

        self._config, self._connection = config, connection
        make_extractor = functools.partial(extractor_for, connection.landmark_model, config.faces)
        self._extractor = make_extractor()
        # Clips have a face finder of their own: pictures do not wait for them.
        self.videos = VideoLooker(connection.classify, make_extractor, config.max_seconds)
        self._live = functools.lru_cache(maxsize=1)(_live_model)

    def look(self, picture: np.ndarray | None) -> tuple[np.ndarray | None, list[Shown], list[str]]:
        """Returns the picture with its faces drawn in, what is known of each face, and a name for each.

        Raises:
          ServerError: when the server does not answer.
        """
        from fer_tf.recognition.drawing import annotate
        from fer_tf.recognition.looking import look_at_picture

        if picture is None:
            return None, [], []
        found = look_at_picture(np.ascontiguousarray(picture[..., :3]), self._extractor, self._connection.classify)
        faces = [Shown(face.image, face.box, answer) for face, answer in found]
        boxes = [(number, face.box, face.answer) for number, face in enumerate(faces, 1)]
        names = [name_of(number, face) for number, face in enumerate(faces, 1)]
        return annotate(picture[..., :3], boxes), faces, names

    def explain(self, face: np.ndarray, answer: Answer, method: str) -> np.ndarray:
        """Returns the face with a heat map of what moved the network to its best expression.

        Raises:
          InputError: when the version's weights are not in model_base_path.
        """
        from fer_tf.recognition.explaining import explain

        model, spec = self._live(self._config.model_base_path, answer.version)
        return explain(face, int(answer.probabilities.argmax()), model, spec, method)

    def card(self) -> str:
        """Returns the newest version's model card as Markdown."""
        from serving.export import CARD_FILE, newest_version_dir

        try:
            path = os.path.join(newest_version_dir(self._config.model_base_path), CARD_FILE)
            with open(path, encoding="utf-8") as file:
                return file.read()
        except (InputError, OSError) as error:
            return f"No model card: {error}"

    def close(self) -> None:
        """Ends what the extractors started."""
        self._extractor.close()
        self.videos.close()


def _live_model(model_base_path: str, version: int) -> tuple[Any, Any]:
    from serving.export import WEIGHTS_DIR, load_live

    return load_live(os.path.join(model_base_path, str(version), WEIGHTS_DIR))


def face_at(faces: Sequence[Shown], x: float, y: float) -> int | None:
    """Returns which face was pointed at: the smallest whose box holds the point, or None."""
    inside = [
        (float(face.box[2] * face.box[3]), number)
        for number, face in enumerate(faces)
        if 0 <= x - face.box[0] <= face.box[2] and 0 <= y - face.box[1] <= face.box[3]
    ]
    return min(inside)[1] if inside else None


def name_of(number: int, face: Shown) -> str:
    """Returns what a face is called on the page, by which it is found again."""
    return f"{number}: {face.answer.best()[0][0]}{' (perhaps no face)' if face.answer.doubtful else ''}"


def build_page(config: DemoConfig, explorer: Explorer) -> gr.Blocks:
    """Returns the page; nothing runs yet."""
    import gradio as gr

    from fer_tf.evaluation.saliency import METHODS

    samples = sample_pictures(samples_folder(config.samples))

    def look(picture: np.ndarray | None) -> tuple:
        try:
            drawing, faces, names = explorer.look(picture)
        except ServerError as error:
            raise gr.Error(str(error)) from None
        if picture is not None and not faces:
            gr.Info("No face was found.")
        return (
            drawing,
            faces,
            gr.Radio(
                choices=names,
                value=names[0] if names else None,
                visible=len(names) > 1 or any(face.answer.doubtful for face in faces),
            ),
        )

    def explain(faces: list, name: str | None, method: str) -> tuple:
        if not faces or not name:
            return None, None
        face = faces[int(name.split(":")[0]) - 1]
        answer = face.answer
        bars = {label: float(value) for label, value in zip(answer.expressions, answer.probabilities, strict=True)}
        if answer.doubtful:
            gr.Warning(f"Perhaps no face: is_face is {answer.is_face:.2f}, so that the expression may mean nothing.")
        try:
            return bars, explorer.explain(face.image, answer, method)
        except InputError as error:
            gr.Warning(f"No heat map: {error}")
            return bars, None

    def choose(event: gr.SelectData) -> np.ndarray:
        return samples[event.index][0]

    def point(faces: list, name: str | None, event: gr.SelectData) -> str | None:
        number = face_at(faces, *event.index)
        return name if number is None else name_of(number + 1, faces[number])

    # Gradio looks at the type itself, and the module does not import gradio before the flags are read.
    choose.__annotations__["event"] = point.__annotations__["event"] = gr.SelectData

    with gr.Blocks(title="fer_tf", analytics_enabled=False, delete_cache=(600, 1800)) as page:
        gr.Markdown(
            "# Which expression does a face show?\nUpload a picture or a video, use the webcam, or choose a sample."
        )
        faces = gr.State([])
        with gr.Tab("Picture"), gr.Row():
            with gr.Column():
                picture = gr.Image(
                    sources=["upload", "webcam", "clipboard"], label="Picture", height=380, elem_id="picture"
                )
                gallery = gr.Gallery(
                    samples, label="Samples", columns=4, height=260, allow_preview=False, elem_id="samples"
                )
            with gr.Column():
                drawing = gr.Image(
                    label="Faces", interactive=False, height=380, elem_id="drawing", buttons=["download"]
                )
                which = gr.Radio([], label="Face", visible=False, elem_id="which")
                with gr.Row():
                    bars = gr.Label(label="Expressions", num_top_classes=5, elem_id="bars")
                    with gr.Column():
                        heat = gr.Image(
                            label="What the network looks at",
                            interactive=False,
                            height=260,
                            elem_id="heat",
                            buttons=["fullscreen", "download"],
                        )
                        method = gr.Dropdown(list(METHODS), value=METHODS[0], label="Heat map by", elem_id="method")
        with gr.Tab("Video"):
            build_tab(explorer.videos, config.max_upload_mb, config.max_seconds, sample_clips(config.samples))
        with gr.Tab("Model card"):
            gr.Markdown(explorer.card, elem_id="card")
        gallery.select(choose, None, picture)
        shown = picture.change(look, picture, [drawing, faces, which])
        shown.then(explain, [faces, which, method], [bars, heat])
        pointed = drawing.select(point, [faces, which], which)
        pointed.then(explain, [faces, which, method], [bars, heat])
        which.input(explain, [faces, which, method], [bars, heat])
        method.input(explain, [faces, which, method], [bars, heat])
    return page


def launch(config: DemoConfig, connection: Any) -> tuple[gr.Blocks, str]:
    """Starts the page in a thread and returns it with its address."""
    # Read when gradio is imported: no version check, no telemetry.
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    # The page asks itself whether it is there.
    hosts.ask_without_proxy(config.host)
    import gradio as gr
    from fastapi.middleware import Middleware
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = MAX_PICTURE_PIXELS // 2  # Pillow refuses twice this.
    explorer = Explorer(config, connection)
    atexit.register(explorer.close)
    page = build_page(config, explorer)
    theme = gr.themes.Default(font=SYSTEM_FONTS, font_mono=MONO_FONTS)
    port = config.port or _free_port(config.host)
    _refuse_taken(config.host, port)
    _, url, _ = page.queue(max_size=32).launch(
        server_name=hosts.bracketed(config.host),
        server_port=port,
        prevent_thread_lock=True,
        share=False,
        quiet=True,
        theme=theme,
        footer_links=[],
        css=styles(),
        # The annotated clips, which the page plays.
        allowed_paths=[explorer.videos.folder],
        max_file_size=f"{config.max_upload_mb}mb",
        state_session_capacity=100,
        enable_monitoring=False,
        # On a busy machine it would not wait for its own first page, and end.
        _frontend=False,
        app_kwargs={"middleware": [Middleware(_ContentPolicy)], "docs_url": None, "redoc_url": None},
    )
    return page, url


class _ContentPolicy:
    """Adds the content policy to every answer."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: dict, receive: Any, send: Any) -> None:
        async def with_policy(message: dict) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"content-security-policy", CONTENT_POLICY.encode())]
            await send(message)

        await self._app(scope, receive, with_policy)


def _refuse_taken(host: str, port: int) -> None:
    try:
        hosts.listener(host, port).close()
    except OSError as error:
        raise InputError(f"`host` {host!r} with `port` {port} cannot be listened on: {error.strerror}.") from None


def _free_port(host: str) -> int:
    with hosts.listener(host, 0) as probe:
        return probe.getsockname()[1]


if __name__ == "__main__":
    sys.exit(run_command(main))
