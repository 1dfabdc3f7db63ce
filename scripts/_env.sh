# Sourced by the scripts beside it, after `cd` to the root of the project. Makes sure that the project's own virtual
# environment exists and holds what the lock says; puts it first in PATH. Prints nothing when there is nothing to do.
# Set PYTHON to choose the interpreter a new environment is made with.

fail() {
    echo "${0##*/}: $1" >&2
    exit 1
}

# A name in PATH may be a stub that runs nothing, so every candidate is run once.
python_ok() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

find_python() {
    if [ -n "${PYTHON:-}" ]; then
        python_ok "$PYTHON" || fail "PYTHON=$PYTHON is not a Python 3.11 or newer"
        echo "$PYTHON"
        return
    fi
    for candidate in python3.13 python3.12 python3.11 python3 python; do
        if python_ok "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    fail "no Python 3.11 or newer found; install one, or set PYTHON to its path"
}

# The stamp changes with the locked versions and with the entry points, which an editable install fixes when it is made.
# The folder's name is in it, because a virtual environment does not survive being moved.
wanted="$(cat requirements/dev.txt pyproject.toml | cksum) $PWD"
stamp=.venv/replog-stamp
found=$(cat "$stamp" 2>/dev/null || true)

if [ "$found" != "$wanted" ] || ! python_ok .venv/bin/python; then
    if [ "${found#* * }" != "$PWD" ] || ! python_ok .venv/bin/python; then
        if [ -e .venv ] && [ -z "$found" ]; then
            fail "$PWD/.venv is here and was not made by this script: move it away, for it makes one of its own"
        fi
        python=$(find_python) || exit 1
        echo "making the virtual environment .venv with $("$python" --version)" >&2
        rm -rf .venv
        mkdir .venv
        echo "0 0 $PWD" >"$stamp" # ours from here on, finished or not
        "$python" -m venv .venv >&2 || fail "$python cannot make a virtual environment (Debian: apt install python3-venv)"
    fi
    echo "installing the locked dependencies into .venv" >&2
    PIP_DISABLE_PIP_VERSION_CHECK=1
    export PIP_DISABLE_PIP_VERSION_CHECK
    .venv/bin/python -m pip install --quiet --require-hashes -r requirements/dev.txt >&2 ||
        fail "the locked dependencies could not be installed"
    .venv/bin/python -m pip install --quiet --no-build-isolation --no-deps --editable . >&2 ||
        fail "the project could not be installed into .venv"
    echo "$wanted" >"$stamp"
fi

PATH=$PWD/.venv/bin:$PATH
export PATH

# Every replica is a process of its own, and without bytecode that is kept each one compiles every module anew: 0.5 s of
# a processor instead of 0.1. It is kept in .venv, so that the folders stay clean for whoever forbids it for that reason.
unset PYTHONDONTWRITEBYTECODE
PYTHONPYCACHEPREFIX=$PWD/.venv/bytecode
export PYTHONPYCACHEPREFIX
