"""The commands `log key` and `log verify`."""

import argparse
import contextlib
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

from registry.errors import SettingsError, StackError
from registry.setting_files import read_secret
from registry.setting_types import log_keys

KEY_HELP = """\
Without FILE, the command uses the file that REGISTRY_LOG_KEY_FILE names. If that
is not set either, it prints a private key and stores nothing.

A new file gets a new key. In a file that already has keys, the new key is put
before them: the registry signs with it after its next start, and the former key
vouches for it. The command prints the new public key, for `log verify --key`.

examples:
  synapse-registry log key /etc/synapse/log.key
"""

VERIFY_HELP = """\
Without --url, the command checks the log in the database of the settings. If a
change does not fit, it names the first such change.

With --state, it remembers the newest checkpoint and its key in FILE. The next
time it finds out if the log was cut off or rewritten, or if it is signed by a
new key that the remembered key does not vouch for.

examples:
  synapse-registry log verify
  synapse-registry log verify --url https://registry.example.com --state log.json

exit status:
  0  the log fits
  1  the log does not fit
  2  the log could not be checked
"""


def add_commands(add: Callable[..., argparse.ArgumentParser], commands: Any) -> None:
    """Adds both commands. `add` makes a command below the subparsers that it is given."""
    text = "sign and verify the log of changes"
    group = commands.add_parser("log", help=text, description=f"{text.capitalize()}.")
    actions = group.add_subparsers(required=True, metavar="ACTION", title="actions")
    making = add("key", make_key, "make a key that signs the log of changes", actions)
    making.add_argument("file", nargs="?", type=Path, metavar="FILE", help="the file with the private keys")
    checking = add("verify", verify, "check that nobody has altered the log of changes", actions)
    checking.set_defaults(failed=2)
    checking.add_argument("--url", help="check the log of the registry at this address, from outside")
    checking.add_argument("--key", metavar="BASE64", help="the public key that you trust")
    checking.add_argument("--state", type=Path, metavar="FILE", help="remember the newest checkpoint in this file")
    checking.add_argument(
        "--token-file", type=Path, metavar="FILE", help="with --url: an API token, if reading needs it"
    )
    for command, text in ((making, KEY_HELP), (checking, VERIFY_HELP)):
        command.formatter_class, command.epilog = argparse.RawDescriptionHelpFormatter, text


def make_key(options: argparse.Namespace) -> None:
    from registry.changes.keys import SigningKey, encode, make_seed
    from registry.settings import environment

    seed = make_seed()
    named = environment().get("REGISTRY_LOG_KEY_FILE")
    file = options.file or (Path(named) if named else None)
    if file is None:
        _say(encode(seed))
        return
    # A shell has made the file empty if the output of the command is redirected into it.
    older = read_keys(file) if file.exists() and file.stat().st_size else ()
    _write(file, ",".join(encode(key) for key in (seed, *older)) + "\n")
    made = SigningKey(seed)
    _say(encode(made.public_key))
    _note(f"Key {made.key_id} is in {file}. Restart the registry, so that it signs with this key.")


def read_keys(file: Path) -> tuple[bytes, ...]:
    """The private keys in a file. Raises SettingsError."""
    try:
        return log_keys(read_secret(str(file)))
    except ValueError as wanted:
        raise SettingsError(f"{file} should be {wanted}") from None


def verify(options: argparse.Namespace) -> int:
    import asyncio  # the client's commands start without it

    import orjson

    from registry.changes import verify as verification

    state = _read_state(options.state)
    key = _checked_key(options.key)

    async def work() -> verification.Verified:
        async with _source(options) as source:
            return await verification.verify(source, key=key, state=state)

    try:
        found = asyncio.run(work())
    except verification.DoesNotFit as fault:
        _note(str(fault))
        return 1
    if options.state:
        _write(options.state, orjson.dumps(found.state(), option=orjson.OPT_INDENT_2).decode() + "\n")
    _say(f"{found.changes} changes up to {found.seq} fit, and so do {found.checkpoints} checkpoints.")
    if found.checkpoint is None:
        _note("The log is not signed, so a log that was rewritten as a whole is not found out.")
    elif not key and not state:
        _note(f"The key was not known before. Next time use --key {found.checkpoint['public_key']} or --state.")
    return 0


@contextlib.asynccontextmanager
async def _source(options: argparse.Namespace) -> AsyncIterator[Any]:
    if options.url:
        from registry.changes.remote import open_remote

        async with open_remote(options.url, _read_token(options.token_file)) as remote:
            yield remote
        return
    from registry import preflight
    from registry.changes.stored import StoredLog
    from registry.db.engine import open_database

    settings = preflight.settings()
    async with open_database(settings.database) as db:
        yield StoredLog(db, settings.log.keys)


def _read_token(file: Path | None) -> str:
    try:
        return read_secret(str(file)) if file else ""
    except ValueError as wanted:
        raise SettingsError(f"--token-file wants {wanted}") from None


def _checked_key(text: str | None) -> str | None:
    """A public key in base64. Raises SettingsError for another text."""
    from registry.changes.keys import encode

    if text is None:
        return None
    try:
        [key] = log_keys(text)
    except ValueError:
        raise SettingsError("--key wants one public key: 32 bytes in base64.") from None
    return encode(key)


def _read_state(file: Path | None) -> Mapping[str, Any] | None:
    """What an earlier verification remembered; None at the first time. Raises StackError."""
    if file is None or not file.exists():
        return None
    import orjson

    try:
        state = orjson.loads(file.read_bytes())
        return {**state, "seq": int(state["seq"]), "hash": str(state["hash"])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StackError(f"{file} is not a state that `log verify` wrote. Remove it to start anew.") from error


def _write(file: Path, text: str) -> None:
    """Writes a file that only its owner may read. It is complete or unchanged, even if the disk is full."""
    try:
        with tempfile.NamedTemporaryFile("w", dir=file.parent, prefix=f".{file.name}.", delete=False) as out:
            draft = Path(out.name)
            try:
                out.write(text)
                out.flush()
                draft.replace(file)
            except BaseException:
                draft.unlink(missing_ok=True)
                raise
    except OSError as error:
        raise StackError(f"{file} can't be written: {error.strerror}.") from error


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


def _note(text: str) -> None:
    sys.stderr.write(f"{text}\n")
