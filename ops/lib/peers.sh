# Sourced by ops/bench: an environment of Python with the peers of the queue benchmark, beneath .build.

PEERS_PYTHON=.build/bench-peers/bin/python

# The newest Python there is: oban wants 3.12, which Debian 12 does not have.
newest_python() {
  local candidate best=
  for candidate in python3.14 python3.13 python3.12 "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.1[2-9]*/bin/python3; do
    candidate=$(command -v "$candidate") || continue
    # A shim of a version that is not chosen is there and does not run.
    "$candidate" -c 'import venv, ensurepip' 2>/dev/null && best=$candidate && break
  done
  echo "${best:-$(command -v python3)}"
}

# What cannot be installed is named in the table; the others are measured all the same.
install_peers() {
  local python stamp=.build/bench-peers/requirements.txt
  if cmp -s ops/bench-peers/requirements.txt "$stamp"; then return 0; fi
  python=$(newest_python) || return 1
  say "Installing the peers into .build/bench-peers ($("$python" --version))"
  rm -rf .build/bench-peers
  "$python" -m venv .build/bench-peers >&2 || return 1
  .build/bench-peers/bin/pip install -q --disable-pip-version-check -r ops/bench-peers/requirements.txt >&2 || return 1
  cp ops/bench-peers/requirements.txt "$stamp"
}
