"""TLS and mutual TLS, with certificates made here."""

from __future__ import annotations

import datetime
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from fer_tf.errors import InputError, ServerError
from fer_tf.recognition.server import Connection, TlsFiles
from tests.serving.conftest import serving
from tests.serving.test_lifecycle import http


def make_certificate(folder: Path, name: str, issuer: tuple | None = None) -> tuple:
    """A key and certificate for localhost; its own authority without an issuer. Files `<name>.key` and `.crt`."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer[1].subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
    )
    certificate = builder.sign(issuer[0] if issuer else key, hashes.SHA256())
    (folder / f"{name}.key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    (folder / f"{name}.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return key, certificate


@pytest.fixture
def certificates(tmp_path: Path) -> Iterator[Path]:
    authority = make_certificate(tmp_path, "authority")
    for name in ("server", "client"):
        make_certificate(tmp_path, name, authority)
    foreign = make_certificate(tmp_path, "stranger")
    make_certificate(tmp_path, "intruder", foreign)
    yield tmp_path


def written(path: Path) -> str:
    """A PEM file as a text of TensorFlow Serving's files."""
    return path.read_text().replace("\n", "\\n")


def test_tls_and_mutual_tls(small: str, faces: list[bytes], certificates: Path) -> None:
    def text(name: str) -> str:
        return written(certificates / name)

    config = certificates / "ssl.config"
    config.write_text(
        f'server_key: "{text("server.key")}" server_cert: "{text("server.crt")}" '
        f'custom_ca: "{text("authority.crt")}" client_verify: true'
    )
    files = {path.name: str(path) for path in certificates.iterdir()}
    with serving(model_base_path=small, ssl_config_file=str(config)) as server:
        address = f"localhost:{server.port}"
        tls = TlsFiles(files["authority.crt"], files["client.crt"], files["client.key"])
        with Connection(address, tls=tls) as connection:
            connection.wait(20)
            assert len(connection.classify_encoded(faces[:2])) == 2
        # The HTTP port, which speaks in the clear, tells how the server is and answers no question.
        assert http(server.http, "/readyz")[0] == http(server.http, "/v1/models/fa_net")[0] == 200
        code, said = http(server.http, "/v1/models/fa_net:predict", b"{}")
        assert code == 403 and "over TLS alone" in said
        stranger = TlsFiles(files["stranger.crt"])
        with (
            Connection(address, tls=stranger) as connection,
            pytest.raises(ServerError, match=r"but no TLS comes about: `ca_cert` must hold the authority"),
        ):
            connection.wait(1)
        strangers = (
            None,
            TlsFiles(files["authority.crt"]),
            TlsFiles(files["stranger.crt"]),
            # It trusts the server and shows a certificate, but one that another authority signed.
            TlsFiles(files["authority.crt"], files["intruder.crt"], files["intruder.key"]),
        )
        for tls in strangers:
            with Connection(address, tls=tls) as connection, pytest.raises(ServerError):
                connection.wait(1)
                connection.classify_encoded(faces[:1])


def test_a_wrong_certificate_is_told_as_such_and_a_taken_port_as_that(small: str, certificates: Path) -> None:
    config = certificates / "ssl.config"
    names = {"server_key": "server.key", "server_cert": "server.crt", "custom_ca": "authority.crt"}
    right = {field: written(certificates / name) for field, name in names.items()}

    def told(port: int = 0, **wrong: str) -> str:
        config.write_text(" ".join(f'{field}: "{text}"' for field, text in {**right, **wrong}.items()))
        with (
            pytest.raises(InputError) as error,
            serving(model_base_path=small, ssl_config_file=str(config), port=port, rest_api_port=-1),
        ):
            raise AssertionError("it serves")
        return str(error.value)

    for field in names:
        assert f"{field} must be the PEM text itself" in told(**{field: "/etc/server.pem"})
    another = written(certificates / "client.key")
    for field, text in (("server_cert", right["server_cert"][:200]), ("server_key", another)):
        said = told(**{field: text})
        assert said.startswith(
            f"`ssl_config_file` '{config}': a text of server_key, server_cert or custom_ca is damaged"
        )
        assert text[100:150] not in said
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert told(port).startswith(f"`port` {port} cannot be used")
