"""The SQL of the checks and repairs of the event log. Each check is one statement, so it sees one moment of the log."""

import sqlalchemy as sa

from registry.analytics.consumer import OF_DOWNLOADS
from registry.db.engine import Connection, Row, statement
from registry.doctor.check import Found
from registry.doctor.store import first_of, found
from registry.events import log as event_log

_GAPS = """
    SELECT seq + 1 AS first, next - 1 AS last
    FROM (SELECT seq, lead(seq) OVER (ORDER BY seq) AS next FROM (SELECT 0 AS seq UNION ALL SELECT seq FROM events) s) n
    WHERE next > seq + 1
"""
_GAPS_FOUND = first_of(
    f"SELECT CASE WHEN first = last THEN '' ELSE first || ' to ' END || last AS what FROM ({_GAPS}) g"
)
_FILL = statement(
    sa.text(f"""
    INSERT INTO events (seq, type, package, data)
    SELECT missing, '{event_log.LOST}', '', CAST('{{}}' AS jsonb)
    FROM ({_GAPS}) AS g, generate_series(first, last) AS missing
    """)
)
# The event of a new package is directly before that of its first version. Older releases did not write it. So it counts
# as lost only if that place of the log is empty, or if the event of the first version is lost, too.
_MISSING_EVENTS = """
    WITH logged AS (
        SELECT package_id, version, bool_or(type = 'version.published') AS published,
               coalesce(max(seq) FILTER (WHERE type IN ('version.published', 'version.restored')), 0) AS made_live,
               coalesce(max(seq) FILTER (WHERE type = 'version.deleted'), 0) AS deleted,
               coalesce(max(seq) FILTER (WHERE type = 'version.yanked'), 0) AS yanked,
               coalesce(max(seq) FILTER (WHERE type = 'version.unyanked'), 0) AS unyanked,
               min(seq) FILTER (WHERE type = 'version.published') AS first_published
        FROM events WHERE version IS NOT NULL GROUP BY package_id, version
    ), logged_packages AS (
        SELECT package_id, bool_or(type = 'package.created') AS created,
                           coalesce(max(seq) FILTER (WHERE type = 'package.deprecated'), 0)
                         > coalesce(max(seq) FILTER (WHERE type = 'package.undeprecated'), 0) AS deprecated,
                           coalesce(max(seq) FILTER (WHERE type = 'package.quarantined'), 0)
                         > coalesce(max(seq) FILTER (WHERE type = 'package.released'), 0) AS quarantined
        FROM events WHERE version IS NULL GROUP BY package_id
    )
    SELECT v.package_id, p.name AS package, v.version, v.id AS version_id, w.nth, w.type, w.data
    FROM package_versions v JOIN packages p ON p.id = v.package_id
    LEFT JOIN logged t ON t.package_id = v.package_id AND t.version = v.version
    CROSS JOIN LATERAL (VALUES
        (1, 'version.published', t.published IS NOT TRUE,
         jsonb_build_object('checksum', v.checksum, 'size', v.tarball_size)),
        (2, 'version.deleted', v.deleted_at IS NOT NULL AND (t.published IS NOT TRUE OR t.deleted < t.made_live), '{}'),
        (2, 'version.restored', v.deleted_at IS NULL AND t.published AND t.deleted > t.made_live, '{}'),
        (3, 'version.yanked', v.yanked AND (t.version IS NULL OR t.yanked <= t.unyanked),
         jsonb_build_object('reason', v.yank_reason)),
        (3, 'version.unyanked', NOT v.yanked AND t.yanked > t.unyanked, '{}')
    ) AS w (nth, type, missing, data)
    WHERE w.missing
    UNION ALL
    SELECT p.id, p.name, NULL, v.id, 0, 'package.created', CAST('{}' AS jsonb)
    FROM packages p LEFT JOIN logged_packages c ON c.package_id = p.id
    JOIN LATERAL (SELECT id, version FROM package_versions WHERE package_id = p.id ORDER BY id LIMIT 1) AS v ON true
    LEFT JOIN logged t ON t.package_id = p.id AND t.version = v.version
    WHERE c.created IS NOT TRUE AND (t.published IS NOT TRUE OR t.first_published > 1 AND NOT EXISTS (
        SELECT FROM events e WHERE e.seq = t.first_published - 1 AND e.type <> 'log.lost'
    ))
    UNION ALL
    SELECT p.id, p.name, NULL, NULL, 4, 'package.' || CASE WHEN wanted THEN 'deprecated' ELSE 'undeprecated' END,
           CASE WHEN wanted THEN jsonb_build_object('message', p.deprecated, 'successor', p.deprecation_successor)
                            ELSE '{}' END
    FROM packages p LEFT JOIN logged_packages t ON t.package_id = p.id
    CROSS JOIN LATERAL (SELECT coalesce(p.deprecated, '') <> '' AS wanted) AS w
    WHERE wanted <> coalesce(t.deprecated, false)
    UNION ALL
    SELECT p.id, p.name, NULL, NULL, 5, 'package.' || CASE WHEN wanted THEN 'quarantined' ELSE 'released' END,
           CASE WHEN wanted THEN jsonb_build_object('reason', p.quarantine_reason) ELSE '{}' END
    FROM packages p LEFT JOIN logged_packages t ON t.package_id = p.id
    CROSS JOIN LATERAL (SELECT p.quarantine_reason IS NOT NULL AS wanted) AS w
    WHERE wanted <> coalesce(t.quarantined, false)
"""
_MISSING_EVENTS_FOUND = first_of(
    f"SELECT type || ' of ' || package || coalesce(' ' || version, '') AS what FROM ({_MISSING_EVENTS}) AS u"
)
_APPEND_MISSING = statement(
    sa.text(f"""
    INSERT INTO events (seq, type, package_id, package, version, data)
    SELECT (SELECT coalesce(max(seq), 0) FROM events) + row_number() OVER (ORDER BY version_id, nth, package_id),
           type, package_id, package, version, data
    FROM ({_MISSING_EVENTS}) AS u
    """)
)
_ROWS_LOST = first_of("""
    SELECT DISTINCT e.package || ' ' || e.version || ' is in the log' AS what FROM events e
    WHERE e.type = 'version.published' AND NOT EXISTS (
        SELECT FROM package_versions v WHERE v.package_id = e.package_id AND v.version = e.version
    )
""")
_OF_DOWNLOADS = ", ".join(f"'{name}'" for name in OF_DOWNLOADS)
# The last value of the sequence is the end of the downloads' log, even if the newest rows were removed.
_CURSORS = statement(
    sa.text(f"""
    SELECT name, seq, last FROM consumers CROSS JOIN LATERAL (
        SELECT CASE WHEN name IN ({_OF_DOWNLOADS}) THEN (SELECT last_value FROM downloads_id_seq)
                         ELSE (SELECT coalesce(max(seq), 0) FROM events) END AS last
    ) AS l WHERE seq > last ORDER BY name
    """)
)


async def gaps(conn: Connection) -> Found:
    """Ranges of numbers that are missing from the event log."""
    return await found(conn, _GAPS_FOUND)


async def fill_gaps(conn: Connection) -> None:
    """Fills each gap with `log.lost` events."""
    await event_log.lock(conn)
    await conn.run(_FILL)


async def missing_events(conn: Connection) -> Found:
    """States of rows that no event explains."""
    return await found(conn, _MISSING_EVENTS_FOUND)


async def append_missing_events(conn: Connection) -> None:
    """Appends the missing events to the log."""
    await event_log.lock(conn)
    await conn.run(_APPEND_MISSING)
    conn.announce(event_log.CHANNEL, "")


async def lost_rows(conn: Connection) -> Found:
    """Versions that were published according to the log but have no row."""
    return await found(conn, _ROWS_LOST)


async def cursors_beyond(conn: Connection) -> list[Row]:
    """name, seq and last of each consumer whose cursor `seq` is beyond `last`, the end of its log."""
    return await conn.all(_CURSORS)
