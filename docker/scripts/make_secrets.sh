#!/usr/bin/env bash
# make_secrets.sh [FOLDER]: the files that compose.yaml mounts, with random passwords where the other side is ours and empty ones where a
# person has to fill them in. What exists is kept.
set -euo pipefail
folder=${1:-$(dirname "$0")/../secrets}
umask 077
mkdir -p "$folder"
for name in database_password mlflow_password grafana_password; do
  [ -e "$folder/$name" ] || head -c 24 /dev/urandom | od -An -tx1 | tr -d ' \n' >"$folder/$name"
done
for name in databento_api_key ib_password alert_webhook_url alert_urls s3_user s3_password; do
  [ -e "$folder/$name" ] || : >"$folder/$name"
done
# containers run as different users: the folder is closed, the files in it can be read by whoever gets them mounted
chmod 444 "$folder"/*
chmod 700 "$folder"
echo "secrets are in $folder; fill in databento_api_key, ib_password, alert_urls and alert_webhook_url as you need them; s3_user and s3_password only for an S3 without a role"
