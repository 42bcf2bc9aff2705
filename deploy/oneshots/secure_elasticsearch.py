"""Creates the Elasticsearch users of Kibana and the registry, or changes their passwords.

Reads the environment variables ES_URL, ELASTIC_PASSWORD, KIBANA_PASSWORD and REGISTRY_ES_PASSWORD.
"""

import json
import os
import sys

from http_json import ask, basic, wait_for

WAIT_SECONDS = 300.0
# What the registry needs: its own indices and index templates.
ROLE = {
    "cluster": ["monitor", "manage_index_templates"],
    "indices": [{"names": ["packages*", "versions*", "registry-*"], "privileges": ["all"]}],
}


def main() -> None:
    url = os.environ["ES_URL"]
    headers = {**basic("elastic", os.environ["ELASTIC_PASSWORD"]), "Content-Type": "application/json"}
    wait_for("Elasticsearch", lambda: ask("GET", f"{url}/_security/_authenticate", headers)[0] == 200, WAIT_SECONDS)
    user = {"password": os.environ["REGISTRY_ES_PASSWORD"], "roles": ["registry"], "full_name": "Package registry"}
    for path, body in (
        ("user/kibana_system/_password", {"password": os.environ["KIBANA_PASSWORD"]}),
        ("role/registry", ROLE),
        ("user/registry", user),
    ):
        status, answer = ask("PUT", f"{url}/_security/{path}", headers, json.dumps(body).encode())
        if status != 200:
            sys.exit(f"Elasticsearch refused {path} ({status}): {answer}")
    sys.stdout.write("The Elasticsearch users kibana_system and registry are set up\n")


if __name__ == "__main__":
    main()
