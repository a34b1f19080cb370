# Shared by the scripts beside it; sourced, never run. Everything installed comes from the
# distribution's packages, by name, and only what is missing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD
# A second checkout on the same machine compiles nothing twice.
export CCACHE_BASEDIR=$root CCACHE_NOHASHDIR=1

say() { printf '\033[1m== %s\033[0m\n' "$*" >&2; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else
    command -v sudo >/dev/null || die "installing packages needs root or sudo: run as root, or install sudo"
    sudo "$@"
  fi
}

# need PACKAGE...: installs what dpkg does not know as installed. Quick when nothing is missing.
need() {
  command -v dpkg-query >/dev/null || die "the scripts know Debian's packages only; install by hand: $*"
  local missing=() package
  for package in "$@"; do
    dpkg-query -W -f='${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
  done
  [ ${#missing[@]} = 0 ] && return
  say "installing ${missing[*]}"
  local log; log=$(mktemp)
  { as_root env DEBIAN_FRONTEND=noninteractive apt-get update -q &&
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}"; } >"$log" 2>&1 ||
    { cat "$log" >&2; rm -f "$log"; die "apt-get could not install ${missing[*]}"; }
  rm -f "$log"
}

need_build() {
  need g++ cmake ninja-build ccache pkg-config libboost1.81-dev libfmt-dev libspdlog-dev nlohmann-json3-dev \
    libtomlplusplus-dev libcli11-dev prometheus-cpp-dev libsqlite3-dev libpq-dev libssl-dev zlib1g-dev python3
}
# need_cross ARCH: Debian's compiler for another kind of machine, and its libraries beside those of this one. Of libpq only
# the header is used, the same for all kinds.
need_cross() {
  need cmake ninja-build ccache pkg-config python3 nlohmann-json3-dev libcli11-dev libpq-dev
  dpkg --print-foreign-architectures | grep -qx "$1" || as_root dpkg --add-architecture "$1"
  local library libraries=()
  for library in libboost1.81-dev libfmt-dev libspdlog-dev libtomlplusplus-dev prometheus-cpp-dev libsqlite3-dev libssl-dev zlib1g-dev; do
    libraries+=("$library:$1")
  done
  need "crossbuild-essential-$1" "${libraries[@]}"
}
need_tests() {
  need_build
  need libgtest-dev libgmock-dev libbenchmark-dev librapidcheck-dev spin python3-venv curl nginx-light
  need_postgresql
}
# The servers that tests start by themselves. Installing PostgreSQL makes no cluster of the machine's own.
need_postgresql() {
  if ! compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null; then
    need postgresql-common
    local none=/etc/postgresql-common/createcluster.d/keelback-tests.conf
    as_root mkdir -p "${none%/*}"
    echo 'create_main_cluster = false' | as_root tee "$none" >/dev/null
    (need postgresql) || { as_root rm -f "$none"; exit 1; }
    as_root rm -f "$none"
  fi
  need pgbouncer
}

# build PRESET [TARGET...]: configures once, then builds.
build() {
  local preset=$1; shift
  if [ ! -e "build/$preset/build.ninja" ]; then
    say "configuring build/$preset"
    cmake --preset "$preset" "${cmake_options[@]}" >"build-$preset.log" 2>&1 || { cat "build-$preset.log" >&2; die "cmake failed"; }
    mkdir -p "build/$preset"; mv "build-$preset.log" "build/$preset/configure.log"
  fi
  say "building build/$preset"
  cmake --build "build/$preset" -j "$(nproc)" ${1:+--target "$@"} >&2
}
cmake_options=()

# build_cross ARCH: the programs for another kind of machine, in build/release-ARCH. Tests are for the machine that builds.
build_cross() {
  need_cross "$1"
  if [ ! -e "build/release-$1/build.ninja" ]; then
    say "configuring build/release-$1"
    cmake --preset release -B "build/release-$1" -DKEELBACK_TESTS=OFF \
      -DCMAKE_TOOLCHAIN_FILE="$root/cmake/cross-$1.cmake" >"build-$1.log" 2>&1 || { cat "build-$1.log" >&2; die "cmake failed"; }
    mv "build-$1.log" "build/release-$1/configure.log"
  fi
  say "building build/release-$1"
  cmake --build "build/release-$1" -j "$(nproc)" --target keelback keelback-lab keelback-fakeworker keelback_archive >&2
}
