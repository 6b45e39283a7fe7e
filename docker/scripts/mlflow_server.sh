#!/bin/sh
# mlflow_server.sh: MLflow with a password of its own, runs in PostgreSQL, artifacts in a folder or in S3. Passwords come from files and reach neither the
# command line nor the environment that `docker inspect` shows.
set -eu
folder=${MCL_SECRETS_FOLDER:-/run/secrets}
run=${MCL_RUNTIME_FOLDER:-/tmp}
umask 077
quoted=$(python -c 'import sys, urllib.parse; print(urllib.parse.quote(open(sys.argv[1]).read().strip(), safe=""))' "$folder/database_password")
host=${MCL_DATABASE_HOST:-postgres} # HOST or HOST:PORT
database="postgresql+psycopg://mlflow:$quoted@$host"
# The database of compose.yaml is alone with this server in a network of its own; any other has to prove with a certificate who it is.
case "${host%:*}" in
  postgres | localhost | 127.0.0.1) ours=yes ssl=${MCL_DATABASE_SSL:-prefer} ;;
  *) ours=no ssl=${MCL_DATABASE_SSL:-verify-full} ;;
esac
options="?sslmode=$ssl"
case "$ssl" in
  verify-full | verify-ca)
    bundle=${MCL_DATABASE_CA:-/run/mcl/database-ca.pem}
    if [ ! -s "$bundle" ]; then
      echo "mlflow_server.sh: $bundle has no certificates to verify $host with; put your database's there (RDS: truststore.pki.rds.amazonaws.com)" >&2
      exit 1
    fi
    options="$options&sslrootcert=$bundle"
    ;;
  *)
    [ $ours = yes ] || echo "mlflow_server.sh: sslmode=$ssl does not verify that $host is your database; use verify-full" >&2
    ;;
esac
# A password is hashed slowly on purpose (80 ms of CPU); a search writes several requests per trial, so an accepted one is remembered for
# five minutes. Another password in the file needs a restart anyway.
cat >"$run/auth.ini" <<INI
[mlflow]
default_permission = NO_PERMISSIONS
database_uri = sqlite:///$run/users.db
admin_username = admin
admin_password = $(cat "$folder/mlflow_password")
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
auth_cache_ttl_seconds = 300
INI
export MLFLOW_AUTH_CONFIG_PATH="$run/auth.ini"
export MLFLOW_BACKEND_STORE_URI="$database/mlflow$options"
MLFLOW_FLASK_SERVER_SECRET_KEY=$(head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n')
export MLFLOW_FLASK_SERVER_SECRET_KEY
if [ -n "${MCL_S3_ENDPOINT:-}" ]; then # an empty one would be no address
  export MLFLOW_S3_ENDPOINT_URL="$MCL_S3_ENDPOINT"
fi
export MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false MLFLOW_DISABLE_TELEMETRY=true
bind=${MCL_MLFLOW_BIND:-0.0.0.0:5000}
exec mlflow server --app-name basic-auth --host "${bind%:*}" --port "${bind#*:}" --workers "${MCL_MLFLOW_WORKERS:-1}" \
  --artifacts-destination "${MCL_ARTIFACTS:-/home/mcl/artifacts}" --serve-artifacts \
  --allowed-hosts "${MCL_MLFLOW_HOSTS:-mlflow:5000,localhost:5000,127.0.0.1:5000}"
