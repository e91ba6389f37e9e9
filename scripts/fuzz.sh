#!/bin/sh
# Runs every fuzz target for a while each (FUZZTIME, 5s when it is not set).
# Finding none is an error.
set -eu

cd "$(dirname "$0")/.."
ran=0
log=$(mktemp)
trap 'rm -f "$log"' EXIT

# failed ends with what a target found. On a busy machine the fuzzer may take the
# end of its own time for a failure: then it has written no input that fails.
failed() {
	if grep -q 'context deadline exceeded' "$1" && ! grep -q 'Failing input written' "$1"; then
		echo "found nothing until its time was over" >"$1"
		return
	fi
	cat "$1"
	exit 1
}

for folder in $(grep -rlE --include='*_test.go' --exclude-dir=.git --exclude-dir=.cache '^func Fuzz' . |
	sed 's,/[^/]*$,,' | sort -u); do
	listed=$(go test -list '^Fuzz' "$folder") || {
		echo "$listed"
		exit 1
	}
	for target in $(echo "$listed" | grep '^Fuzz'); do
		echo "fuzzing $target in $folder"
		go test -run '^$' -fuzz "^$target\$" -fuzztime "${FUZZTIME:-5s}" -fuzzminimizetime 10x "$folder" >"$log" 2>&1 || failed "$log"
		tail -n 3 "$log"
		ran=$((ran + 1))
	done
done
if [ "$ran" = 0 ]; then
	echo "$0: no fuzz target found" >&2
	exit 1
fi
