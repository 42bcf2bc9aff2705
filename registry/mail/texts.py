"""The texts of mails. Each function gets the facts of an act and returns what the mail says."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

VERIFY, RESET, INVITATIONS, OLD_ADDRESS = "verify", "reset", "invitations", "email.change"

IF_NOT_YOU = "If this wasn't you, reset your password at once and tell the registry's administrators."


@dataclass(frozen=True, slots=True)
class Text:
    """A mail: its subject, its paragraphs, and one link with its label. `closing` comes after the link."""

    subject: str
    paragraphs: Sequence[str]
    link: str = ""
    label: str = ""
    closing: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """What a text may mention. Names are looked up when the mail is written.

    `registry` is the host name of the registry, `url` its address. `actor` is "" for the operator.
    """

    registry: str
    url: str
    name: str
    actor: str
    package: str
    version: str
    token_name: str
    details: Mapping[str, Any]

    def user(self, value: Any) -> str:
        """The user name in a part of `details`."""
        return str(value.get("username") or "") if isinstance(value, Mapping) else ""


def verify(registry: str, url: str, token: str, hours: int) -> Text:
    return Text(
        f"Verify your e-mail address for {registry}",
        ["Somebody, probably you, entered this address for an account.", "Open the link to verify it."],
        f"{url}/account/verify?token={token}",
        "Verify",
        f"The link works for {hours} hours. If it wasn't you, ignore this mail.",
    )


def reset(registry: str, url: str, token: str, minutes: int) -> Text:
    return Text(
        f"Reset your password at {registry}",
        ["Somebody, probably you, wants to set a new password for your account.", "Open the link to choose one."],
        f"{url}/account/reset?token={token}",
        "Set password",
        f"The link works once, for {minutes} minutes. If it wasn't you, ignore this mail: nothing changes.",
    )


def invitations(registry: str, url: str, open_: Sequence[Mapping[str, Any]], *, has_account: bool) -> Text:
    """`open_` has the id, the package, the role, the inviter, is_transfer and expires_at of each invitation."""
    subject = f"You are invited to {open_[0]['package']}" if len(open_) == 1 else f"{len(open_)} invitations"
    first = "" if has_account else "Register with this e-mail address, or add it to your account, and verify it. "
    return Text(
        f"{subject} at {registry}",
        [_invitation(each, url) for each in open_],
        f"{url}/account/invitations",
        "See the invitation" if len(open_) == 1 else "See the invitations",
        f"If you don't want that, ignore this mail. {first}To use a command, sign in first: "
        f"synapse-registry login --url {url}",
    )


def _invitation(invitation: Mapping[str, Any], url: str) -> str:
    role = "the only owner" if invitation["is_transfer"] else f"{_article(invitation['role'])} {invitation['role']}"
    expires: datetime = invitation["expires_at"]
    return (
        f"{invitation['inviter']} invites you to become {role} of {invitation['package']}. "
        f"The invitation is open until {expires:%Y-%m-%d}. "
        f"To accept it, open the link below, or run: synapse-registry owners accept {invitation['id']} --url {url}"
    )


def _account(subject: str, sentence: str) -> Callable[[Facts], Text]:
    def text(facts: Facts) -> Text:
        return Text(
            f"{subject} at {facts.registry}", [sentence], f"{facts.url}/account/reset", "Reset password", IF_NOT_YOU
        )

    return text


def _password(facts: Facts) -> Text:
    return _account(
        "Your password was changed", "The password of your account was changed. All sessions and API tokens have ended."
    )(facts)


def _factor(verb: str) -> Callable[[Facts], Text]:
    def text(facts: Facts) -> Text:
        kind = {"totp": "An authenticator app", "passkey": "A passkey"}.get(
            str(facts.details.get("factor")), "A second factor"
        )
        return _account(f"A second factor was {verb.split()[0]}", f"{kind} was {verb} your account.")(facts)

    return text


def _token(facts: Facts) -> Text:
    name, scopes = facts.details.get("name", ""), ", ".join(facts.details.get("scopes", ()))
    return _account("An API token was created", f"The API token “{name}” was created. Its scopes: {scopes}.")(facts)


def _first_publish(facts: Facts) -> Text:
    sentence = f"The API token “{facts.token_name}” published for the first time: {facts.package} {facts.version}."
    return _account("An API token published for the first time", sentence)(facts)


def _deleted(facts: Facts) -> Text:
    return Text(
        f"Your account at {facts.registry} was deleted",
        [f"The account {facts.name or 'of this address'} was deleted."],
        closing="If this wasn't you, tell the registry's administrators.",
    )


def _old_address(facts: Facts) -> Text:
    return Text(
        f"Your e-mail address at {facts.registry} was changed",
        ["Your account has another e-mail address now. This address gets no more mail about it."],
        closing="If this wasn't you, tell the registry's administrators at once.",
    )


def _webhook(facts: Facts) -> Text:
    number, host, reason = (facts.details.get(name, "") for name in ("webhook", "host", "reason"))
    return Text(
        f"A webhook was disabled at {facts.registry}",
        [f"The registry disabled your webhook {number} to {host}. The reason: {reason}"],
        f"{facts.url}/account/webhooks",
        "See your webhooks",
        "It sends nothing until you enable it again.",
    )


def _package(subject: str, sentence: Callable[[Facts], str]) -> Callable[[Facts], Text]:
    def text(facts: Facts) -> Text:
        package = facts.package or facts.details.get("package", "")  # the package of a pending publisher
        return Text(
            f"{subject} {package} changed",
            [sentence(facts)],
            f"{facts.url}/packages/{facts.package}" if facts.package else "",
            "See the package" if facts.package else "",
            "You get this mail because you are, or were, an owner.",
        )

    return text


def _who(facts: Facts) -> str:
    return facts.actor or "An operator"


def _accepted(facts: Facts) -> str:
    if facts.details.get("transfer"):
        return f"{_who(facts)} is now the only owner of {facts.package}. The former owners were removed."
    role = str(facts.details.get("role", ""))
    return f"{_who(facts)} is now {_article(role)} {role} of {facts.package}."


def _removed(facts: Facts) -> str:
    role = facts.details.get("role")
    if facts.details.get("account_deleted"):
        return f"One of the {role}s of {facts.package} deleted their account, and is no longer one of the {role}s."
    if facts.actor == facts.user(facts.details):
        return f"{_who(facts)} is no longer one of the {role}s of {facts.package}."
    return f"{_who(facts)} removed {facts.user(facts.details)} from the {role}s of {facts.package}."


def _role(facts: Facts) -> str:
    role = str(facts.details.get("role", ""))
    return f"{_who(facts)} made {facts.user(facts.details)} {_article(role)} {role} of {facts.package}."


def _set(facts: Facts) -> str:
    names = ", ".join(f"{facts.user(each)} ({each.get('role')})" for each in facts.details.get("owners", ()))
    return (
        f"{_who(facts)}, an administrator, set the owners and maintainers of {facts.package}: {names}. "
        f"The reason: {facts.details.get('reason', '')}"
    )


def _publisher(verb: str) -> Callable[[Facts], str]:
    def sentence(facts: Facts) -> str:
        package = facts.package or facts.details.get("package", "")
        return f"{_who(facts)} {verb} a trusted publisher of {package} ({facts.details.get('kind', '')})."

    return sentence


def _article(role: str) -> str:
    return "an" if role[:1] in "aeiou" else "a"


NOTICES: Mapping[str, Callable[[Facts], Text]] = {
    "account.delete": _deleted,
    "email.change": _old_address,
    "factor.add": _factor("added to"),
    "factor.recovery_codes": _account("New recovery codes", "New recovery codes were made. The old ones have ended."),
    "factor.remove": _factor("removed from"),
    "factor.reset": _account("Your second factors were removed", "An admin removed your second factors."),
    "owner.accept": _package("The owners of", _accepted),
    "owner.remove": _package("The owners of", _removed),
    "owner.role": _package("The owners of", _role),
    "owner.set": _package("The owners of", _set),
    "password.change": _password,
    "password.reset": _password,
    "publisher.create": _package("The trusted publishers of", _publisher("added")),
    "publisher.delete": _package("The trusted publishers of", _publisher("removed")),
    "token.create": _token,
    "version.publish": _first_publish,
    "webhook.disable": _webhook,
}
"""The texts of notices, by the action of the audit entry."""
