"""Sends mails: each is a job, and reaches the mail server at most once.

SMTP has one moment at which nobody knows whether a mail was sent: after the message was handed over and before the
server answered. The job is marked right before that moment. A job that is found with the mark is not sent again, since
a lost notice is better than a doubled one. After any failure before that moment, and after a refusal, the mail was
certainly not sent.
"""

import asyncio
import hashlib
import logging
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from prometheus_client import Counter

from registry.accounts import store as accounts
from registry.db.engine import Connection, Database
from registry.errors import MailUnavailable
from registry.events.details import users_in, with_names
from registry.events.notices import INVITED
from registry.jobs import queue
from registry.jobs.queue import Job
from registry.mail import smtp, store, texts
from registry.mail.configuration import Configuration
from registry.mail.message import compose
from registry.mail.texts import NOTICES, RESET, VERIFY, Facts, Text

log = logging.getLogger(__name__)

MAILS = Counter("registry_mails_total", "Mails by what happened to them", ["outcome"])
SENT, REFUSED, DEFERRED, UNKNOWN, NOT_NEEDED = "sent", "refused", "deferred", "unknown", "not_needed"
for _outcome in (SENT, REFUSED, DEFERRED, UNKNOWN):
    MAILS.labels(_outcome)  # creates the series at 0, so that alerts see the first failure as an increase

VERIFY_VALID, RESET_VALID = timedelta(hours=24), timedelta(minutes=30)
# At most MOST_PER_ADDRESS links of a kind are sent to one address within PER.
MOST_PER_ADDRESS, PER = 3, timedelta(hours=1)
MAX_INVITATIONS = 50
LINKS = {VERIFY: VERIFY, "user.create": VERIFY, RESET: RESET}
"""The purposes of links, by the action of the job."""
KEPT = timedelta(days=1)


@dataclass(slots=True)
class Content:
    """What a mail says, and what was stored for it: the hash of its token, and the invitations it tells of."""

    name: str
    text: Text
    token_hash: str = ""
    invitations: Sequence[int] = ()


class Mailer:
    """Runs the jobs that send mail. Without a configuration it sends nothing, and the jobs end."""

    def __init__(self, db: Database, configuration: Configuration | None) -> None:
        self._db = db
        self._configuration = configuration

    async def run(self, job: Job) -> None:
        """Raises MailUnavailable if the mail must be sent later."""
        if self._configuration is None:
            return
        if job.has_begun:
            log.warning(
                "mail may have been sent and is not sent again", extra={"id": job.id, "act": job.payload["action"]}
            )
            MAILS.labels(UNKNOWN).inc()
            return
        outcome = DEFERRED
        try:
            async with asyncio.timeout(smtp.TOTAL_SECONDS):
                outcome = await self._send(self._configuration, job)
        except smtp.Refused as error:
            log.warning("mail refused", extra={"id": job.id, "act": job.payload["action"], "reason": str(error)})
            outcome = REFUSED
        except smtp.Unknown as error:
            log.warning(
                "mail may have been sent", extra={"id": job.id, "act": job.payload["action"], "reason": str(error)}
            )
            outcome = UNKNOWN
        except TimeoutError as error:
            raise MailUnavailable("The mail server is too slow.") from error
        finally:
            MAILS.labels(outcome).inc()

    async def _send(self, configuration: Configuration, job: Job) -> str:
        async with self._db.read() as conn:
            to = await _address(conn, job)
        if to is None:
            return NOT_NEEDED
        recipient = smtp.ascii_domain(to)
        async with smtp.opened(configuration, recipient) as envelope:
            async with self._db.transaction() as conn:
                if not await queue.begin_once(conn, job):
                    return NOT_NEEDED  # another worker has taken the job
                content = await _content(conn, configuration, job, to)
                if content is None:
                    return NOT_NEEDED
                # Before the commit: if it fails, nothing was sent, and the mark must not stay.
                message = compose(configuration, recipient, content.name, content.text)
            try:
                await envelope.send(message)
            except MailUnavailable:
                await self._undo(job, content)
                raise
        log.info("mail sent", extra={"id": job.id, "act": job.payload["action"]})
        return SENT

    async def _undo(self, job: Job, content: Content) -> None:
        async with self._db.transaction() as conn:
            await queue.undo_begin(conn, job)
            if content.token_hash:
                await store.delete_token(conn, content.token_hash)
            if content.invitations:
                await store.mark_mailed(conn, content.invitations, mailed=False)


