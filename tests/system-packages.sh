#!/usr/bin/env bash
# What the tests need beside Python packages: a PostgreSQL server. Installed where that is possible, named where it is not.
set -euo pipefail
if compgen -G '/usr/lib/postgresql/*/bin/initdb' > /dev/null || command -v initdb > /dev/null; then exit 0; fi
if [ "$(id -u)" = 0 ] && command -v apt-get > /dev/null; then
    echo "installing PostgreSQL for the tests" >&2
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq > /dev/null
    apt-get install -y -qq --no-install-recommends postgresql > /dev/null
else
    echo "no PostgreSQL server: its tests will be skipped (Debian: apt-get install postgresql)" >&2
fi
