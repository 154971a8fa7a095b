# Sourced by the scripts beside it: installs what a bare Debian 12 lacks and builds.
# Expects to be run from the repository's top. Everything it prints goes to stderr.

# The C libraries Cordon links, the PostgreSQL it tests against, and what finds them.
CORDON_PACKAGES=(
  postgresql-15        # the private database
  libpq-dev            # Postgres target
  libseccomp-dev       # system call filter
  libcap-dev           # capability sets
  pkg-config           # how SwiftPM finds the three above
  python3              # the python3 runtime inside cells, and the example
  libpython3.11        # the same as a library, which a zygote loads
  python3-psycopg2     # what the example of a producer in Python talks to PostgreSQL with
  postgresql-client-15 # psql, for the one in SQL
  e2fsprogs            # mkfs.ext4, for outputs on a disk
  util-linux           # setpriv: PostgreSQL never runs as root
  iproute2             # ip, for the networks between the workers of ops/faults and their database
  nftables             # nft, for the packets that are lost on them
  # What the Swift toolchain itself loads and links with; its tarball does not bring them.
  git ca-certificates binutils libc6-dev libstdc++-12-dev zlib1g-dev
  libncurses6 libcurl4 libxml2 libedit2 libsqlite3-0 tzdata
)

say() { printf '%s\n' "$*" >&2; }
die() { say "error: $*"; exit 3; }

install_packages() {
  local missing=() name
  for name in "${CORDON_PACKAGES[@]}"; do
    [ "$(dpkg-query -W -f '${db:Status-Abbrev}' "$name" 2>/dev/null)" = "ii " ] || missing+=("$name")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  [ "$(id -u)" = 0 ] || die "missing packages: ${missing[*]} (fix: apt-get install ${missing[*]}, as root)"
  say "Installing ${missing[*]}"
  # A cluster of the system's own is neither wanted nor touched: do not make one on installation.
  mkdir -p /etc/postgresql-common
  [ -e /etc/postgresql-common/createcluster.conf ] || echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.conf
  forbid_starts
  export DEBIAN_FRONTEND=noninteractive
  { apt-get update -qq && apt-get install -y -qq --no-install-recommends "${missing[@]}"; } >/dev/null 2>/tmp/cordon-apt.$$ || {
    cat /tmp/cordon-apt.$$ >&2
    allow_starts
    die "apt-get could not install ${missing[*]}"
  }
  rm -f /tmp/cordon-apt.$$
  allow_starts
  # Nor when the host starts again. One that was there before is not touched.
  for name in "${missing[@]}"; do
    case $name in nginx|rsyslog|squid) ! command -v systemctl >/dev/null || systemctl --quiet disable "$name.service" >&2 || true ;; esac
  done
}

# The programs of a package are wanted, a daemon that it would start is not: this file is what Debian asks about that, and
# 101 forbids it. One that is there already is an administrator's, and in force.
START_POLICY=/usr/sbin/policy-rc.d
forbid_starts() {
  [ ! -e "$START_POLICY" ] || return 0
  printf '#!/bin/sh\n# cordon: while its packages are installed\nexit 101\n' >"$START_POLICY"
  chmod 755 "$START_POLICY"
}
allow_starts() {
  if grep -qs '^# cordon:' "$START_POLICY"; then rm -f "$START_POLICY"; fi
}

need_swift() {
  command -v swift >/dev/null || die "no swift on PATH (fix: install the Swift 6.2 toolchain or later)"
}

# build ARGS…: `swift build` with progress on a terminal and only the end of it elsewhere.
build() {
  need_swift
  say "Building (the first time takes some minutes)"
  swift build "$@" >&2 || die "the build failed"
}
