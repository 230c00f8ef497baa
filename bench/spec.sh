#!/bin/sh
# What speculation is worth: the same prompts with it and without, in turn,
# greedy, as the plain command on this machine.
#
# Usage: bench/spec.sh [--runs N] [--threads N] [--set NAME=VALUE]... [MODEL]
#
# --set draft_model=FILE has a draft model guess, too.
#
#   --runs N    how often each corpus is answered each way   (default 3)
#
# corpus/quote.jsonl asks for texts to be repeated and edited, corpus/prose.jsonl for new
# ones, and corpus/chat.txt has conversations, whose turns refer to one another, each turn a
# process of its own. Fails if a text differs. MODEL: default smollm2-135m.
set -eu

# Where this file is, not a link to it.
self=$0
while link=$(readlink "$self"); do
    case $link in /*) self=$link ;; *) self=$(dirname "$self")/$link ;; esac
done
bench=$(CDPATH='' cd -- "$(dirname -- "$self")" && pwd -P)
# shellcheck source=bench/lib/common.sh
. "$bench/lib/common.sh"

runs=3
prepare_native "--runs --threads --set" "$@"

# zosia FLAG...: its outcomes appended to $scratch/batch.
zosia() {
    # shellcheck disable=SC2046 # one word a line, none with blanks
    with_deadline "$top/out/native/init" "$@" --temp 0 --spec "$mode" --threads "$threads" \
        $(zosia_flags) "$model_file" </dev/null >>"$scratch/batch" ||
        die 1 "not all of corpus/$corpus was answered"
}

# A line is a turn, an empty line ends a conversation.
talk() {
    rm -f "$scratch/session"
    while IFS= read -r turn; do
        if [ -n "$turn" ]; then
            zosia --session "$scratch/session" --max-tokens 250 --json -p "$turn"
        else
            rm -f "$scratch/session"
        fi
    done <"$bench/corpus/chat.txt"
}

# answer CORPUS auto|off: appends "CORPUS MODE JSON" lines to $scratch/answers.
answer() {
    corpus=$1 mode=$2
    : >"$scratch/batch"
    case $corpus in
        chat) talk ;;
        *) zosia --batch "$bench/corpus/$corpus.jsonl" --parallel 1 ;;
    esac
    awk -v corpus="$corpus" -v mode="$mode" -v round="$round" '{ print corpus "\t" mode "\t" round "\t" NR "\t" $0 }' \
        "$scratch/batch" >>"$scratch/answers"
}

round=0
while [ "$round" -lt "$runs" ]; do
    for corpus in quote chat prose; do
        if [ $((round % 2)) = 0 ]; then
            answer "$corpus" auto
            answer "$corpus" off
        else
            answer "$corpus" off
            answer "$corpus" auto
        fi
    done
    round=$((round + 1))
done

{
    printf '{%s,"threads":%s,"settings":"%s","answers":[\n' "$(environment)" "$threads" "${settings# }"
    awk -F '\t' '{ printf "%s{\"corpus\":\"%s\",\"spec\":\"%s\",\"round\":%s,\"outcome\":%s}", (NR > 1 ? ",\n" : ""), $1, $2, $3, $5 } END { print "\n]}" }' "$scratch/answers"
} | record spec
awk -F '\t' "$awk_statistics"'
    {
        passes[$1, $2, $3] += scalar($5, "decode_passes")
        ms[$1, $2, $3] += scalar($5, "decode_ms")
        tokens[$1, $2, $3] += scalar($5, "generated_tokens")
        text = $5
        sub(/.*"text":/, "", text)
        sub(/,"timings":.*/, "", text)
        if (($1, $4) in first && first[$1, $4] != text) { differ++; print "differs: " $1 " line " $4 }
        first[$1, $4] = text
        rounds = $3 + 1
    }
    END {
        corpus("quote"); corpus("chat"); corpus("prose")
        exit differ > 0
    }
    function corpus(name,   r, t, p) {
        for (r = 0; r < rounds; r++) {
            t[r + 1] = ms[name, "off", r] / ms[name, "auto", r]
            p[r + 1] = passes[name, "off", r] / passes[name, "auto", r]
        }
        sort(t, rounds); sort(p, rounds)
        printf "%-5s %d tokens: %.2f times fewer passes (%.2f to %.2f), %.2f times as fast (%.2f to %.2f of %d)\n", name, tokens[name, "off", 0], median(p, rounds), p[1], p[rounds], median(t, rounds), t[1], t[rounds], rounds
    }' "$scratch/answers"
