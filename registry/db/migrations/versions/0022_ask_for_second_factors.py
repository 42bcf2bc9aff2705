"""List sessions, and ask for second factors"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, INET

revision = "0022"
down_revision = "0021"


def upgrade() -> None:
    op.create_table(
        "sessions",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("jti", sa.Text(), nullable=False),
        _user(),
        sa.Column("credentials_version", sa.Integer(), nullable=False),
        _now("created_at"),
        _now("last_used_at"),
        sa.Column("ip", INET(), nullable=True),
        sa.Column("user_agent", sa.Text(), server_default="", nullable=False),
        _time("expires_at"),
        _of_user("sessions"),
        sa.PrimaryKeyConstraint("id", name="sessions_pkey"),
        sa.UniqueConstraint("jti", name="sessions_jti_key"),
    )
    op.create_table(
        "totp_secrets",
        _user(),
        sa.Column("sealed", sa.Text(), nullable=False),
        _now("created_at"),
        _time("confirmed_at", nullable=True),
        _of_user("totp_secrets"),
        sa.PrimaryKeyConstraint("user_id", name="totp_secrets_pkey"),
    )
    op.create_table(
        "used_totp_steps",
        _user(),
        sa.Column("step", sa.BigInteger(), nullable=False),
        _of_user("used_totp_steps"),
        sa.PrimaryKeyConstraint("user_id", "step", name="used_totp_steps_pkey"),
    )
    op.create_table(
        "recovery_codes",
        _user(),
        sa.Column("hash", sa.Text(), nullable=False),
        _of_user("recovery_codes"),
        sa.PrimaryKeyConstraint("user_id", "hash", name="recovery_codes_pkey"),
    )
    op.create_table(
        "passkeys",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        _user(),
        sa.Column("credential_id", sa.LargeBinary(), nullable=False),
        sa.Column("public_key", sa.LargeBinary(), nullable=False),
        sa.Column("sign_count", sa.BigInteger(), nullable=False),
        sa.Column("transports", ARRAY(sa.Text()), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        _now("created_at"),
        _time("last_used_at", nullable=True),
        _of_user("passkeys"),
        sa.PrimaryKeyConstraint("id", name="passkeys_pkey"),
        sa.UniqueConstraint("credential_id", name="passkeys_credential_id_key"),
    )
    op.create_table(
        "login_challenges",
        sa.Column("hash", sa.Text(), nullable=False),
        _user(),
        sa.Column("credentials_version", sa.Integer(), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        _time("expires_at"),
        _of_user("login_challenges"),
        sa.PrimaryKeyConstraint("hash", name="login_challenges_pkey"),
    )
    op.create_table(
        "spent_challenges",
        sa.Column("hash", sa.Text(), nullable=False),
        _time("expires_at"),
        sa.PrimaryKeyConstraint("hash", name="spent_challenges_pkey"),
    )
    for table in ("sessions", "passkeys", "login_challenges"):
        op.create_index(f"{table}_user_id_idx", table, ["user_id"])
    for table in ("sessions", "login_challenges", "spent_challenges"):
        op.create_index(f"{table}_expires_at_idx", table, ["expires_at"])


def downgrade() -> None:
    for table in (
        "spent_challenges", "login_challenges", "passkeys", "recovery_codes", "used_totp_steps", "totp_secrets",
        "sessions",
    ):  # fmt: skip
        op.drop_table(table)


def _user() -> sa.Column[int]:
    return sa.Column("user_id", sa.BigInteger(), nullable=False)


def _of_user(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=f"{table}_user_id_fkey")


def _now(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False)


def _time(name: str, *, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)
