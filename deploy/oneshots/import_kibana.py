"""Imports the dashboards into Kibana and replaces those of an earlier import.

Reads the environment variables KIBANA_URL, KIBANA_OBJECTS (a file) and, if security is on, ELASTIC_PASSWORD.
"""

import json
import os
import sys
import uuid
from pathlib import Path

from http_json import ask, basic, wait_for

WAIT_SECONDS = 300.0


def main() -> None:
    url, objects = os.environ["KIBANA_URL"], Path(os.environ["KIBANA_OBJECTS"])
    headers = basic("elastic", os.environ.get("ELASTIC_PASSWORD", ""))

    def available() -> bool:
        status, answer = ask("GET", f"{url}/api/status", headers)
        return status == 200 and answer["status"]["overall"]["level"] == "available"

    wait_for("Kibana", available, WAIT_SECONDS)
    boundary = uuid.uuid4().hex
    status, answer = ask(
        "POST",
        f"{url}/api/saved_objects/_import?overwrite=true",
        {**headers, "kbn-xsrf": "true", "Content-Type": f"multipart/form-data; boundary={boundary}"},
        form(boundary, objects.read_bytes()),
    )
    # Kibana also answers 200 if the import failed.
    if status != 200 or answer.get("success") is not True:
        sys.exit(f"Kibana refused the dashboards ({status}): {json.dumps(answer)}")
    sys.stdout.write(f"{answer['successCount']} objects imported into Kibana\n")


def form(boundary: str, objects: bytes) -> bytes:
    """The multipart body. Kibana requires a file name that ends in .ndjson."""
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="registry.ndjson"\r\n'
    return head.encode() + b"Content-Type: application/ndjson\r\n\r\n" + objects + f"\r\n--{boundary}--\r\n".encode()


if __name__ == "__main__":
    main()
