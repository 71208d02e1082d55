"""Mutated requests over HTTP, for `benchmarks/serving_fuzz.py`: wrong images, JSON, addresses, headers and HTTP."""

from __future__ import annotations

import base64
import http.client
import json
import random
import socket
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks.wrong_images import WrongImages

PREDICT = "/v1/models/fa_net:predict"
REFUSALS = {400, 404, 405, 408, 413, 415, 429, 501, 503}
# Method, address, body, headers; or bytes that are sent as they are.
Request = tuple[str, str, bytes, dict[str, str]] | bytes
ODD = (
    "null",
    "true",
    "-1",
    "1e400",
    "NaN",
    "-Infinity",
    "9" * 5000,
    "[]",
    "{}",
    '""',
    '"\\ud800"',
    '"\\u0000"',
    "[" * 3000 + "]" * 3000,
    "[" * 200_000,
    '{"b64": "*"}',
    '{"b64": 1}',
    '{"b64": "", "b64": ""}',
    '{"b64": "aGFsbG8="}',
    '[[1], [2, 3], "x"]',
    "[" + "[]," * 20_000 + "[]]",
)
ADDRESSES = (
    "/",
    "/v1",
    "/v1/models",
    "/v1/models/nobody:predict",
    "/v1/models/fa_net:nonsense",
    "/v1/models/fa_net/versions/-1:predict",
    "/v1/models/fa_net/versions/77:predict",
    f"/v1/models/fa_net/versions/{'9' * 400}:predict",
    "/v1/models/fa_net/labels/none:predict",
    "/v1/models/%2e%2e/fa_net:predict",
    "/v1/models/fa_net%00:predict",
    "/v1/models/fa_net:predict/metadata",
    "/v1/models/fa_net:regress",
    "/v1/models/" + "x" * 5000 + ":predict",
    "//v1/models/fa_net",
    "/readyz/../v1",
)


