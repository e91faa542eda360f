#!/usr/bin/env bash
# Runs all tests: pytest, then nbval, which replays the notebooks. Both work in an empty temporary home.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/tools/environment.sh"
cd "$project"

homes=$(mktemp -d)
trap 'rm -rf "$homes"' EXIT

DENOISE_HOME=$homes/tests "$PYTHON" -m pytest "$@"
DENOISE_HOME=$homes/nbval "$PYTHON" -m pytest --nbval-lax --nbval-current-env -p no:cacheprovider notebooks
