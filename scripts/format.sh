#!/bin/sh
# Fails when a Go file is not as gofumpt writes it, and names it.
set -eu

unformatted=$(go tool gofumpt -l .)
if [ -n "$unformatted" ]; then
	printf 'not as gofumpt writes it; run make fmt:\n%s\n' "$unformatted" >&2
	exit 1
fi
