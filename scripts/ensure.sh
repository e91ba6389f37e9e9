#!/bin/sh
# Makes sure that the machine has what is named (postgres, redis, cc, compose),
# and installs what is missing where that is permitted: on Debian and Ubuntu,
# by root or by a sudo that asks for no password. Otherwise it says what to
# install, and exits 1.
#
#     scripts/ensure.sh postgres redis
set -eu

# has tells whether the machine has the thing, where sandbox looks for it too.
has() {
	case $1 in
	postgres)
		[ -z "${PGBIN:-}" ] || return 0 # sandbox says what is wrong with it
		for bin in /usr/lib/postgresql*/bin /usr/lib/postgresql/*/bin /usr/pgsql-*/bin \
			/opt/homebrew/opt/postgresql@*/bin /usr/local/opt/postgresql@*/bin \
			/Applications/Postgres.app/Contents/Versions/*/bin /Library/PostgreSQL/*/bin /usr/local/pgsql/bin \
			"$(pg_config --bindir 2>/dev/null || true)" "$(dirname "$(command -v initdb || true)")"; do
			[ ! -x "$bin/initdb" ] || [ ! -x "$bin/postgres" ] || return 0
		done
		return 1
		;;
	redis) command -v redis-server >/dev/null || command -v valkey-server >/dev/null ;;
	cc) command -v "${CC:-gcc}" >/dev/null || command -v clang >/dev/null ;; # go test -race links with it
	compose) command -v docker-compose >/dev/null ;;
	*)
		echo "$0: what is $1?" >&2
		exit 2
		;;
	esac
}

packages() {
	case $1 in
	postgres) echo postgresql ;;
	redis) echo redis-server ;;
	cc) echo gcc libc6-dev ;;
	compose) echo docker-compose ;;
	esac
}

missing=
for thing in "$@"; do
	has "$thing" || missing="$missing $(packages "$thing")"
done
[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null; then
	echo "$0: missing here; install what Debian calls:$missing" >&2
	exit 1
fi
if [ "$(id -u)" = 0 ]; then
	sudo=
elif sudo -n true 2>/dev/null; then
	sudo='sudo -n'
else
	echo "$0: missing here; install with: sudo apt-get install$missing" >&2
	exit 1
fi

# The packages bring system services. We only want the programs: while they are
# installed, a policy (invoke-rc.d(8)) keeps the services from being started.
# A machine that has a policy keeps its own.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
	trap '$sudo rm -f "$policy"' EXIT
	trap 'exit 1' HUP INT TERM
	printf '#!/bin/sh\nexit 101\n' | $sudo tee "$policy" >/dev/null
	$sudo chmod +x "$policy"
fi

echo "installing$missing" >&2
$sudo apt-get update -qq >&2
# shellcheck disable=SC2086 # several words
$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >&2

for thing in "$@"; do
	if ! has "$thing"; then
		echo "$0: $thing is still missing after its installation" >&2
		exit 1
	fi
done
