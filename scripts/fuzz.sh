#!/bin/sh
# Runs every fuzz target for a while each (FUZZTIME, 5s when it is not set).
# Finding none is an error.
set -eu

cd "$(dirname "$0")/.."
ran=0
for folder in $(grep -rlE --include='*_test.go' --exclude-dir=.git --exclude-dir=.cache '^func Fuzz' . |
	sed 's,/[^/]*$,,' | sort -u); do
	listed=$(go test -list '^Fuzz' "$folder") || {
		echo "$listed"
		exit 1
	}
	for target in $(echo "$listed" | grep '^Fuzz'); do
		echo "fuzzing $target in $folder"
		go test -run '^$' -fuzz "^$target\$" -fuzztime "${FUZZTIME:-5s}" -fuzzminimizetime 10x "$folder"
		ran=$((ran + 1))
	done
done
if [ "$ran" = 0 ]; then
	echo "$0: no fuzz target found" >&2
	exit 1
fi
