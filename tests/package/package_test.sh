#!/usr/bin/env bash
# Installs this build into an empty prefix and builds a program against it, once with find_package and
# once with pkg-config; both must run Python and the simulator with what was installed.
#   package_test.sh BUILD_DIR CXX
set -euo pipefail
build=$1 cxx=$2
here=$(cd "$(dirname "$0")" && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
prefix=$scratch/prefix

cmake --install "$build" --prefix "$prefix" >"$scratch/install.log" || { cat "$scratch/install.log"; exit 1; }
cat >"$scratch/app.py" <<'PY'
import keelback

@keelback.function
def echo(value):
    assert keelback.__file__.startswith("@PREFIX@"), keelback.__file__
    return value
PY
sed -i "s|@PREFIX@|$prefix|" "$scratch/app.py"

check() { # check PROGRAM: runs it on both backends, with the installed files only
  local program=$1 backend
  for backend in python sim; do
    echo "$program on $backend"
    [ "$(env KEELBACK_LIBEXEC_DIR="$libexec" KEELBACK_PYTHON_DIR="$python" "$program" "$scratch/app.py" "$backend")" = '"installed"' ]
  done
}

cmake -S "$here/consumer" -B "$scratch/cmake" -DCMAKE_PREFIX_PATH="$prefix" -DCMAKE_CXX_COMPILER="$cxx" >"$scratch/configure.log" 2>&1 ||
  { cat "$scratch/configure.log"; exit 1; }
cmake --build "$scratch/cmake" >"$scratch/build.log" 2>&1 || { cat "$scratch/build.log"; exit 1; }
{ read -r libexec; read -r python; } <"$scratch/cmake/where"
check "$scratch/cmake/consumer"

export PKG_CONFIG_PATH
PKG_CONFIG_PATH=$(dirname "$(find "$prefix" -name keelback.pc)")
# shellcheck disable=SC2046
"$cxx" "$here/consumer/main.cpp" -o "$scratch/by-pkg-config" $(pkg-config --cflags --libs keelback)
libexec=$(pkg-config --variable=libexecdir keelback) python=$(pkg-config --variable=pythondir keelback)
check "$scratch/by-pkg-config"

# Each header stands alone.
for header in "$prefix"/include/keelback/*.h; do
  echo "#include <keelback/$(basename "$header")>" >"$scratch/alone.cpp"
  "$cxx" -std=c++23 -Wall -Wextra -Werror -I"$prefix/include" -fsyntax-only "$scratch/alone.cpp"
done
echo passed
