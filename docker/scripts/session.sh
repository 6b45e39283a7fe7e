#!/bin/sh
# session.sh ALIAS BROKER_PORT [override…]: one trading session, then what its audit found, for the metrics page. The container's restart
# policy starts the next one; `mcl live` itself waits for nothing and refuses what it cannot do.
set -u
alias=$1 port=$2
shift 2
mcl live "$alias" "broker.port=$port" telemetry=local "$@"
code=$?
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
sleep "${MCL_PAUSE_SEC:-60}"
exit "$code"
