#!/usr/bin/env bash
# heartbeat.sh NAMESPACE READER…: once a minute, what the session says of itself becomes CloudWatch metrics. READER prints the metrics page
# of the runner. No answer: nothing is sent, and the alarm on the missing heartbeat fires. That is the point.
set -euo pipefail
namespace=$1
shift
page=$("$@")
value() { # value METRIC [LABEL]: the largest sample of that name (with that label), empty when there is none
  awk -v name="$1" -v label="${2:-}" '
    ($1 == name || index($1, name "{") == 1) && (label == "" || index($0, label)) { if (!found || $NF > most) { most = $NF; found = 1 } }
    END { if (found) print most }' <<<"$page"
}
send() { # send METRIC VALUE: not-a-number has no alarm and is left out
  case $2 in '' | NaN | nan | *[!0-9.eE+-]*) return 0 ;; esac
  aws cloudwatch put-metric-data --namespace "$namespace" --metric-name "$1" --value "$2"
}
send heartbeat 1
send mcl_halted "$(value mcl_state 'state="HALTED"')"
send mcl_audit_unexplained "$(value mcl_audit_unexplained)"
if [ "$(value mcl_state 'state="WAITING"')" != 1 ]; then # between sessions the figure is that of the last one
  send mcl_session_pnl_usd "$(value mcl_session_pnl_usd)"
fi
if [ "$(value mcl_state 'state="TRADING"')" = 1 ]; then # data may be old while nothing trades
  send mcl_data_age_seconds "$(value mcl_data_age_seconds)"
fi