async def purge(db: Database) -> int:
    """Deletes the tokens of old links. Returns how many."""
    async with db.transaction() as conn:
        return await store.purge(conn, KEPT)


def hash_token(token: str) -> str:
    """SHA-256 in hex of the token in a link, which is stored instead of the token."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


async def _address(conn: Connection, job: Job) -> str | None:
    """Where the mail of a job goes.

    A link goes to the address that the account has stored, whatever spelling somebody typed. None if no account has the
    address, so that the mail server never hears of it.
    """
    to = str(job.payload["to"])
    if str(job.payload["action"]) not in LINKS:
        return to
    user = await store.user_by_email(conn, to)
    return None if user is None else str(user.email)


async def _content(conn: Connection, configuration: Configuration, job: Job, to: str) -> Content | None:
    """Writes the mail of a job to the address `to`. None if it is no longer needed."""
    action = str(job.payload["action"])
    if action in LINKS:
        return await _link(conn, configuration, to, LINKS[action])
    if action in INVITED:
        return await _invitations(conn, configuration, job)
    return Content(str(job.payload.get("name") or ""), await _notice(conn, configuration, job))


async def _link(conn: Connection, configuration: Configuration, address: str, purpose: str) -> Content | None:
    """A mail with a link. None if the address has no account any more, or got too many links within the last hour."""
    user = await store.user_by_email(conn, address)
    # The lock makes two jobs for one address count one after the other.
    if user is None or user.email != address or await accounts.lock_user(conn, user.id) is None:
        return None
    if await store.count_tokens(conn, purpose, address, PER) >= MOST_PER_ADDRESS:
        log.info("too many links for one address", extra={"user_id": user.id, "purpose": purpose})
        return None
    token = secrets.token_urlsafe(32)
    valid = VERIFY_VALID if purpose == VERIFY else RESET_VALID
    await store.add_token(conn, hash_token(token), purpose, user.id, address, valid)
    if purpose == VERIFY:
        text = texts.verify(configuration.registry, configuration.public_url, token, valid // timedelta(hours=1))
    else:
        text = texts.reset(configuration.registry, configuration.public_url, token, valid // timedelta(minutes=1))
    return Content(user.username, text, token_hash=hash_token(token))


async def _invitations(conn: Connection, configuration: Configuration, job: Job) -> Content | None:
    """A mail about all invitations that were not mailed yet. None if there are none."""
    user_id = job.payload.get("user_id")
    rows = await store.unmailed_invitations(conn, user_id, str(job.payload["to"]), MAX_INVITATIONS)
    if not rows:
        return None
    ids = [row.id for row in rows]
    await store.mark_mailed(conn, ids, mailed=True)
    text = texts.invitations(
        configuration.registry,
        configuration.public_url,
        [row._asdict() for row in rows],
        has_account=user_id is not None,
    )
    return Content(str(job.payload.get("name") or ""), text, invitations=ids)


async def _notice(conn: Connection, configuration: Configuration, job: Job) -> Text:
    given = job.payload
    details = given.get("details") or {}
    ids = {*users_in(details), *([given["actor_id"]] if given.get("actor_id") else [])}
    names = await accounts.names(conn, ids)
    facts = Facts(
        registry=configuration.registry,
        url=configuration.public_url,
        name=str(given.get("name") or ""),
        actor=names.get(given.get("actor_id") or 0, ""),
        package=await store.package(conn, given.get("package_id")),
        version=str(given.get("version") or ""),
        token_name=str(given.get("token_name") or ""),
        details=with_names(details, names),
    )
    return NOTICES[str(given["action"])](facts)
