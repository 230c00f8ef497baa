#!/bin/sh
# What the kernels' rounding costs in quality: perplexity, Kullback-Leibler divergence and
# first choices against the same weights computed in f32, zosia's and llama.cpp's.
#
# Usage: bench/quality.sh [--level NAME] [--threads N] [MODEL]
#
#   --level NAME   x64, avx2 or avx512, for both   (default: this processor's)
#
# With keys and values of f16 and of q8_0, on corpus/quality.txt: half of each context is
# evaluated at once and half a few tokens at a time, as a prompt and an answer are. Takes
# the model's size in f32 and one GB under $TMPDIR. MODEL: default smollm2-135m.
set -eu

# Where this file is, not a link to it.
self=$0
while link=$(readlink "$self"); do
    case $link in /*) self=$link ;; *) self=$(dirname "$self")/$link ;; esac
done
bench=$(CDPATH='' cd -- "$(dirname -- "$self")" && pwd -P)
# shellcheck source=bench/lib.sh
. "$bench/lib.sh"

level=''
prepare_native "--level --threads" "$@"
[ -z "$level" ] || settings="cpu=$level"
line=$(measure 0,0,0)
level=$(scalar_of "$line" cpu)
peer=$("$bench/peer.sh" native "$(scalar_of "$line" cpu_flags)")
text=$bench/corpus/quality.txt

llama() { # MODEL KV ROWS
    with_deadline "$peer/quality" rows "$1" "$text" "$2" "$threads" "$3" || die 1 "llama.cpp computes no rows of $1"
}

zosia() { # KV ROWS
    ZOSIA_QUALITY=$(printf '%s\n' "$model_file" "$text" "$1" "$threads" "$2" "$level") \
        with_deadline cargo test --release --quiet --package engine --lib --locked \
        --manifest-path "$top/Cargo.toml" -- --ignored --exact tests::quality::write_rows >"$scratch/log" 2>&1 ||
        die 1 "zosia computes no rows: $(grep -m 1 'panicked' -A 1 "$scratch/log")"
}

"$peer/quality" f32 "$model_file" "$scratch/f32.gguf" || die 1 "$model_file cannot be written in f32"
llama "$scratch/f32.gguf" f16 "$scratch/f32"
rm "$scratch/f32.gguf"
for kv in f16 q8_0; do
    for who in llama.cpp zosia; do
        if [ "$who" = zosia ]; then zosia "$kv" "$scratch/rows"; else llama "$model_file" "$kv" "$scratch/rows"; fi
        printf '{"who":"%s","kv":"%s","quality":%s}\n' "$who" "$kv" "$("$peer/quality" compare "$scratch/rows" "$scratch/f32")"
    done
done >"$scratch/compared"
{
    printf '{%s,"threads":%s,"level":"%s","text_sha256":"%s","compared":[\n' "$(environment)" "$threads" "$level" "$(file_sha256 "$text")"
    sed '$!s/$/,/' "$scratch/compared"
    printf ']}\n'
} | record quality
awk "$awk_statistics"'
    {
        who = scalar($0, "who")
        d = scalar($0, "divergence"); same = scalar($0, "same")
        printf "%-9s KV %-4s  perplexity %.3f (f32 %.3f), divergence %.5f (standard error %.5f), the same first choice %d of %d times\n", who, scalar($0, "kv"), scalar($0, "perplexity"), scalar($0, "perplexity_f32"), d, scalar($0, "divergence_error"), same, scalar($0, "tokens")
        if (who == "zosia") printf "          zosia / llama.cpp: divergence %.3f, the same first choice %.3f\n", d / peer_d, same / peer_same
        peer_d = d; peer_same = same
    }' "$scratch/compared"
