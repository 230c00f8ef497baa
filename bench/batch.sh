#!/bin/sh
# What answering prompts side by side is worth: the same prompts one at a time and
# several at once, in turn, greedy, as the plain command on this machine.
#
# Usage: bench/batch.sh [--runs N] [--parallel N] [--threads N] [--set NAME=VALUE]... [MODEL]
#
#   --runs N      how often they are answered each way         (default 3)
#   --parallel N  how many at once                             (default 8)
#
# Twice as many prompts as are answered at once, of some 40 tokens each, with answers of
# 64. Prints tokens generated in a second, evaluation of the prompts included, loading
# left out. Fails if a text differs. MODEL: default smollm2-135m.
set -eu

# Where this file is, not a link to it.
self=$0
while link=$(readlink "$self"); do
    case $link in /*) self=$link ;; *) self=$(dirname "$self")/$link ;; esac
done
bench=$(CDPATH='' cd -- "$(dirname -- "$self")" && pwd -P)
# shellcheck source=bench/lib/common.sh
. "$bench/lib/common.sh"

runs=3 parallel=8
prepare_native "--runs --parallel --threads --set" "$@"

awk -v prompts=$((2 * parallel)) 'BEGIN {
    for (i = 1; i <= prompts; i++)
        printf "{\"id\":%d,\"prompt\":\"Tell the story of lighthouse number %d, of the people who kept it, of the ships that it saved, and of the storm that ended it.\"}\n", i, i
}' >"$scratch/prompts"
# Words without end: no answer is shorter than another.
mkdir "$scratch/model"
ln -s "$(absolute "$model_file")" "$scratch/model/model.gguf"
echo 'root ::= [a-zA-Z ,.]+' >"$scratch/model/words.gbnf"

# answer PARALLEL: appends "PARALLEL RATE" to $scratch/rates.
answer() {
    # shellcheck disable=SC2046 # one word a line, none with blanks
    with_deadline "$top/out/native/init" --batch "$scratch/prompts" --parallel "$1" --temp 0 --max-tokens 64 \
        --grammar words --spec off --ctx 512 --threads "$threads" $(zosia_flags) "$scratch/model/model.gguf" \
        </dev/null >"$scratch/results" 2>"$scratch/told" || die 1 "not all prompts were answered: $(tail -n 1 "$scratch/told")"
    # What is told on the way is not the whole.
    sed -n "s|.* answered in .* s, \([0-9.]*\) tokens/s.*|$1 \1|p" "$scratch/told" | tail -n 1 >>"$scratch/rates"
    sed 's/,"timings".*//' "$scratch/results" >"$scratch/texts.$1"
}

: >"$scratch/rates"
round=0
while [ "$round" -lt "$runs" ]; do
    answer 1
    answer "$parallel"
    cmp -s "$scratch/texts.1" "$scratch/texts.$parallel" || die 1 "answers differ: $(diff "$scratch/texts.1" "$scratch/texts.$parallel" | head -n 4)"
    round=$((round + 1))
done

{
    printf '{%s,"threads":%s,"settings":"%s","rates":[' "$(environment)" "$threads" "${settings# }"
    awk '{ printf "%s{\"parallel\":%s,\"tokens_per_s\":%s}", (NR > 1 ? ",\n" : ""), $1, $2 } END { print "\n]}" }' "$scratch/rates"
} | record batch
awk -v parallel="$parallel" "$awk_statistics"'
    { rate[$1, ++n[$1]] = $2 }
    END {
        for (i = 1; i <= n[1]; i++) {
            one[i] = rate[1, i]; many[i] = rate[parallel, i]; ratio[i] = many[i] / one[i]
        }
        sort(ratio, n[1])
        printf "one at a time %.1f tokens/s, %d side by side %.1f: %.2f times as many (%.2f to %.2f of %d), the same texts\n", median(one, n[1]), parallel, median(many, n[1]), median(ratio, n[1]), ratio[1], ratio[n[1]], n[1]
    }' "$scratch/rates"
