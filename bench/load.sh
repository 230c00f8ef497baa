#!/bin/sh
# From the start of the program to a model that can be asked, its file in the
# page cache: zosia against llama.cpp's own loading (load.cpp), in turn.
#
# Usage: bench/load.sh [--runs N] [--ctx N] [--threads N] [--repack on|off] [MODEL]
#
#   --repack on   llama.cpp copies weights into the layout that it likes best, as
#                 llama-bench has it do; zosia uses them as they lie in the file
#                 (default off: neither does)
#
# Whole processes, start to end, with the same context: time, and the most memory
# that they had, what they have mapped of the file included. MODEL: default
# smollm2-135m.
set -eu

# Where this file is, not a link to it.
self=$0
while link=$(readlink "$self"); do
    case $link in /*) self=$link ;; *) self=$(dirname "$self")/$link ;; esac
done
bench=$(CDPATH='' cd -- "$(dirname -- "$self")" && pwd -P)
# shellcheck source=bench/lib/common.sh
. "$bench/lib/common.sh"

runs=10 ctx=4096 repack=off
prepare_native "--runs --ctx --threads --repack" "$@"
case $repack in on | off) ;; *) die 2 "--repack takes on or off, not $repack" ;; esac
peer=$("$bench/peer.sh" native)
cat "$model_file" >/dev/null

# timed WHO COMMAND...: its start, its end and its KiB appended to $scratch/times.
timed() {
    timed_who=$1
    shift
    timed_began=$(date +%s%N)
    /usr/bin/time -f %M -o "$scratch/peak" "$@" >"$scratch/out" 2>"$scratch/err" </dev/null ||
        die 1 "$timed_who failed: $(tail -n 1 "$scratch/err")"
    echo "$timed_who $timed_began $(date +%s%N) $(tail -n 1 "$scratch/peak")" >>"$scratch/times"
}

zosia() {
    timed zosia "$top/out/native/init" --mode bench --bench 0,0,0 --repack off --ctx "$ctx" --threads "$threads" "$model_file"
}

llama() { timed llama "$peer/load" "$model_file" "$ctx" "$threads" "$repack"; }

zosia
llama
: >"$scratch/times"
round=0
while [ "$round" -lt "$runs" ]; do
    if [ $((round % 2)) = 0 ]; then zosia && llama; else llama && zosia; fi
    round=$((round + 1))
done
{
    printf '{%s,"ctx":%s,"threads":%s,"peer_repack":"%s","runs":[\n' "$(environment)" "$ctx" "$threads" "$repack"
    awk '{ printf "%s{\"who\":\"%s\",\"ns\":%.0f,\"peak_kib\":%d}", (NR > 1 ? ",\n" : ""), $1, $3 - $2, $4 } END { print "\n]}" }' "$scratch/times"
} | record load
awk "$awk_statistics"'
    { time[$1, ++count[$1]] = ($3 - $2) / 1e6; peak[$1, count[$1]] = $4 / 1024 }
    END {
        n = count["zosia"]
        for (i = 1; i <= n; i++) { z[i] = time["zosia", i]; l[i] = time["llama", i]; r[i] = z[i] / l[i] }
        for (i = 1; i <= n; i++) { m[i] = peak["zosia", i]; p[i] = peak["llama", i] }
        sort(z, n); sort(l, n); sort(r, n); sort(m, n); sort(p, n)
        printf "zosia      median %8.0f ms (%.0f to %.0f of %d)\n", median(z, n), z[1], z[n], n
        printf "llama.cpp  median %8.0f ms (%.0f to %.0f)\n", median(l, n), l[1], l[n]
        printf "zosia / llama.cpp, pair by pair: median %.3f (%.3f to %.3f)\n", median(r, n), r[1], r[n]
        printf "at most %.0f MiB and %.0f: %.3f\n", median(m, n), median(p, n), median(m, n) / median(p, n)
    }' "$scratch/times"
