#!/usr/bin/env bash
# fetch_secrets.sh FOLDER NAME=ARN…: each secret becomes a file on a tmpfs, in a folder that root alone can enter. Values are never
# arguments, never in the environment, never in a log. An empty drawer is an empty file; a refused one stops the start.
set -euo pipefail
umask 077
folder=$1
shift
mkdir -p "$folder"
for pair in "$@"; do
  name=${pair%%=*} arn=${pair#*=}
  if ! aws secretsmanager get-secret-value --secret-id "$arn" --query SecretString --output text >"$folder/.$name" 2>"$folder/.error"; then
    if grep -q ResourceNotFoundException "$folder/.error"; then
      : >"$folder/.$name"
    else
      echo "cannot read secret $name: $(head -c 300 "$folder/.error")" >&2
      rm -f "$folder/.$name" "$folder/.error"
      exit 1
    fi
  fi
  if [ "$name" = database ]; then # made by RDS: {"username": …, "password": …}
    python3 -c 'import json, sys; print(json.load(sys.stdin)["password"], end="")' <"$folder/.$name" >"$folder/.database_password"
    rm -f "$folder/.$name"
    name=database_password
  fi
  chmod 444 "$folder/.$name"
  mv "$folder/.$name" "$folder/$name"
done
rm -f "$folder/.error"
# S3 is reached with the instance's role; the files must be there to be mounted
: >"$folder/s3_user"
: >"$folder/s3_password"
chmod 444 "$folder"/*
chmod 700 "$folder"
