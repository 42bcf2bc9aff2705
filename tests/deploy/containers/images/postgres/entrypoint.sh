#!/bin/sh
# Makes a cluster at the first start, as the real image does, and then runs the command.
set -eu
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    mkdir -p -m 0700 "$PGDATA"
    printf '%s\n' "$POSTGRES_PASSWORD" > /tmp/password
    initdb --username="$POSTGRES_USER" --pwfile=/tmp/password --pgdata="$PGDATA"
    rm /tmp/password
    echo "host all all all scram-sha-256" >> "$PGDATA/pg_hba.conf"
    # Only on its socket, so that the health check does not pass yet.
    pg_ctl --pgdata="$PGDATA" -o "-c listen_addresses=''" -w start
    psql --username="$POSTGRES_USER" --dbname=postgres --command="CREATE DATABASE \"$POSTGRES_DB\""
    pg_ctl --pgdata="$PGDATA" -m fast -w stop
fi
exec "$@"
