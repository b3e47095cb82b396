#!/bin/sh
# Brings both of Temporal's databases to the server's schema; repeating it changes nothing.
set -eu
for database in temporal temporal_visibility; do
  schema=/etc/temporal/schema/postgresql/v12/${database#temporal_}/versioned
  set -- --plugin postgres12 --ep "$SQL_HOST" -p "$SQL_PORT" -u "$SQL_USER" --db "$database"
  temporal-sql-tool "$@" setup-schema -v 0.0 || echo "$database is set up already"
  temporal-sql-tool "$@" update-schema -d "$schema"
done
