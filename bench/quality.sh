#!/bin/sh
# What the kernels' rounding costs in quality: perplexity, Kullback-Leibler divergence and
# first choices against the same weights computed in f32, zosia's and llama.cpp's.
#
# Usage: bench/quality.sh [--level NAME] [--threads N] [MODEL]
#
#   --level NAME   v80, v82, v86, x64, avx2 or avx512, for both (default: this
#                  processor's); ARM's are emulated on PCs, which takes hours
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
# shellcheck source=bench/lib/common.sh
. "$bench/lib/common.sh"
# shellcheck source=tools/lib/qemu.sh
. "$tools/lib/qemu.sh"

level=''
prepare_model "--level --threads" "$@"
"$tools/deps.sh" bench >&2
text=$bench/corpus/quality.txt
machine=native runner='' triple=''
case $level in
    v80 | v82 | v86)
        if [ "$own_arch" != aarch64 ]; then
            "$tools/deps.sh" test >&2
            timeout=36000 machine=aarch64 triple=aarch64-unknown-linux-gnu
            runner=$(user_emulator aarch64) || die 3 "QEMU's user mode (qemu-aarch64) is not installed"
            runner="$runner -cpu $(level_cpu "$level")"
            export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="$runner"
        fi
        ;;
    x64 | avx*) [ "$own_arch" = x86_64 ] || die 2 "the level $level is computed on PCs only" ;;
esac

llama() { # PROGRAM MODEL KV ROWS
    # shellcheck disable=SC2086 # words
    with_deadline $1 rows "$2" "$text" "$3" "$threads" "$4" || die 1 "llama.cpp computes no rows of $2"
}

zosia() { # KV ROWS
    ZOSIA_QUALITY=$(printf '%s\n' "$model_file" "$text" "$1" "$threads" "$2" "$level") \
        with_deadline cargo test --release --quiet --package engine --lib --locked ${triple:+--target "$triple"} \
        --manifest-path "$top/Cargo.toml" -- --ignored --exact --nocapture tests::quality::write_rows >"$scratch/log" 2>&1 ||
        die 1 "zosia computes no rows: $(grep -m 1 'panicked' -A 1 "$scratch/log")"
}

zosia f16 "$scratch/zosia"
level=$(sed -n 's/^level \([^ ]*\) .*/\1/p' "$scratch/log")
peer=$("$bench/peer.sh" "$machine" "$(sed -n 's/^level [^ ]* //p' "$scratch/log")")
# f32 is the same everywhere, but for the last bits.
exact=$peer
[ -z "$runner" ] || exact=$("$bench/peer.sh" native)
"$exact/quality" f32 "$model_file" "$scratch/f32.gguf" || die 1 "$model_file cannot be written in f32"
llama "$exact/quality" "$scratch/f32.gguf" f16 "$scratch/f32"
rm "$scratch/f32.gguf"
for kv in f16 q8_0; do
    [ "$kv" = f16 ] || zosia "$kv" "$scratch/zosia"
    llama "$runner $peer/quality" "$model_file" "$kv" "$scratch/llama.cpp"
    "$exact/quality" compare "$scratch/f32" "$scratch/llama.cpp" "$scratch/zosia" >"$scratch/two" || die 1 "the rows cannot be compared"
    for who in llama.cpp zosia; do
        read -r quality
        printf '{"who":"%s","kv":"%s","quality":%s}\n' "$who" "$kv" "$quality"
    done <"$scratch/two"
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
        if (who == "zosia") printf "          zosia / llama.cpp: divergence %.3f (standard error %.3f), the same first choice %.3f\n", d / peer_d, scalar($0, "more_error") / peer_d, same / peer_same
        peer_d = d; peer_same = same
    }' "$scratch/compared"
