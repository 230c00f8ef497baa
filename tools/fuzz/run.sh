#!/bin/sh
# Fuzzes what takes bytes from outside: libFuzzer, guided by coverage.
#
# Usage: tools/fuzz/run.sh [--seconds N | --runs N] [--asan] [TARGET]...
#
# Targets: header, template, protocol, keys, markdown, parameters, texts, journal, loader;
# without any, all of them, one after the other on each processor. --seconds is for each (30);
# --runs tries so many inputs of each, the same ones every time, and keeps no finds.
# The loader is about what is not ours: what the header's check accepts, llama.cpp
# survives, in the plain command that ZOSIA_FUZZ_COMMAND names (default: one is built);
# ZOSIA_FUZZ_MODEL=FILE keeps the last model. --asan builds one whose C++ but for the
# kernels AddressSanitizer looks after, which takes a quarter of an hour the first time.
# Finds are kept in ZOSIA_CACHE/fuzz/TARGET (default ~/.cache/zosia/fuzz), from
# where the next run goes on; an input that fails is written there as crash-…,
# and TARGET's binary takes its path to fail again.
set -eu

# Where this file is, not a link to it.
self=$0
while link=$(readlink "$self"); do
    case $link in /*) self=$link ;; *) self=$(dirname "$self")/$link ;; esac
done
top=$(CDPATH='' cd -P "$(dirname "$self")/../.." && pwd -P)
cache=${ZOSIA_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/zosia}
# shellcheck source=tools/lib/script.sh
. "$top/tools/lib/script.sh"

seconds=30 runs='' asan=''
targets=
while [ $# -gt 0 ]; do
    case $1 in
        --seconds)
            [ $# -gt 1 ] || die 2 "--seconds needs a number"
            seconds=$2
            shift
            ;;
        --runs)
            [ $# -gt 1 ] || die 2 "--runs needs a number"
            runs=$2
            shift
            ;;
        --asan) asan=1 ;;
        header | template | protocol | keys | markdown | parameters | texts | journal | loader) targets="$targets $1" ;;
        -h | --help)
            usage
            exit 0
            ;;
        *) die 2 "unknown target $1 (tools/fuzz/run.sh --help)" ;;
    esac
    shift
done
: "${targets:=header template protocol keys markdown parameters texts journal loader}"
case $seconds in '' | *[!0-9]*) die 2 "--seconds: not a number: $seconds" ;; esac
case $runs in *[!0-9]*) die 2 "--runs: not a number: $runs" ;; esac
[ -z "$asan" ] || [ -z "${ZOSIA_FUZZ_COMMAND:-}" ] ||
    die 2 "--asan builds a plain command, and ZOSIA_FUZZ_COMMAND names another"
finds_dir=$cache/fuzz
if [ -n "$runs" ]; then
    finds_dir=$(mktemp -d "${TMPDIR:-/tmp}/zosia-fuzz.XXXXXX")
    trap 'rm -rf "$finds_dir"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
fi

# Builds the plain command with GCC's AddressSanitizer, and names it. Not with it are the
# kernels, which would take an hour, and what is Rust. The C++ library checks indices, and
# tells what a vector has room for from what is in it.
build_with_asan() {
    asan_dir=$cache/fuzz/asan
    mkdir -p "$asan_dir"
    cc -O1 -c "$top/tools/fuzz/asan.c" -o "$asan_dir/asan.o"
    runtime=$(cc -print-file-name=libasan.a)
    [ -f "$runtime" ] || die 1 "cc has no libasan.a, which Debian's libgcc-*-dev brings"
    flags='-fsanitize=address -fno-omit-frame-pointer -g1 -fPIC'
    flags="$flags -D_GLIBCXX_ASSERTIONS -D_GLIBCXX_SANITIZE_VECTOR"
    # llama-cpp-sys-2 hands CMAKE_… on; the kernels are not built by it. Symbols are for
    # addr2line, for which the executable also has a fixed address.
    CMAKE_C_FLAGS=$flags CMAKE_CXX_FLAGS=$flags \
        CMAKE_C_FLAGS_RELEASE='-O1 -DNDEBUG' CMAKE_CXX_FLAGS_RELEASE='-O1 -DNDEBUG' \
        CARGO_PROFILE_RELEASE_STRIP=false CARGO_PROFILE_RELEASE_LTO=off \
        cargo rustc --quiet --release --locked --manifest-path "$top/Cargo.toml" \
        --package init --bin init --features asan --target-dir "$asan_dir" -- \
        -C relocation-model=static -C link-arg="$asan_dir/asan.o" \
        -C link-arg="-Wl,--whole-archive,$runtime,--no-whole-archive"
    ZOSIA_FUZZ_COMMAND=$asan_dir/release/init
}

case " $targets " in
    *" loader "*)
        if [ -n "$asan" ]; then
            build_with_asan
        elif [ -z "${ZOSIA_FUZZ_COMMAND:-}" ]; then
            : "${CARGO_TARGET_DIR:=$cache/target}"
            export CARGO_TARGET_DIR
            cargo build --quiet --release --locked --manifest-path "$top/Cargo.toml" --package init
            ZOSIA_FUZZ_COMMAND=$CARGO_TARGET_DIR/release/init
        fi
        export ZOSIA_FUZZ_COMMAND
        ;;
esac

# The compiler counts which branches are taken, and shows libFuzzer what is compared.
RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares"
host=$(rustc -vV | sed -n 's/^host: //p')
built=$cache/fuzz/target
export RUSTFLAGS
# A target of its own keeps the flags away from build scripts.
cargo build --quiet --release --locked --manifest-path "$top/tools/fuzz/Cargo.toml" \
    --target "$host" --target-dir "$built"

limit=-max_total_time=$seconds
[ -z "$runs" ] || limit=-runs=$runs

fuzz() { # TARGET
    finds=$finds_dir/$1
    dictionary=$top/tools/fuzz/dictionaries/$1
    [ ! -f "$dictionary" ] || set -- "$1" "-dict=$dictionary"
    # Where the input that fails is kept.
    mkdir -p "$finds" "$cache/fuzz/$1"
    "$built/$host/release/$1" "$finds" "$top/tools/fuzz/corpus/$1" ${2:+"$2"} \
        -artifact_prefix="$cache/fuzz/$1/" ${runs:+-seed=1} "$limit" \
        -timeout=20 -rss_limit_mb=1024 -print_final_stats=1 >"$finds.log" 2>&1 || {
        tail -n 100 "$finds.log" >&2
        say "$1: see above, and the input in $cache/fuzz/$1"
        return 1
    }
    say "$1: $(sed -n 's/^stat::number_of_executed_units: *//p' "$finds.log") inputs, none fails"
}

# As many at a time as there are processors.
at_once=$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1)
running=
count=0
failed=0
settle() {
    for pid in $running; do wait "$pid" || failed=1; done
    running=
    count=0
}
for target in $targets; do
    fuzz "$target" &
    running="$running $!"
    count=$((count + 1))
    [ "$count" -lt "$at_once" ] || settle
done
settle
exit "$failed"
