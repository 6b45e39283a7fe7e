#!/bin/sh
# session.sh ALIAS BROKER_PORT [override…]: one trading session after the other, for as long as the container runs. `mcl live --stay` becomes
# the first process of its container: it waits for the next open, answers health checks and the metrics page all the while, and ends in
# order on SIGTERM, its audit included, within the container's grace time.
set -eu
alias=$1 port=$2
shift 2
channels= # every one that has an address; none: alerts are lines of the log
[ -z "${MCL_WEBHOOK_URL:-}" ] || channels=webhook
[ -z "${MCL_ALERT_URLS:-}" ] || channels=${channels:+$channels,}apprise
exec mcl live "$alias" --stay --fetch-max-cost "${MCL_FETCH_MAX_COST_USD:-1}" "broker.port=$port" telemetry=local \
  ${channels:+"alerts=[$channels]"} "$@"