class RestMutator(WrongImages[Request]):
    """Makes wrong HTTP requests; each method is one kind. Wrong images are those that go over gRPC."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.wrong: tuple[Callable[[], Any], ...] = (
            self.damaged_image,
            self.cut_image,
            self.random_bytes_as_image,
            self.huge_claim,
            self.many_images,
            self.flipped_body,
            self.cut_body,
            self.random_body,
            self.odd_value,
            self.odd_pixels,
            self.odd_example,
            self.other_keys,
            self.other_address,
            self.other_method,
            self.odd_header,
            self.odd_http,
        )

    def body(self, images: Sequence[bytes] = (), **more: Any) -> bytes:
        """A correct body of the images, in rows or columns."""
        encoded = [{"b64": base64.b64encode(image).decode()} for image in images or (self.jpeg, self.png)]
        rows = [{"image_bytes": image} for image in encoded] if self.rng.random() < 0.5 else encoded
        said = {"instances": rows} if self.rng.random() < 0.5 else {"inputs": {"image_bytes": encoded}}
        return json.dumps({**said, **more}).encode()

    def _post(self, body: bytes, path: str = PREDICT) -> Request:
        return "POST", path, body, {"Content-Type": "application/json"}

    def _among_good(self, bad: bytes) -> Request:
        images = [self._image() for _ in range(self.rng.randrange(4))]
        images.insert(self.rng.randint(0, len(images)), bad)
        return self._post(self.body(images, signature_name=self.rng.choice(("serving_default", "embed"))))

    def many_images(self) -> Request:
        """Too many of them."""
        return self._post(self.body([b"\xff\xd8\xff"] * self.rng.choice((65, 500, 5000))))

    def flipped_body(self) -> Request:
        """A correct body with wrong bytes, most of them in its beginning."""
        data = bytearray(self.body())
        for _ in range(self.rng.choice((1, 5, 50))):
            data[self.rng.randrange(min(len(data), self.rng.choice((60, 100_000))))] = self.rng.randrange(256)
        return self._post(bytes(data))

    def cut_body(self) -> Request:
        """The beginning of a correct body."""
        data = self.body()
        return self._post(data[: self.rng.randrange(len(data))])

    def random_body(self) -> Request:
        """Bytes."""
        return self._post(self.rng.randbytes(self.rng.randrange(3000)))

    def odd_value(self) -> Request:
        """JSON where an image should be."""
        odd = self.rng.choice(ODD)
        form = self.rng.choice(
            (
                '{"instances": [%s]}',
                '{"instances": %s}',
                '{"inputs": %s}',
                '{"inputs": {"image_bytes": %s}}',
                '{"inputs": {"image_bytes": [%s]}}',
                "%s",
                '{"signature_name": %s, "instances": [""]}',
            )
        )
        return self._post((form % odd).encode())

    def odd_pixels(self) -> Request:
        """Lists where pixels should be."""
        image: Any = np.zeros((2, self.rng.choice((1, 3)), self.rng.choice((1, 2, 3, 4))), int).tolist()
        image[0][0][0] = self.rng.choice((256, -1, 1.5, None, True, "x", [], 10**30, float("nan")))
        pixels = self.rng.choice((image, image[0], [image], []))
        return self._post(json.dumps({"signature_name": "predict_images", "instances": [pixels]}).encode())

    def odd_example(self) -> Request:
        """Examples for `classify` with other features."""
        value = self.rng.choice(("x", 1, 1.5, None, True, ["x", 1], [], {"b64": "eA"}, {"b64": "*"}, 2**80, {}))
        example = self.rng.choice(({"image/encoded": value}, {"other": value}, value, {}))
        said: dict[str, Any] = {"signature_name": self.rng.choice(("classify", "", "embed")), "examples": [example]}
        if self.rng.random() < 0.3:
            said["context"] = self.rng.choice((example, [], "x"))
        if self.rng.random() < 0.2:
            said["examples"] = self.rng.choice(([], {}, "x", [example] * 5000))
        return self._post(json.dumps(said).encode(), f"/v1/models/fa_net:{self.rng.choice(('classify', 'regress'))}")

    def other_keys(self) -> Request:
        """Inputs that the signature does not have, or not all of them."""
        name = self.rng.choice(("x", "images", "", "é" * 500, "image_bytes "))
        row = {name: {"b64": ""}} if self.rng.random() < 0.5 else {"image_bytes": "", name: ""}
        said = self.rng.choice(({"instances": [row]}, {"inputs": row}, {"instances": [{"image_bytes": ""}, row]}))
        return self._post(json.dumps(said).encode())

    def other_address(self) -> Request:
        """A model, version, label or path that is none."""
        return self._post(self.body(), self.rng.choice(ADDRESSES))

    def other_method(self) -> Request:
        """Another HTTP method."""
        path = self.rng.choice((PREDICT, "/v1/models/fa_net", "/v1/models/fa_net/metadata", "/healthz"))
        wrong = ("PUT", "DELETE", "PATCH", "BREW", "GET" if path == PREDICT else "POST")
        return self.rng.choice(wrong), path, self.body(), {}

    def odd_header(self) -> Request:
        """Headers that do not fit the body."""
        name, value = self.rng.choice(
            (
                ("Content-Encoding", "gzip"),
                ("Content-Length", "-1"),
                ("Content-Length", "9" * 30),
                ("Content-Length", "99999999999"),
                ("Transfer-Encoding", "gzip"),
                ("X", "x" * 60_000),
                ("Expect", "nonsense"),
                ("Host", "[::"),
                ("Content-Type", "multipart/form-data"),
            )
        )
        return "POST", PREDICT, self.body(), {name: value}

    def odd_http(self) -> Request:
        """Bytes that are no HTTP, or not quite."""
        body = self.body()
        head = f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n".encode()
        return self.rng.choice(
            (
                self.rng.randbytes(300) + b"\r\n\r\n",
                b"GET / HTTP/1.1\r\n\r\n",
                b"GET " + b"/" * 60_000 + b" HTTP/1.1\r\n",
                head + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n" + body,
                head + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % (len(body) * 2) + body + b"\r\n0\r\n\r\n",
                head + b"Content-Length: 10\r\nTransfer-Encoding: chunked\r\n\r\n" + body,
                head + b"Content-Length: 10\r\nContent-Length: 20\r\n\r\n" + body,
                head + b"Content-Length: %d\r\n\r\n" % (len(body) // 2) + body,
                head + b"Content-Length: %d\r\n\r\n" % len(body) + body[: len(body) // 2],
                head.replace(b"1.1", b"3.0") + b"\r\n",
            )
        )


class RestTarget:
    """Asks over HTTP.

    Args:
      address: `host:port`.
      seed: seed of the mutations.
    """

    def __init__(self, address: str, seed: int) -> None:
        self._host, self._port = address.rsplit(":", 1)
        self._mutator = RestMutator(seed)
        self.rng: random.Random = self._mutator.rng

    def answer(self) -> np.ndarray:
        """Returns the probabilities of the two correct pictures."""
        code, said = self._ask(self._mutator._post(self._mutator.body()))
        if code != 200:
            raise RuntimeError(f"the correct request was answered {code}: {said}")
        if "outputs" in said:
            return np.array(said["outputs"]["probabilities"])
        return np.array([row["probabilities"] for row in said["predictions"]])

    def ask_wrongly(self) -> tuple[str, str, bool]:
        """Sends a mutated request; returns its kind, the code, and whether it is an answer or a refusal in JSON."""
        kind = self.rng.choice(self._mutator.wrong)
        request = kind()
        code, said = self._send(request) if isinstance(request, bytes) else self._ask(request)
        # Half a request, cut off, may get no answer at all.
        fair = (
            code == 200 or (code in REFUSALS and set(said) == {"error"}) or (code == 0 and isinstance(request, bytes))
        )
        return kind.__name__, str(code), fair

    def cut(self) -> None:
        """Sends the start of a request and is gone."""
        body = self._mutator.body()
        start = f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
        with socket.create_connection((self._host, int(self._port)), timeout=10) as raw:
            raw.sendall(start[: self.rng.randrange(len(start))])

    def _ask(self, request: tuple[str, str, bytes, dict[str, str]]) -> tuple[int, Any]:
        method, path, body, headers = request
        connection = http.client.HTTPConnection(self._host, int(self._port), timeout=60)
        connection.putrequest(method, path, skip_host="Host" in headers)
        if not {"Content-Length", "Transfer-Encoding"} & headers.keys():
            headers = {**headers, "Content-Length": str(len(body))}
        for name, value in headers.items():
            connection.putheader(name, value)
        try:
            connection.endheaders()
            connection.send(body)
        except (BrokenPipeError, ConnectionResetError):
            pass  # Refused before the body was read; the answer is there all the same.
        try:
            return self._read(connection.getresponse())
        finally:
            connection.close()

    def _send(self, data: bytes) -> tuple[int, Any]:
        with socket.create_connection((self._host, int(self._port)), timeout=60) as raw:
            try:
                raw.sendall(data)
                raw.shutdown(socket.SHUT_WR)
                response = http.client.HTTPResponse(raw)
                response.begin()
                return self._read(response)
            except (http.client.BadStatusLine, ConnectionResetError, BrokenPipeError):
                return 0, {}

    @staticmethod
    def _read(response: http.client.HTTPResponse) -> tuple[int, Any]:
        if response.headers.get("content-type") != "application/json":
            # No refusal is an HTML page; health is told as text.
            return response.status if response.status == 200 else -1, {}
        return response.status, json.loads(response.read())
