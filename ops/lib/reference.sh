# Sourced after prepare.sh by what runs suites of Tests/: the independent implementations that some of them ask.
# What a suite's reference.py imports is pinned by digest in the reference.txt beside it and lies beneath .build, in an
# environment of the suite's own; nothing of it is part of Cordon.

CORDON_PACKAGES+=(
  python3-venv         # the environments that the lists are installed into
  # The hosts of the test town (Sources/TestKit/Town.swift), and what asks them.
  nginx                # TLS before the package index, and the record of what it was asked
  rsyslog              # the collector that logs are forwarded to
  rsyslog-gnutls       # the same over TLS
  openssl              # the town's certificate authority
  curl                 # the client of the ingest and of Vault
)

# prepare_reference SUITE…: makes .build/reference/SUITE for each that has a list, unless it is there already.
prepare_reference() {
  local suite place list
  for suite; do
    place=.build/reference/$suite list=Tests/$suite/reference.txt
    [ -f "$list" ] || continue
    cmp -s "$list" "$place/installed.txt" && continue
    say "Installing what $suite is compared with"
    rm -rf "$place"
    mkdir -p .build/reference
    # Debian's interpreter and nobody's settings, so that it is the same everywhere.
    /usr/bin/python3 -I -m venv "$place" >&2 \
      && "$place/bin/python3" -m pip install --quiet --disable-pip-version-check --require-hashes \
        --only-binary :all: --requirement "$list" >&2 \
      && cp "$list" "$place/installed.txt" \
      || die "$list could not be installed (fix: let this host reach PyPI, or name a mirror in PIP_INDEX_URL)"
  done
}
