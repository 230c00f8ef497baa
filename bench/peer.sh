#!/bin/sh
# Builds what zosia is compared with: llama.cpp's own llama-bench, load, which only loads
# a model as llama.cpp does by itself (load.cpp), and quality (quality.cpp).
#
# Usage: bench/peer.sh native|aarch64 [FLAGS]
#        bench/peer.sh --version
#
#   FLAGS   architecture flags of the compiler, as zosia's own builds have;
#           without them, llama.cpp's defaults
#
# Static, from the llama.cpp inside a pinned source distribution of
# llama-cpp-python. Prints the directory with the executables, which
# ZOSIA_CACHE keeps; a first build takes ten minutes on two cores.
set -eu

# Where this file is, not a link to it.
self=$0
while link=$(readlink "$self"); do
    case $link in /*) self=$link ;; *) self=$(dirname "$self")/$link ;; esac
done
top=$(CDPATH='' cd -P "$(dirname "$self")/.." && pwd -P)
# shellcheck source=tools/lib/script.sh
. "$top/tools/lib/script.sh"
# shellcheck source=tools/lib/host.sh
. "$top/tools/lib/host.sh"

version=$("$top/tools/llama-source.sh" --version)

[ $# -le 2 ] || die 2 "too many arguments; --help tells what there is"
flags=${2:-}
case ${1:-} in
    native) cxx=c++ ;;
    aarch64) cxx=aarch64-linux-gnu-g++ ;;
    --version) echo "$version" && exit 0 ;;
    -h | --help) usage && exit 0 ;;
    *) die 2 "for which machine, native or aarch64?" ;;
esac
machine=$1

detect_host
"$top/tools/deps.sh" bench >&2
cache=${ZOSIA_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/zosia}/peer-$version
# What a processor is told to optimize for is part of the name where it matters.
[ "$machine$flags" != native ] || on=-$(grep -m 1 '^flags' /proc/cpuinfo | cksum | cut -d ' ' -f 1)
build=$cache/$machine-$(printf '%s' "${flags:-default}" | tr -c 'A-Za-z0-9.+\n' _)${on:-}
is_built() {
    [ -x "$build/bin/llama-bench" ] || return 1
    for program in load quality; do
        [ -n "$(find "$build/$program" -newer "$top/bench/$program.cpp" 2>/dev/null)" ] || return 1
    done
}
if is_built; then
    printf '%s\n' "$build"
    exit 0
fi

source=$("$top/tools/llama-source.sh")
set -- -DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=OFF -DGGML_STATIC=ON -DCMAKE_EXE_LINKER_FLAGS=-static -DLLAMA_OPENSSL=OFF \
    -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_SERVER=OFF
if [ "$machine" = aarch64 ]; then
    set -- "$@" -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 \
        -DCMAKE_C_COMPILER=aarch64-linux-gnu-gcc -DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++
fi
[ -z "$flags" ] || set -- "$@" -DGGML_NATIVE=OFF "-DCMAKE_C_FLAGS=$flags" "-DCMAKE_CXX_FLAGS=$flags"
show cmake -S "$source" -B "$build" "$@" >"$cache/cmake.log" 2>&1 || die 3 "cmake failed; $cache/cmake.log tells why"
show cmake --build "$build" --target llama-bench --parallel "${ZOSIA_JOBS:-$(host_cores)}" >"$cache/make.log" 2>&1 ||
    die 3 "the build failed; $cache/make.log tells why"
for program in load quality; do
    # shellcheck disable=SC2046 # a list of files
    show "$cxx" -O2 -static -o "$build/$program" -I"$source/include" -I"$source/ggml/include" "$top/bench/$program.cpp" \
        $(find "$build" -name libllama.a) \
        $(for library in ggml ggml-cpu ggml-base; do find "$build" -name "lib$library.a"; done) -fopenmp >&2
done
printf '%s\n' "$build"
