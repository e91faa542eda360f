#!/usr/bin/env bash
# Runs all tests: pytest, and beside it nbval, which replays the notebooks. Both work in an empty temporary home.
# Arguments go to pytest (./run_tests.sh tests/test_losses.py); the notebooks are replayed only without any.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/tools/environment.sh"
cd "$project"

homes=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$homes"' EXIT
export DENOISE_HOME=$homes/tests

if (($#)); then
    "$PYTHON" -m pytest "$@"
    exit
fi
DENOISE_HOME=$homes/nbval "$PYTHON" -m pytest --nbval-lax --nbval-current-env -p no:cacheprovider notebooks >"$homes/nbval.log" 2>&1 &
status=0
"$PYTHON" -m pytest || status=$?
wait $! || status=$?
cat "$homes/nbval.log"
exit $status
