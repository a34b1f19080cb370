#!/usr/bin/env bash
# Installs this build into an empty prefix, moves the prefix, and builds a program against it, once with
# find_package and once with pkg-config. Both must run Python and the simulator with what was installed.
# While that happens nobody can see the checkout or the build tree: an installed tree stands alone.
#   package_test.sh BUILD_DIR CXX
set -euo pipefail

if [ "$1" != --installed ]; then
  build=$(cd "$1" && pwd) cxx=$2
  here=$(cd "$(dirname "$0")" && pwd)
  source=$(cd "$here/../.." && pwd)
  scratch=$(mktemp -d)
  trap 'rm -rf "$scratch"' EXIT
  cmake --install "$build" --prefix "$scratch/prefix" >"$scratch/install.log" || { cat "$scratch/install.log"; exit 1; }
  mv "$scratch/prefix" "$scratch/moved prefix"
  cmake --install "$build" --prefix "$scratch/product" --component product >"$scratch/install.log" ||
    { cat "$scratch/install.log"; exit 1; }
  cp -r "$here/consumer" "$0" "$scratch"
  case "$scratch/" in "$source"/* | "$build"/*) echo "TMPDIR is in the tree that is to be hidden" >&2; exit 1 ;; esac
  cd "$scratch"
  # shellcheck disable=SC2016
  hide='mount -t tmpfs none "$1" && { [ ! -d "$2" ] || mount -t tmpfs none "$2"; } && [ -z "$(ls -A "$1")" ] && shift 2 && exec "$@"'
  if [ "$(id -u)" = 0 ]; then apart=(unshare --mount); else apart=(unshare --user --map-root-user --mount); fi
  if "${apart[@]}" sh -c "$hide" sh "$source" "$build" true 2>hide.log; then
    apart+=(sh -c "$hide" sh "$source" "$build")
  else
    echo "skipped: the trees cannot be hidden from the program here ($(tail -n 1 hide.log)); what it uses is still looked at"
    apart=(env)
  fi
  # Nothing that a machine exports may help the program. The application looks into the guard above it.
  "${apart[@]}" env -u KEELBACK_LIBEXEC_DIR -u KEELBACK_PYTHON_DIR -u PYTHONPATH KEELBACK_INSPECTABLE=1 \
    bash "$scratch/package_test.sh" --installed "$scratch/moved prefix" "$cxx" "$scratch"
  exit
fi

prefix=$2 cxx=$3 scratch=$4
cat >"$scratch/app.py" <<'PY'
import os
import keelback

PREFIX = os.environ["PREFIX"] + os.sep

def ancestors():
    pid = os.getppid()
    while pid > 1:
        yield pid
        with open(f"/proc/{pid}/stat") as stat:
            pid = int(stat.read().rsplit(")", 1)[1].split()[1])

@keelback.function
def echo(value):
    assert keelback.__file__.startswith(PREFIX), keelback.__file__
    programs = [os.readlink(f"/proc/{pid}/exe") for pid in ancestors() if os.access(f"/proc/{pid}/exe", os.R_OK)]
    guards = [program for program in programs if os.path.basename(program) == "keelback-guard"]
    assert guards and guards[0].startswith(PREFIX), programs
    return value
PY

check() { # check PROGRAM: runs it with the installed files only
  local program=$1 said
  echo "$program"
  [ "$(PREFIX=$prefix "$program" "$scratch/app.py" python)" = '"installed"' ]
  # The archive has no test doubles.
  if said=$("$program" "$scratch/app.py" sim 2>&1); then return 1; fi
  [[ $said == *"pool.backend is sim, a test double that is not part of this program"* ]]
}

cmake -G Ninja -S "$scratch/consumer" -B "$scratch/cmake" -DCMAKE_PREFIX_PATH="$prefix" -DCMAKE_CXX_COMPILER="$cxx" \
  -DCMAKE_INSTALL_PREFIX="$scratch/elsewhere" >"$scratch/configure.log" 2>&1 || { cat "$scratch/configure.log"; exit 1; }
cmake --build "$scratch/cmake" --target install >"$scratch/build.log" 2>&1 || { cat "$scratch/build.log"; exit 1; }
check "$scratch/cmake/consumer"
check "$scratch/elsewhere/bin/consumer"

# It may move again. What pkg-config says of a path with a space is of no use to a shell.
mv "$prefix" "$scratch/moved-again"
prefix=$scratch/moved-again
export PKG_CONFIG_PATH
PKG_CONFIG_PATH=$(dirname "$(find "$prefix" -name keelback.pc)")
# shellcheck disable=SC2046
"$cxx" "$scratch/consumer/main.cpp" -o "$scratch/by-pkg-config" $(pkg-config --cflags --libs keelback)
check "$scratch/by-pkg-config"

# The command finds what was installed with it.
[ "$(PREFIX=$prefix "$prefix/bin/keelback" run "$scratch/app.py" echo '["installed"]')" = '"installed"' ]

# So do the laboratories, which measure and test what was installed with them.
# A function of the application must not have the name of a word of the laboratory.
sed 's/def echo/def again/' "$scratch/app.py" >"$scratch/lab_app.py"
status=0  # 2, 7: on a busy machine the service is late, or the load generator itself
PREFIX=$prefix "$prefix/bin/keelback" chaos run worker-kill --app "$scratch/lab_app.py" --backend python --level light \
  --call 'again=["installed"]' --out "$scratch/chaos" >"$scratch/chaos.log" || status=$?
case $status in 0 | 2 | 7) ;; *) cat "$scratch/chaos.log"; exit 1 ;; esac
grep -q 'proc.kill: bit' "$scratch/chaos.log"
status=0  # 3: the machine was too busy for its numbers to count
"$prefix/bin/keelback" bench run http --profile quick --blocks 2 --json >"$scratch/bench.json" || status=$?
case $status in 0 | 3) ;; *) cat "$scratch/bench.json"; exit 1 ;; esac
grep -q '"noop\|http\.' "$scratch/bench.json"
# What measures us beside others is not there; nor is a laboratory in the component product, which says what to do.
refused() { # refused REMEDY COMMAND...: it ends with 70 and names the remedy
  local status=0 remedy=$1 && shift
  "$@" 2>"$scratch/refused.log" || status=$?
  [ "$status" = 70 ] && grep -q "$remedy" "$scratch/refused.log" || { echo "$* ended with $status"; cat "$scratch/refused.log"; exit 1; }
}
refused "build Keelback" "$prefix/bin/keelback" bench peers
[ -z "$(find "$prefix" -name '*peer*')" ]
product=$scratch/product
refused "component lab" "$product/bin/keelback" chaos list
refused "component lab" "$product/bin/keelback" bench list
"$product/bin/keelback" --help | grep -q 'The chaos laboratory'
[ -z "$(find "$product" -path '*lab/*' -o -name 'keelback-lab' -o -name 'keelback-warden' -o -name '*chaos*')" ]
[ "$(PREFIX=$product "$product/bin/keelback" run "$scratch/app.py" echo '["installed"]')" = '"installed"' ]

# Each header stands alone.
for header in "$prefix"/include/keelback/*.h; do
  echo "#include <keelback/$(basename "$header")>" >"$scratch/alone.cpp"
  "$cxx" -std=c++23 -Wall -Wextra -Werror -I"$prefix/include" -fsyntax-only "$scratch/alone.cpp"
done
echo passed
