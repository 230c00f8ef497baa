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

# Where this file is, not a link to it.
self=$0
while link=$(readlink "$self"); do
    case $link in /*) self=$link ;; *) self=$(dirname "$self")/$link ;; esac
done
bench=$(CDPATH='' cd -- "$(dirname -- "$self")" && pwd -P)
# shellcheck source=bench/lib/common.sh
. "$bench/lib/common.sh"

runs=3 pace=8
prepare_native "--runs --pace --threads" "$@"
CARGO_TARGET_DIR=${ZOSIA_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/zosia}/target
export CARGO_TARGET_DIR
cargo build --quiet --manifest-path "$top/Cargo.toml" --locked --package bench-typed >&2 || die 3 "bench/typed cannot be built"
"$CARGO_TARGET_DIR/debug/bench-typed" "$top/out/native/init" "$model_file" --runs "$runs" --pace "$pace" \
    -- --threads="$threads" >"$scratch/typed" || die 1 "nothing was measured"
{
    printf '{%s,"threads":%s,"pace":%s,"runs":[\n' "$(environment)" "$threads" "$pace"
    grep '^{' "$scratch/typed" | sed '$!s/$/,/'
    echo ']}'
} | record typed
cat "$scratch/typed"
