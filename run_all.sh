#!/usr/bin/env bash
# Runs the replication: ./run_all.sh [--help | --list | --dry-run | --site | --new NAME FILE]
#                                    [--full] [--use-records] [--jobs N] [--set key=value]... [--method FILE]... [--backbone FILE]... [dataset ...]
set -euo pipefail
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/tools/environment.sh"

# Keeps glibc from returning memory to the system at every training step, which costs page faults on large tables.
export MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=100000000000
# Progress bars: two lines a second on a terminal, two a minute in a log.
export TQDM_MININTERVAL=${TQDM_MININTERVAL:-$([ -t 2 ] && echo 0.5 || echo 30)}
exec "$PYTHON" -m replication "$@"
