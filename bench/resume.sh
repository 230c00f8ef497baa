#!/bin/sh
# Going on another day: the time from the start to the first token of the next question
# about a long document, whose evaluation is kept in a session, beside evaluating it again,
# as the plain command on this machine.
#
# Usage: bench/resume.sh [--runs N] [--tokens N] [--threads N] [--set NAME=VALUE]... [MODEL]
#
#   --runs N     how often each is done, in turn              (default 3)
#   --tokens N   how long the document is, about              (default 2000)
#
# MODEL: default smollm2-135m. Fails if the answers differ.
set -eu

# Where this file is, not a link to it.
self=$0
while link=$(readlink "$self"); do
    case $link in /*) self=$link ;; *) self=$(dirname "$self")/$link ;; esac
done
bench=$(CDPATH='' cd -- "$(dirname -- "$self")" && pwd -P)
# shellcheck source=bench/lib/common.sh
. "$bench/lib/common.sh"

runs=3 tokens=2000
prepare_native "--runs --tokens --threads --set" "$@"

# turn SESSION CONTEXTS PROMPT [OPTION...]: one line of JSON on standard output.
turn() {
    turn_session=$1 turn_contexts=$2 turn_prompt=$3
    shift 3
    # shellcheck disable=SC2046 # one word a line, none with blanks
    with_deadline "$top/out/native/init" --session "$turn_session" --contexts "$turn_contexts" -p "$turn_prompt" "$@" \
        --json --temp 0 --max-tokens 8 --threads "$threads" $(zosia_flags) "$model_file" </dev/null ||
        die 1 "a turn was not answered"
}

# A word is a token or a little more.
awk -v n="$tokens" 'BEGIN { split("the sea is wide and the road is long", w, " "); for (i = 0; i < n; i++) printf "%s ", w[i % 9 + 1] }' >"$scratch/document.txt"
turn "$scratch/session" 8192 "What is it about?" --attach "$scratch/document.txt" >"$scratch/first"
kept=$(($(wc -c <"$scratch/session")))

round=0
while [ "$round" -lt "$runs" ]; do
    for contexts in 8192 0; do
        cp "$scratch/session" "$scratch/copy"
        printf '{"contexts":%s,"turn":%s}\n' "$contexts" "$(turn "$scratch/copy" "$contexts" "And then?")" >>"$scratch/turns"
    done
    round=$((round + 1))
done

# shellcheck disable=SC2046 # one word a line, none with blanks
kv=$(with_deadline "$top/out/native/init" --mode bench --bench 1,1,0 --threads "$threads" $(zosia_flags) "$model_file" </dev/null |
    awk "$awk_statistics"'{ print scalar($0, "kv_bytes") / scalar($0, "ctx_tokens") }')
{
    printf '{%s,"threads":%s,"settings":"%s","kept_bytes":%s,"kv_bytes_per_token":%s,"turns":[\n' \
        "$(environment)" "$threads" "${settings# }" "$kept" "$kv"
    sed '$!s/$/,/' "$scratch/turns"
    echo ']}'
} | record resume
awk -v kept="$kept" -v kv="$kv" "$awk_statistics"'
    {
        text = $0
        sub(/.*"text":/, "", text)
        sub(/,"timings":.*/, "", text)
        if (NR > 1 && text != first) { differ++; print "differs: line " NR }
        first = text
        again = $0 ~ /^{"contexts":0,/
        if (again) {
            evaluated[++e] = scalar($0, "prefill_ms")
            tokens = scalar($0, "evaluated_tokens")
        } else {
            start[++s] = scalar($0, "load_ms") + scalar($0, "recall_ms") + scalar($0, "prefill_ms")
            recalled = scalar($0, "recalled_tokens")
        }
    }
    END {
        printf "%d tokens evaluated again: %.0f ms; %d of them kept, from start to first token: %.0f ms (%.3f of it); the session is %.2f times their KV cache\n", tokens, median(evaluated, e), recalled, median(start, s), median(start, s) / median(evaluated, e), kept / (kv * recalled)
        exit differ > 0
    }' "$scratch/turns"
