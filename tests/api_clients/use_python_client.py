"""What a user of the generated Python client would write. Run as `python use_python_client.py URL TARBALL`."""

import sys
from io import BytesIO
from pathlib import Path

from synapse_client import AuthenticatedClient, Client
from synapse_client.api.accounts import log_in, register_user, report_tokens
from synapse_client.api.downloads import download_version
from synapse_client.api.packages import get_package, publish_tarball
from synapse_client.api.search import search_packages
from synapse_client.models import LeakedToken, LoggedIn, LoginRequest, Problem, Published, Registered, Registration
from synapse_client.types import File

PASSWORD = "Correct-Horse-42"


def main(url: str, file: Path) -> None:
    stranger = Client(base_url=url)
    registered = register_user.sync(client=stranger, body=Registration(username="grace", password=PASSWORD))
    assert isinstance(registered, Registered)
    taken = register_user.sync(client=stranger, body=Registration(username="grace", password=PASSWORD))
    assert isinstance(taken, Problem)
    assert taken.code == "user_exists"
    login = log_in.sync(client=stranger, body=LoginRequest(username="grace", password=PASSWORD))
    assert isinstance(login, LoggedIn)

    grace = AuthenticatedClient(base_url=url, token=login.token)
    body = File(payload=BytesIO(file.read_bytes()))
    published = publish_tarball.sync("from-python", "1.0.0", client=grace, body=body)
    assert isinstance(published, Published)
    found = search_packages.sync(client=grace, q="from-python", min_seq=published.seq)
    assert [result.name for result in found.packages] == ["from-python"]
    package = get_package.sync("from-python", client=grace)
    assert package.owners == ["grace"]
    downloaded = download_version.sync("from-python", "latest", client=grace)
    assert downloaded.payload.read() == file.read_bytes()
    labels = report_tokens.sync(client=stranger, body=[LeakedToken(token="syn_nobody-has-it")])
    assert [label.label for label in labels] == ["false_positive"]


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
