"""Answers as Kibana does to the health check and to an import of saved objects. Kibana is not in Debian."""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self._answer({"status": {"overall": {"level": "available"}}})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        objects = [line for line in body.splitlines() if line.startswith(b'{"attributes"')]
        self._answer({"success": True, "successCount": len(objects), "errors": []})

    def _answer(self, document: object) -> None:
        body = json.dumps(document, separators=(",", ":")).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    ThreadingHTTPServer(("0.0.0.0", 5601), Handler).serve_forever()  # noqa: S104 - other containers call it
