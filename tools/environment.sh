# Sourced by run_all.sh and run_tests.sh: sets PYTHON to an interpreter that has the project's packages.
# An active environment in which this project is installed is used as it is; otherwise .venv, made on first use.

project=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.." && pwd)
export PYTHONUTF8=1 # whatever the locale is

has_project() { # has_project PYTHON: is this very checkout installed there, with all that it needs?
    # -P keeps the current folder from passing for an installed package.
    (cd / && "$1" -P - "$project") >/dev/null 2>&1 <<'PY'
import importlib.util, pathlib, sys
spec = importlib.util.find_spec("denoise_lib")
here = pathlib.Path(sys.argv[1], "denoise_lib", "__init__.py").resolve()
needed = ("torch", "papermill", "nbval", "xdist", "hypothesis", "tabulate", "joblib", "filelock", "latex2mathml", "pydantic", "importlinter", "duckdb")
sys.exit(not (spec and pathlib.Path(spec.origin).resolve() == here and all(map(importlib.util.find_spec, needed))))
PY
}

find_python() {
    local candidate
    for candidate in python3 python3.13 python3.12 python3.11 python; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    echo "Python 3.11 or newer is needed, and none was found on PATH." >&2
    return 1
}

make_venv() {
    local venv=$project/.venv python stamp install
    stamp=$(cat "$project/requirements.lock" "$project/pyproject.toml" | cksum)
    # The stamp is written last: without it, an earlier making was interrupted or was of other versions.
    [ "$(cat "$venv/complete" 2>/dev/null)" = "$stamp" ] && return
    python=$(find_python) || return 1
    echo "Making .venv from requirements.lock (once; two to five minutes) …" >&2
    # Whatever the user has told pip: into .venv, not into a home folder.
    install=(env -u PIP_TARGET -u PIP_PREFIX -u PIP_ROOT PIP_USER=0 "$venv/bin/python" -m pip install --quiet --disable-pip-version-check)
    rm -rf "$venv" &&
        "$python" -m venv "$venv" &&
        "${install[@]}" -r "$project/requirements.lock" &&
        "${install[@]}" --no-deps -e "$project" &&
        echo "$stamp" >"$venv/complete" && return
    echo "Making .venv failed; the message above says why. The next call starts it anew." >&2
    return 1
}

if { [ -n "${VIRTUAL_ENV:-}" ] || [ -n "${CONDA_PREFIX:-}" ]; } && has_project python; then
    PYTHON=python
else
    if command -v flock >/dev/null; then # two first calls at once: the second waits for the first
        (flock 9 && make_venv) 9>"$project/.venv.lock" || exit 1
    else
        make_venv || exit 1
    fi
    PYTHON=$project/.venv/bin/python
fi
