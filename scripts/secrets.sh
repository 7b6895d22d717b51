#!/usr/bin/env bash
# Makes the secrets that docker-compose.yml mounts, each in a file of its own in secrets/. Keeps what is there.
set -euo pipefail
cd "$(dirname "$0")/.."
umask 077
mkdir -p secrets
for name in webhook_token api_key grafana_password; do
    if [ -s "secrets/$name" ]; then
        echo "secrets/$name is there already"
        continue
    fi
    # No newline: not every program strips it.
    head -c 24 /dev/urandom | base64 | tr -d '\n=' | tr '+/' '-_' >"secrets/$name"
    # The programs run without root, each as a user of its own; the folder keeps everybody else on this host out.
    chmod 644 "secrets/$name"
    echo "made secrets/$name"
done
