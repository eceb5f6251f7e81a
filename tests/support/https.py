"""An HTTPS server on loopback with one git repository, and a certificate authority of the test's own."""

from __future__ import annotations

import base64
import contextlib
import gzip
import ssl
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

USER, PASSWORD = "grace", "pass-word-1906"
_CONFIG = """\
[req]
distinguished_name = name
x509_extensions = all
[name]
[all]
basicConstraints = critical,CA:TRUE
subjectAltName = DNS:localhost,IP:127.0.0.1
"""


@dataclass(slots=True)
class GitOverHttps:
    """The server. ``redirect`` and ``broken`` change what it answers; ``seen`` are the paths it was asked for."""

    port: int
    authority: Path
    redirect: str = ""
    broken: bool = False
    seen: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        """The repository's address."""
        return f"https://localhost:{self.port}/owner/project"


def _upload_pack(repository: Path, *options: str, stdin: bytes = b"") -> bytes:
    trusted = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": "*"}
    return subprocess.run(
        ["git", "upload-pack", "--stateless-rpc", *options, str(repository)],
        input=stdin,
        capture_output=True,
        timeout=60,
        check=False,
        env={"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", **trusted},
    ).stdout


def _handler(state: GitOverHttps, repository: Path, token: str) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def _answer(self, kind: str, body: bytes, status: int = 200) -> None:
            self.send_response(status)
            if status == 401:
                self.send_header("WWW-Authenticate", 'Basic realm="test"')
            if state.redirect and status == 302:
                self.send_header("Location", state.redirect + self.path)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def _allowed(self) -> bool:
            state.seen.append(self.path)
            if state.redirect:
                self._answer("text/plain", b"", 302)
            elif self.headers.get("Authorization") != token:
                self._answer("text/plain", b"who are you?", 401)
            else:
                return True
            return False

        def do_GET(self) -> None:
            if self._allowed():
                line = b"# service=git-upload-pack\n"
                body = b"%04x" % (len(line) + 4) + line + b"0000" + _upload_pack(repository, "--advertise-refs")
                self._answer("application/x-git-upload-pack-advertisement", body)

        def do_POST(self) -> None:
            asked = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            asked = gzip.decompress(asked) if self.headers.get("Content-Encoding") == "gzip" else asked
            if self._allowed():
                body = _upload_pack(repository, stdin=asked)
                self._answer("application/x-git-upload-pack-result", body[: len(body) // 2] if state.broken else body)

        def log_message(self, *_: object) -> None:
            pass

    return Handler


@contextlib.contextmanager
def serve(repository: Path, folder: Path) -> Iterator[GitOverHttps]:
    """Serve ``repository`` to whoever knows the password; keys and certificates go to ``folder``."""
    folder.mkdir()
    (folder / "openssl.cnf").write_text(_CONFIG)
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-config", "openssl.cnf", "-keyout", "key.pem", "-out", "ca.pem"],
        cwd=folder, check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    state = GitOverHttps(port=0, authority=folder / "ca.pem")
    token = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()

    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(state, repository, token))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "ca.pem", folder / "key.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    state.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
