#!/usr/bin/env bash
# Runs all tests: pytest in two processes, and beside them nbval, which replays the notebooks, all in empty temporary homes.
# Arguments go to pytest (./run_tests.sh tests/test_losses.py); the notebooks are replayed only without any.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/tools/environment.sh"
cd "$project"

homes=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$homes"' EXIT

if (($#)); then
    "$PYTHON" -m pytest "$@"
    exit
fi
DENOISE_HOME=$homes/nbval "$PYTHON" -m pytest --nbval-lax --nbval-current-env -p no:cacheprovider notebooks >"$homes/nbval.log" 2>&1 &
status=0
"$PYTHON" -m pytest -n 2 --dist loadfile || status=$?
wait $! || status=$?
cat "$homes/nbval.log"
exit $status
