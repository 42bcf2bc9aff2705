"""Announce changes of credentials"""

from alembic import op

revision = "0034"
down_revision = "0033"

# Each process caches credentials until it hears that they changed. This release announces its own changes. The triggers
# do so for an earlier release that still serves, for deletions by foreign keys, and for SQL that an operator runs.
# PostgreSQL sends equal announcements of one transaction once.
OF_USER = """
CREATE FUNCTION announce_user() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('registry_credentials', OLD.id::text);
    RETURN NULL;
END $$
"""
OF_ITS_USER = """
CREATE FUNCTION announce_its_user() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('registry_credentials', OLD.user_id::text);
    RETURN NULL;
END $$
"""
OF_SESSION = """
CREATE FUNCTION announce_user_of_session() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('registry_credentials', user_id::text) FROM sessions WHERE jti = NEW.jti;
    RETURN NULL;
END $$
"""


def upgrade() -> None:
    for function in (OF_USER, OF_ITS_USER, OF_SESSION):
        op.execute(function)
    _announce("users", "UPDATE", "announce_user", _differ("password_hash"))
    _announce("api_tokens", "UPDATE", "announce_its_user", _differ("last_used_at", "has_published"))
    _announce("api_tokens", "DELETE", "announce_its_user", "OLD.expires_at IS NULL OR OLD.expires_at > now()")
    set_back = "NEW.last_used_at < OLD.last_used_at"
    _announce("sessions", "UPDATE", "announce_its_user", f"{_differ('last_used_at')} OR {set_back}")
    _announce("sessions", "DELETE", "announce_its_user", "OLD.expires_at > now()")
    _announce("revoked_tokens", "INSERT", "announce_user_of_session", "true")


def _differ(*but: str) -> str:
    """Whether the old and the new row differ in other columns than `but`."""
    names = ",".join(but)
    return f"to_jsonb(OLD) - '{{{names}}}'::text[] <> to_jsonb(NEW) - '{{{names}}}'::text[]"


def _announce(table: str, event: str, function: str, when: str) -> None:
    op.execute(f"""
        CREATE TRIGGER announce_{event.lower()} AFTER {event} ON {table}
        FOR EACH ROW WHEN ({when}) EXECUTE FUNCTION {function}()
    """)


def downgrade() -> None:
    for function in ("announce_user", "announce_its_user", "announce_user_of_session"):
        op.execute(f"DROP FUNCTION {function}() CASCADE")
