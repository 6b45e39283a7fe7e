#!/bin/sh
# entrypoint.sh VERB… | PROGRAM…: makes an empty project volume a project, hands secrets from files to this one process, then becomes it.
# A file /run/secrets/NAME (or $MCL_SECRETS_FOLDER/NAME) becomes the variable that the program reads; images and compose files never hold one.
set -eu
folder=${MCL_SECRETS_FOLDER:-/run/secrets}
hand_over() { # hand_over FILE VARIABLE: an empty file is no secret, a variable that is set wins
  if [ -s "$folder/$1" ] && eval "[ -z \"\${$2:-}\" ]"; then
    value=$(cat "$folder/$1")
    export "$2=$value"
  fi
}
hand_over databento_api_key DATABENTO_API_KEY
hand_over mlflow_password MLFLOW_TRACKING_PASSWORD
hand_over alert_webhook_url MCL_WEBHOOK_URL
hand_over alert_urls MCL_ALERT_URLS
hand_over s3_user AWS_ACCESS_KEY_ID
hand_over s3_password AWS_SECRET_ACCESS_KEY
if [ -n "${MLFLOW_TRACKING_PASSWORD:-}" ]; then
  export MLFLOW_TRACKING_USERNAME="${MLFLOW_TRACKING_USERNAME:-admin}"
fi
unfinished=$MCL_HOME/.unfinished
make_project() { # a volume is a mount, so files are copied into it; the marker is the first of them and goes last
  parts=$(mktemp -d)
  mcl --quiet init "$parts/project"
  cp -R "$parts/project/." "$MCL_HOME/"
  rm -rf "$parts" "$unfinished"
}
if [ -w "$MCL_HOME" ] && { [ -z "$(ls -A "$MCL_HOME")" ] || [ -d "$unfinished" ]; }; then
  if mkdir "$unfinished" 2>/dev/null; then
    make_project
  else # another container of the same start makes it
    turn=0
    while [ -d "$unfinished" ] && [ "$turn" -lt 60 ]; do
      sleep 1
      turn=$((turn + 1))
    done
    if [ -d "$unfinished" ]; then make_project; fi # it was killed half-way
  fi
fi
case "${1:-}" in
  mcl | mlflow | *.sh | mcl-* | python | sleep | sh) exec "$@" ;;
  *) exec mcl "$@" ;;
esac
