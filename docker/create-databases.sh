#!/bin/sh
# Runs once, when PostgreSQL's volume is empty: a role and its databases for Rein and for Temporal.
set -eu
psql --username=postgres --set=ON_ERROR_STOP=1 \
  --set=rein_password="$REIN_DB_PASSWORD" --set=temporal_password="$TEMPORAL_DB_PASSWORD" <<'SQL'
CREATE ROLE rein LOGIN PASSWORD :'rein_password';
-- What Rein's connections may see. The login owns the database, and may do nothing else.
CREATE ROLE rein_application;
CREATE ROLE rein_operations;
GRANT rein_application, rein_operations TO rein;
CREATE DATABASE rein OWNER rein;
CREATE ROLE temporal LOGIN CREATEDB PASSWORD :'temporal_password';
CREATE DATABASE temporal OWNER temporal;
CREATE DATABASE temporal_visibility OWNER temporal;
\connect temporal_visibility
CREATE EXTENSION IF NOT EXISTS btree_gin;
SQL
