#!/bin/sh
# What every container of the platform starts with; the command follows.
set -eu

# A worker takes SIGTERM as a soft shutdown: it finishes what it can in SOFT_SHUTDOWN_S (jobs/app.py) and hands the rest
# back. Plain SIGTERM would wait for the last job, however long. Beat, relay and Flower do not read this.
export REMAP_SIGTERM=SIGQUIT

# Flower reads its password from the environment only.
password="${FLEET_SECRETS_DIR:-/run/secrets}/flower_basic_auth"
if [ -r "$password" ]; then
    FLOWER_BASIC_AUTH=$(cat "$password")
    export FLOWER_BASIC_AUTH
fi

exec "$@"
