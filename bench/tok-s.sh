#!/bin/sh
# Tokens a second: what zosia evaluates (pp) and generates (tg), each alone,
# drawing included, from an empty context (--depth) and without speculation.
#
# Usage: bench/tok-s.sh [OPTION...] [MODEL]
#
# MODEL is a .gguf file or a name from tools/models.tsv; without it
# smollm2-135m. In the VM that tools/run.sh starts, unless --native.
#
#   --native          the plain command on this machine's own processor
#   --profile NAME    phi35: the standard run, phi-3.5-mini (or MODEL), 128
#                     tokens evaluated, 128 generated, 5 runs
#   --pp N, --tg N    tokens evaluated, generated       (default 128, 128)
#   --depth N         tokens in the context before each, evaluated and not counted
#                     (default 0; beyond 4096 with --set ctx=N)
#   --runs N          runs counted, after a first that is not   (default 5)
#   --threads N       threads of the engine, and processors of the guest
#                     (default: what gives the most, up to performance or
#                     physical cores)
#   --set NAME=VALUE  a parameter of zosia, such as repack=on; repeatable
#   --vs llama-bench  beside llama.cpp's own benchmark, in turn, in the same
#                     guest or natively: built with llama.cpp's defaults and
#                     with zosia's architecture flags (bench/peer.sh);
#                     llama-default or llama-flags: one of the two
#   --neighbours N    in turn without and beside N endless loops on this machine,
#                     each in a session of its own; --vs: the peers, too
#   --instructions    guest instructions instead of seconds: one processor, the
#                     same number every time (QEMU's -icount shift=0)
#   --arch NAME       aarch64 or x86_64: the guest's    (default: what is booted by
#                     tools/run.sh; aarch64 where it is emulated)
#   --cpu NAME        processor of the guest            (as tools/run.sh)
#   --accel NAME      accelerator of the guest          (as tools/run.sh)
#   --min N           fail below N tokens generated a second
#   --matrix FILE     one measurement for each line of a CSV file whose first
#                     line names parameters; the results as CSV
#   --gen-matrix      prints such a file: threads x batch threads x options
#   --loop N          all of it N times                 (default 1)
#   --timeout S       end what takes longer than S seconds  (default 3600)
#   --json            the record alone on standard output
#
# A record with everything that the figures depend on goes to
# bench/runs/DATE-HOST/ (ZOSIA_BENCH_HOST names the host).
#
# Exit status: 0; 1 nothing measured, or below --min; 2 wrong usage; 3 to 6 as
# tools/run.sh.
set -eu

# Where this file is, not a link to it.
self=$0
while link=$(readlink "$self"); do
    case $link in /*) self=$link ;; *) self=$(dirname "$self")/$link ;; esac
done
bench=$(CDPATH='' cd -- "$(dirname -- "$self")" && pwd -P)
# shellcheck source=bench/lib/common.sh
. "$bench/lib/common.sh"
# shellcheck source=tools/lib/qemu.sh
. "$tools/lib/qemu.sh"
# shellcheck source=bench/lib/measure.sh
. "$bench/lib/measure.sh"
# shellcheck source=bench/lib/peers.sh
. "$bench/lib/peers.sh"
# shellcheck source=bench/lib/neighbours.sh
. "$bench/lib/neighbours.sh"
# shellcheck source=bench/lib/matrix.sh
. "$bench/lib/matrix.sh"
usage_error() { die 2 "$* (bench/tok-s.sh --help)"; }

model='' where=vm profile='' pp=128 tg=128 depth=0 runs=5 threads='' neighbours='' settings='' peer='' instructions=''
guest_arch='' cpu='' accel='' min='' matrix='' loop=1 timeout=3600 json=''
while [ $# -gt 0 ]; do
    case $1 in
        --profile | --pp | --tg | --depth | --runs | --threads | --neighbours | --set | --vs | --arch | --cpu | --accel | --min | --matrix | --loop | --timeout)
            [ $# -ge 2 ] || usage_error "$1 needs a value"
            ;;
    esac
    case $1 in
        -h | --help) usage && exit 0 ;;
        --native) where=native ;;
        --profile) profile=$2 && shift ;;
        --pp) pp=$2 && shift ;;
        --tg) tg=$2 && shift ;;
        --depth) depth=$2 && shift ;;
        --runs) runs=$2 && shift ;;
        --threads) threads=$2 && shift ;;
        --neighbours) neighbours=$2 && shift ;;
        --set) settings="$settings $2" && shift ;;
        --vs) peer=$2 && shift ;;
        --instructions) instructions=1 ;;
        --arch) guest_arch=$2 && shift ;;
        --cpu) cpu=$2 && shift ;;
        --accel) accel=$2 && shift ;;
        --min) min=$2 && shift ;;
        --matrix) matrix=$2 && shift ;;
        --gen-matrix) gen_matrix && exit 0 ;;
        --loop) loop=$2 && shift ;;
        --timeout) timeout=$2 && shift ;;
        --json) json=1 ;;
        -*) usage_error "unknown option $1" ;;
        *)
            [ -z "$model" ] || usage_error "more than one MODEL: $model and $1"
            model=$1
            ;;
    esac
    shift
done
case $profile in
    '') ;;
    phi35) model=${model:-phi-3.5-mini} ;;
    *) usage_error "--profile $profile: there is phi35" ;;
esac
are_counts "$runs" "$loop" "$timeout" "${threads:-1}" "${neighbours:-1}" || usage_error "--runs, --loop, --timeout, --threads and --neighbours take whole numbers above 0"
are_counts "1$pp" "1$tg" "1$depth" || usage_error "--pp, --tg and --depth take whole numbers"
case $peer in
    '' | llama-default | llama-flags) ;;
    llama-bench) peer='llama-default llama-flags' ;;
    *) usage_error "--vs $peer: there is llama-bench" ;;
esac
case $guest_arch in '' | aarch64 | x86_64) ;; *) usage_error "--arch $guest_arch: not aarch64 or x86_64" ;; esac
case $matrix in '') ;; *) [ -r "$matrix" ] || die 2 "--matrix: $matrix cannot be read" ;; esac
[ -z "$instructions" ] || [ "$where" = vm ] || usage_error "--instructions counts the guest's: not with --native"
[ -z "$peer" ] || [ -z "$matrix" ] || usage_error "--matrix goes without --vs"
[ -z "$neighbours" ] || [ -z "$matrix$instructions" ] || usage_error "--neighbours goes without --matrix and --instructions"
[ -z "$neighbours" ] || [ -z "$peer" ] || [ "$where" = native ] || usage_error "--neighbours with --vs: only with --native"

detect_host
if [ "$instructions$accel" ] && [ "${accel:-tcg}" = tcg ]; then
    : "${guest_arch:=$emulated_arch}"
else
    : "${guest_arch:=$(default_arch)}"
fi
for_machine "$guest_arch"
[ "$where" = vm ] || [ "$host_os" = Linux ] || die 2 "--native: the plain command runs on Linux"
if [ -n "$instructions" ]; then threads=1; fi
open_bench "$model"
if [ "$where" = native ]; then
    "$tools/build.sh" --native >&2
fi

status=0
round=0
while [ "$round" -lt "$loop" ]; do
    round=$((round + 1))
    if [ -n "$matrix" ]; then
        run_matrix || status=$?
    elif [ -n "$neighbours" ]; then
        run_beside || status=$?
    elif [ -n "$peer" ]; then
        run_versus || status=$?
    else
        run_plain || status=$?
    fi
done
exit "$status"
