# Sourced after prepare.sh by what runs suites of Tests/: the independent implementation that SchedulesTests asks.
# It is pinned by digest and lies beneath .build, in an environment of its own; nothing of it is part of Cordon.

CORDON_PACKAGES+=(
  python3-venv         # the environment that reference.txt is installed into
)

# prepare_reference SUITE…: where SchedulesTests is among them, makes .build/reference unless it is there already.
prepare_reference() {
  local place=.build/reference list=ops/lib/reference.txt
  [[ " $* " == *" SchedulesTests "* ]] || return 0
  cmp -s "$list" "$place/installed.txt" && return 0
  say "Installing croniter, which the schedules are compared with"
  rm -rf "$place"
  mkdir -p .build
  # Debian's interpreter and nobody's settings, so that it is the same everywhere.
  /usr/bin/python3 -I -m venv "$place" >&2 \
    && "$place/bin/python3" -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: \
      --requirement "$list" >&2 \
    && cp "$list" "$place/installed.txt" \
    || die "croniter could not be installed (fix: let this host reach PyPI, or name a mirror in PIP_INDEX_URL)"
}
