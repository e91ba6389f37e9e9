#!/bin/sh
# Runs the tests that need servers on each of these major versions of Postgres,
# on Redis as it is installed, and once more on Valkey where it is:
#
#     scripts/matrix.sh 14 15 16 17 18
#
# All are run, whatever fails; what failed is said at the end.
set -eu

cd "$(dirname "$0")/.."
[ $# -gt 0 ] || {
	echo "usage: $0 14|15|16|17|18..." >&2
	exit 2
}

failed=
# on runs the tests with what the environment names, and notes whether they pass.
on() {
	echo "== $1"
	go test -count=1 -timeout 30m ./integration ./replication/... ./render/... ./derive/... ./cache/... || failed="$failed
	$1"
}

for major in "$@"; do
	PGBIN=$(scripts/postgres-binaries.sh "$major")
	export PGBIN
	on "Postgres $major"
done

if valkey=$(command -v valkey-server); then
	REDISBIN=$valkey on "Valkey, Postgres $major"
else
	echo "== Valkey is not tried: there is no valkey-server on PATH" >&2
fi

[ -z "$failed" ] || {
	echo "these fail:$failed" >&2
	exit 1
}
