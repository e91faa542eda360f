#!/usr/bin/env bash
# Runs all tests: pytest in two processes, then nbval, which replays the notebooks in the home that the tests have made.
# ./run_tests.sh --quick leaves out what is marked slow, and the notebooks. Other arguments go to pytest, which then is all
# that runs (./run_tests.sh tests/test_losses.py).
set -euo pipefail
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/tools/environment.sh"
cd "$project"

chosen=
if [ "${1:-}" = --quick ]; then
    chosen="not slow"
    shift
fi
if (($#)); then
    exec "$PYTHON" -m pytest -m "$chosen" "$@"
fi
homes=$(mktemp -d)
trap 'rm -rf "$homes"' EXIT
export DENOISE_RELEASE=$homes/release
side_by_side=(-n 2 --dist loadfile --no-loadscope-reorder)
status=0
"$PYTHON" -m pytest "${side_by_side[@]}" -m "$chosen" || status=$?
if [ -z "$chosen" ]; then
    DENOISE_HOME=$DENOISE_RELEASE "$PYTHON" -m pytest "${side_by_side[@]}" -p no:cacheprovider \
        --nbval-lax --nbval-current-env notebooks || status=$?
fi
exit $status
