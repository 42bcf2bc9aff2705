"""A real nginx with the configuration of deploy/nginx. Only paths, addresses and ports are changed."""

import http.client
import os
from pathlib import Path

from ephemeral_port_reserve import reserve

from registry.devstack.processes import ChildProcess, claim, hand_over, make_reachable, unprivileged_user
from tests.deploy.stack import ROOT
from tests.servers import START_SECONDS, Server


def readable(folder: Path) -> Path:
    """Creates a folder whose files nginx can read, also when root starts nginx and it runs as another user."""
    folder.mkdir()
    user = unprivileged_user()
    if user is not None:
        make_reachable(folder)
        os.chown(folder, -1, user.gid)
        folder.chmod(0o2755)  # new files get the folder's group
    return folder


class Nginx(Server):
    """`with` starts and stops it. If `certificates` is given, it uses tls/ instead of plain/.

    `blobs` is a folder of tarballs that nginx sends itself; `readable()` creates it.
    """

    name = "nginx"

    def __init__(
        self, program: Path, folder: Path, registry: str, *, certificates: Path | None = None, blobs: Path | None = None
    ) -> None:
        super().__init__(folder, 0, os.environ)
        self._program = program
        self._registry = registry.removeprefix("http://")
        self._certificates = certificates
        self._blobs = blobs
        self.tls_port = reserve()
        self._alive_port = reserve()
        self.temporary = self.folder / "tmp"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> str:
        user = unprivileged_user()
        with claim(self.folder, self.name) as lock:
            self._write_configuration()
            log = self.folder / "output.log"
            log.touch()
            hand_over(self.folder, user)
            self._child = ChildProcess(self.name, self._command(), lock=lock, log=log, environ=self._environ, user=user)
        self._child.wait_until(self._is_ready, seconds=START_SECONDS)
        return self.url

    def _write_configuration(self) -> None:
        self.temporary.mkdir(exist_ok=True)  # an earlier server may have used this port
        places = {
            "/tmp/": f"{self.temporary}/",  # noqa: S108 - first: the others bring paths of their own
            "/etc/nginx/server/": f"{self.folder}/{'tls' if self._certificates else 'plain'}/",
            "/etc/nginx/certificates": str(self._certificates),
            "/etc/nginx/registry/": f"{self.folder}/",
            "/var/lib/registry/packages/blobs": str(self._blobs),
            "/dev/stdout": f"{self.folder}/access.log",
            # nginx supports `resolve` since 1.27.3; Debian's version is older.
            "registry-behind-nginx:8080 resolve max_fails=1 fail_timeout=15s": self._registry,
            "listen 8080": f"listen 127.0.0.1:{self.port}",
            "listen 8443": f"listen 127.0.0.1:{self.tls_port}",
            "listen 127.0.0.1:8081": f"listen 127.0.0.1:{self._alive_port}",
        }
        source = ROOT / "deploy" / "nginx"
        for file in source.rglob("*.conf"):
            text = file.read_text()
            for place, here in places.items():
                text = text.replace(place, here)
            copy = self.folder / file.relative_to(source)
            copy.parent.mkdir(exist_ok=True)
            copy.write_text(text)

    def _command(self) -> list[str | Path]:
        return [self._program, "-e", "stderr", "-p", self.folder, "-c", self.folder / "nginx.conf", "-g", "daemon off;"]

    def _is_ready(self) -> bool:
        """Sends the request of the container's health check."""
        connection = http.client.HTTPConnection("127.0.0.1", self._alive_port, timeout=5)
        try:
            connection.request("GET", "/")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
