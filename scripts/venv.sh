# Makes .venv, or reuses it while pyproject.toml is what it was made from. Sourced by the other scripts; $1 is an extra.
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
extra="${1:-}"
wanted="$(sha256sum pyproject.toml | cut -d' ' -f1)"
stamp=".venv/ptft-${extra:-base}-$wanted"
if [ ! -e "$stamp" ]; then
  echo "installing into .venv (torch is large; once only) …" >&2
  if [ ! -x .venv/bin/python ]; then
    for python in python3 python3.13 python3.12 python3.11; do
      "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && break
      python=""
    done
    [ -n "$python" ] || { echo "Python 3.11 or newer is needed." >&2; exit 1; }
    "$python" -m venv .venv || exit 1
  fi
  .venv/bin/python -m pip install --quiet --disable-pip-version-check -e ".${extra:+[$extra]}" 1>&2 || exit 1
  touch "$stamp"
fi
export PATH="$PWD/.venv/bin:$PATH"
