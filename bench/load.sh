#!/bin/sh
# From the start of the program to a model that can be asked, its file in the
# page cache: zosia against llama.cpp's own loading (load.cpp), in turn.
#
# Usage: bench/load.sh [--runs N] [--ctx N] [--threads N] [MODEL]
#
# Whole processes, start to end, both without repacking and with the same
# context. MODEL: default smollm2-135m.
set -eu

program=load.sh
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

model='' runs=10 ctx=4096 threads='' where=native json='' settings=''
while [ $# -gt 0 ]; do
    case $1 in
        -h | --help) usage && exit 0 ;;
        --runs | --ctx | --threads) [ $# -ge 2 ] || die 2 "$1 needs a value" ;;
    esac
    case $1 in
        --runs) runs=$2 && shift ;;
        --ctx) ctx=$2 && shift ;;
        --threads) threads=$2 && shift ;;
        -*) die 2 "unknown option $1 (bench/load.sh --help)" ;;
        *) model=$1 ;;
    esac
    shift
done
are_counts "$runs" "$ctx" "${threads:-1}" || die 2 "--runs, --ctx and --threads take whole numbers above 0"

detect_host
open_bench
find_model "${model:-smollm2-135m}"
get_model
threads=${threads:-$(host_cores)}
"$tools/build.sh" --native >&2
peer=$("$bench/peer.sh" native)
cat "$model_file" >/dev/null

# timed WHO COMMAND...: its seconds appended to $scratch/times.
timed() {
    timed_who=$1
    shift
    timed_began=$(date +%s%N)
    "$@" >"$scratch/out" 2>"$scratch/err" </dev/null || die 1 "$timed_who failed: $(tail -n 1 "$scratch/err")"
    echo "$timed_who $timed_began $(date +%s%N)" >>"$scratch/times"
}

zosia() {
    timed zosia "$top/out/native/init" --mode bench --bench 0,0,0 --repack off --ctx "$ctx" --threads "$threads" "$model_file"
}

llama() { timed llama "$peer/load" "$model_file" "$ctx" "$threads"; }

zosia
llama
: >"$scratch/times"
round=0
while [ "$round" -lt "$runs" ]; do
    if [ $((round % 2)) = 0 ]; then zosia && llama; else llama && zosia; fi
    round=$((round + 1))
done
{
    printf '{%s,"ctx":%s,"threads":%s,"runs":[\n' "$(environment)" "$ctx" "$threads"
    awk '{ printf "%s{\"who\":\"%s\",\"ns\":%.0f}", NR > 1 ? ",\n" : "", $1, $3 - $2 } END { print "\n]}" }' "$scratch/times"
} | record load
awk "$awk_statistics"'
    { time[$1, ++count[$1]] = ($3 - $2) / 1e6 }
    END {
        n = count["zosia"]
        for (i = 1; i <= n; i++) { z[i] = time["zosia", i]; l[i] = time["llama", i]; r[i] = z[i] / l[i] }
        sort(z, n); sort(l, n); sort(r, n)
        printf "zosia      median %8.0f ms (%.0f to %.0f of %d)\n", median(z, n), z[1], z[n], n
        printf "llama.cpp  median %8.0f ms (%.0f to %.0f)\n", median(l, n), l[1], l[n]
        printf "zosia / llama.cpp, pair by pair: median %.3f (%.3f to %.3f)\n", median(r, n), r[1], r[n]
    }' "$scratch/times"
