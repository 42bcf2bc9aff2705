"""Real servers that only the tests need: S3 (S3Proxy over a folder) and Redis (the wheel's own program)."""

import http.client
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from ephemeral_port_reserve import reserve

from registry.devstack.processes import ChildProcess, claim

START_SECONDS = 60.0
HOST = "127.0.0.1"


class Server:
    """A loopback server with one port, kept over a stop and a new start; `with` starts and stops it."""

    name: str

    def __init__(self, folder: Path, port: int, environ: Mapping[str, str]) -> None:
        self.folder = folder.resolve()
        self.port = port or reserve()
        self._environ = environ
        self._child: ChildProcess | None = None

    @property
    def url(self) -> str:
        raise NotImplementedError

    def _command(self) -> list[str | Path]:
        raise NotImplementedError

    def _is_ready(self) -> bool:
        raise NotImplementedError

    def start(self) -> str:
        """Its URL, once it answers. Raises StackError when it doesn't."""
        with claim(self.folder, self.name) as lock:
            self._child = ChildProcess(
                self.name, self._command(), lock=lock, log=self.folder / "output.log", environ=self._environ
            )
        self._child.wait_until(self._is_ready, seconds=START_SECONDS)
        return self.url

    def stop(self) -> None:
        """Ends it and waits until it is gone. May be called again, or before `start`."""
        if self._child is not None:
            self._child.stop()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class S3Proxy(Server):
    """An S3 server over `base_dir`: virtual hosts off, signatures 2 and 4, one pair of keys."""

    name = "S3Proxy"
    access_key = "test-access-key"
    secret_key = "test-secret-key"

    def __init__(
        self, jar: Path, java_home: Path, base_dir: Path, port: int = 0, *, environ: Mapping[str, str]
    ) -> None:
        super().__init__(base_dir, port, environ)
        self._jar = jar
        self._java = java_home / "bin" / "java"

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def _command(self) -> list[str | Path]:
        blobs = self.folder / "blobs"
        blobs.mkdir(exist_ok=True)
        properties = {
            "s3proxy.endpoint": self.url,
            "s3proxy.authorization": "aws-v2-or-v4",
            "s3proxy.identity": self.access_key,
            "s3proxy.credential": self.secret_key,
            "jclouds.provider": "filesystem-nio2",
            "jclouds.filesystem.basedir": blobs,
        }
        settings = self.folder / "s3proxy.properties"
        settings.write_text("".join(f"{name}={value}\n" for name, value in properties.items()), encoding="utf-8")
        return [self._java, "-Xmx256m", "-jar", self._jar, "--properties", settings]

    def _is_ready(self) -> bool:
        connection = http.client.HTTPConnection(HOST, self.port, timeout=5)
        try:
            connection.request("GET", "/")
            return connection.getresponse().status == 403  # it speaks S3, and wants a signature
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


class Redis(Server):
    """A Redis without persistence, all of whose files are in `folder`."""

    name = "Redis"

    def __init__(self, program: Path, folder: Path, port: int = 0, *, environ: Mapping[str, str]) -> None:
        super().__init__(folder, port, environ)
        self._program = program

    @property
    def url(self) -> str:
        return f"redis://{HOST}:{self.port}/0"

    def _command(self) -> list[str | Path]:
        options = {"--bind": HOST, "--port": self.port, "--dir": self.folder, "--save": "", "--appendonly": "no"}
        return [self._program, *(str(part) for option in options.items() for part in option)]

    def _is_ready(self) -> bool:
        try:
            with socket.create_connection((HOST, self.port), timeout=5) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(64).startswith(b"+PONG")
        except OSError:
            return False


def cache_folder(environ: Mapping[str, str]) -> Path:
    """Where the downloaded servers are kept between test runs."""
    return Path(environ.get("REGISTRY_CACHE_DIR") or Path.home() / ".cache" / "synapse-registry")
