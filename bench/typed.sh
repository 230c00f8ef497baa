#!/bin/sh
# Time to the first token of a typed message of about 200 tokens: evaluated
# while it is typed (draft=on), and not, in turn; the plain command on this
# machine, at a pseudo-terminal.
#
# Usage: bench/typed.sh [--runs N] [--pace N] [--threads N] [MODEL]
#
#   --pace N   characters a second   (default 8, a fast typist's)
#
# MODEL: default smollm2-135m.
set -eu

program=typed.sh
bench=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd -P)
top=${bench%/*}
tools=$top/tools
# shellcheck source=tools/lib/host.sh
. "$tools/lib/host.sh"
# shellcheck source=tools/lib/catalogue.sh
. "$tools/lib/catalogue.sh"
# shellcheck source=bench/lib.sh
. "$bench/lib.sh"

usage() { sed -n '2,/^set -eu/{/^#/!d;s/^# \{0,1\}//;p;}' "$0"; }

model='' runs=3 pace=8 threads='' where=native json='' settings=''
while [ $# -gt 0 ]; do
    case $1 in
        -h | --help) usage && exit 0 ;;
        --runs | --pace | --threads) [ $# -ge 2 ] || die 2 "$1 needs a value" ;;
    esac
    case $1 in
        --runs) runs=$2 && shift ;;
        --pace) pace=$2 && shift ;;
        --threads) threads=$2 && shift ;;
        -*) die 2 "unknown option $1 (bench/typed.sh --help)" ;;
        *) model=$1 ;;
    esac
    shift
done
are_counts "$runs" "$pace" "${threads:-1}" || die 2 "--runs, --pace and --threads take whole numbers above 0"

detect_host
open_bench
find_model "${model:-smollm2-135m}"
get_model
threads=${threads:-$(host_cores)}
"$tools/build.sh" --native >&2
CARGO_TARGET_DIR=${ZOSIA_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/zosia}/target
export CARGO_TARGET_DIR
cargo build --quiet --manifest-path "$top/Cargo.toml" --locked --package bench-typed >&2 || die 3 "bench/typed cannot be built"
"$CARGO_TARGET_DIR/debug/bench-typed" "$top/out/native/init" "$model_file" --runs "$runs" --pace "$pace" \
    -- --threads="$threads" | tee "$scratch/typed" || die 1 "nothing was measured"
{
    printf '{%s,"threads":%s,"pace":%s,"runs":[\n' "$(environment)" "$threads" "$pace"
    grep '^{' "$scratch/typed" | sed '$!s/$/,/'
    echo ']}'
} | record typed
