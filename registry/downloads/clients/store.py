"""The SQL that counts clients. It runs on the caller's connection and commits nothing.

A client is an address, counted once for each package and day (UTC). Mirrors and bots are left out.
"""

from datetime import date

import sqlalchemy as sa
from sqlalchemy.sql import bindparam as p

from registry.db.engine import Connection, Row, statement
from registry.db.tables import consumers, day_clients, downloads
from registry.downloads.agents import BOT, MIRROR

# The table day_clients covers the latest day with downloads and this number of days before it.
DAYS_BEFORE = 2
# Earlier releases stored downloads without a key of the address, only with its network. A client can send any number of
# User-Agents. So the downloads of such a network and day count as at most this number of clients.
CLIENTS_OF_A_NETWORK = 10
# An estimated day has at most this number of clients. The unique downloads of a day may come from one client with many
# User-Agents, and nobody can check that after the single downloads are removed.
ESTIMATED_AT_MOST = 50
YEAR = 365

# The client of the row `d` of downloads, and the condition that it counts.
CLIENT = f"""
    coalesce(d.address_key, hashtextextended(
        coalesce(host(d.ip_address), '') || ' ' || mod(abs(hashtext(d.client_hash)::bigint), {CLIENTS_OF_A_NETWORK}), 0
    ))
"""
COUNTED = f"d.kind NOT IN ('{MIRROR}', '{BOT}')"
_POSITION = statement(
    sa.select(consumers.c.seq, sa.literal_column("(SELECT last_value FROM downloads_id_seq)").label("last")).where(
        consumers.c.name == p("consumer")
    )
)
_LOCK = statement(sa.select(consumers.c.seq).where(consumers.c.name == p("consumer")).with_for_update())
_window = (
    sa.select(downloads.c.id).where(downloads.c.id > p("after")).order_by(downloads.c.id).limit(p("count")).subquery()
)
_END = statement(sa.select(sa.func.max(_window.c.id), sa.func.count()).select_from(_window))
_OLDEST = statement(
    sa.select(sa.func.least(day_clients.c.day, sa.text("(now() AT TIME ZONE 'UTC')::date")) - DAYS_BEFORE)
    .order_by(day_clients.c.day.desc())
    .limit(1)
)
_FORGET = statement(sa.delete(day_clients).where(day_clients.c.day < p("oldest")))
# A late download belongs to a day that day_clients does not cover any more. The clients of that day are counted again
# from the single downloads. If most of these were removed, the former number is higher, and it stays.
_COUNT = statement(
    sa.text(f"""
    WITH arrived AS (
        SELECT DISTINCT v.package_id, (d.downloaded_at AT TIME ZONE 'UTC')::date AS day, {CLIENT} AS client
        FROM downloads AS d JOIN package_versions AS v ON v.id = d.package_version_id
        WHERE d.id > :after AND d.id <= :until AND {COUNTED}
    ), added AS (
        INSERT INTO day_clients (day, package_id, client)
        SELECT day, package_id, client FROM arrived WHERE day >= :oldest ORDER BY 1, 2, 3
        ON CONFLICT DO NOTHING RETURNING day, package_id
    ), late AS (
        SELECT v.package_id, l.day, count(DISTINCT {CLIENT}) AS clients
        FROM (SELECT DISTINCT package_id, day FROM arrived WHERE day < :oldest) AS l
        JOIN package_versions AS v ON v.package_id = l.package_id
        JOIN downloads AS d ON d.package_version_id = v.id AND d.id <= :until AND {COUNTED}
            AND d.downloaded_at >= l.day::timestamp AT TIME ZONE 'UTC'
            AND d.downloaded_at < (l.day + 1)::timestamp AT TIME ZONE 'UTC'
        GROUP BY v.package_id, l.day
    )
    INSERT INTO package_clients AS c (package_id, day, clients)
    SELECT package_id, day, count(*) FROM added GROUP BY package_id, day
    UNION ALL SELECT package_id, day, clients FROM late ORDER BY package_id, day
    ON CONFLICT (package_id, day) DO UPDATE SET is_estimate = false, clients = CASE
        WHEN excluded.day < :oldest THEN greatest(c.clients, excluded.clients)
        WHEN c.is_estimate THEN excluded.clients
        ELSE c.clients + excluded.clients
    END
    """)
)
_NEXT = statement(
    sa.text("""
    SELECT max(id) FROM (SELECT id FROM packages WHERE id > :after ORDER BY id LIMIT :count) AS page
    """)
)
_ESTIMATE = statement(
    sa.text(f"""
    INSERT INTO package_clients (package_id, day, clients, is_estimate)
    SELECT package_id, day, least(sum(unique_count), {ESTIMATED_AT_MOST}), true FROM download_days
    WHERE package_id > :after AND package_id <= :until AND kind NOT IN ('{MIRROR}', '{BOT}')
      AND day > (now() AT TIME ZONE 'UTC')::date - {YEAR}
    GROUP BY package_id, day HAVING sum(unique_count) > 0 ORDER BY package_id, day
    ON CONFLICT DO NOTHING
    """)
)


async def position(conn: Connection, consumer: str) -> Row:
    """seq, the last download that `consumer` has counted, and last, the highest id that was ever given."""
    return await conn.one(_POSITION, consumer=consumer)


async def lock_position(conn: Connection, consumer: str) -> int:
    """The last download that `consumer` has counted. Another process that asks waits until this transaction ends."""
    return int(await conn.value(_LOCK, consumer=consumer) or 0)


async def end_of_window(conn: Connection, after: int, count: int) -> tuple[int, int]:
    """(the last id, the number) of up to `count` downloads with an id above `after`. (`after`, 0) if there are none."""
    [(last, found)] = await conn.all(_END, after=after, count=count)
    return int(last or after), int(found)


async def count(conn: Connection, after: int, until: int) -> None:
    """Counts the clients of the downloads with `after` < id <= `until`, each window of ids once and in order."""
    oldest = await conn.value(_OLDEST) or date.min
    await conn.run(_COUNT, after=after, until=until, oldest=oldest)
    oldest = await conn.value(_OLDEST)
    if oldest is not None:
        await conn.run(_FORGET, oldest=oldest)


async def estimate(conn: Connection, after: int, count: int) -> int | None:
    """Estimates the clients of up to `count` packages with an id above `after` for each day of the last year.

    Skips days that are counted already. Returns the id of the last package, None if there is none.
    """
    until = await conn.value(_NEXT, after=after, count=count)
    if until is None:
        return None
    await conn.run(_ESTIMATE, after=after, until=until)
    return int(until)
