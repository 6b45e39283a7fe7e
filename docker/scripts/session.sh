#!/bin/sh
# session.sh ALIAS BROKER_PORT [override…]: one trading session, then what its audit found, for the metrics page. The container's restart
# policy starts the next one; `mcl live` itself waits for nothing and refuses what it cannot do. It is the first process of its container,
# so it hands SIGTERM on: the session ends in order, with its audit, within the container's grace time.
set -u
alias=$1 port=$2
shift 2
stopping=
channels= # every one that has an address; none: alerts are lines of the log
[ -z "${MCL_WEBHOOK_URL:-}" ] || channels=webhook
[ -z "${MCL_ALERT_URLS:-}" ] || channels=${channels:+$channels,}apprise
mcl live "$alias" "broker.port=$port" telemetry=local ${channels:+"alerts=[$channels]"} "$@" &
session=$!
trap 'stopping=1; kill -TERM "$session" 2>/dev/null' TERM INT
wait "$session"
code=$?
while kill -0 "$session" 2>/dev/null; do # a signal ends `wait`, not the session
  wait "$session"
  code=$?
done
found=$(mcl --json runs --study live --alias "$alias" --limit 1 2>/dev/null | python -c '
import json, sys
runs = json.load(sys.stdin).get("runs", [])
value = runs[0].get("metrics", {}).get("unexplained") if runs else None
print("" if value is None else f"{float(value):g}")' 2>/dev/null)
if [ -n "$found" ]; then
  mkdir -p "$MCL_HOME/live/$alias"
  printf 'mcl_audit_unexplained{alias="%s"} %s\n' "$alias" "$found" >"$MCL_HOME/live/$alias/audit.prom.part-$$"
  mv "$MCL_HOME/live/$alias/audit.prom.part-$$" "$MCL_HOME/live/$alias/audit.prom"
  printf '{"event": "audit", "alias": "%s", "unexplained": %s, "exit_code": %s}\n' "$alias" "$found" "$code" >&2
fi
pause=${MCL_PAUSE_SEC:-60}
while [ -z "$stopping" ] && [ "$pause" -gt 0 ]; do
  sleep 1
  pause=$((pause - 1))
done
exit "$code"
