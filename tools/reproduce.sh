#!/bin/sh
# Proves that the artefacts are the same bytes wherever and by whomever they are
# built.
#
# Usage: tools/reproduce.sh [--arch ARCH] [DIRECTORY]
#
#   --arch ARCH   aarch64, x86_64 or all (default)
#
# Builds the commit that is checked out twice from nothing: in two directories
# of different depth, with two homes, caches, umasks and numbers of compilers;
# as root with the distribution's Rust, the second time as the user nobody.
# Compares the artefacts, and where they differ says how. Takes twice the time
# and 8 GB under DIRECTORY (default: a new one in $TMPDIR, removed afterwards).
set -eu

# Where this file is, not a link to it.
self=$0
while link=$(readlink "$self"); do
    case $link in /*) self=$link ;; *) self=$(dirname "$self")/$link ;; esac
done
top=$(CDPATH='' cd -P "$(dirname "$self")/.." && pwd -P)
# shellcheck source=tools/lib/script.sh
. "$top/tools/lib/script.sh"
# shellcheck source=tools/lib/rust.sh disable=SC2154
. "$top/tools/lib/rust.sh"


# build HOME CHECKOUT UMASK JOBS [COMMAND...]: COMMAND runs it as someone else.
build() {
    home=$1
    checkout=$2
    mask=$3
    jobs=$4
    shift 4
    mkdir -p "$home" "$checkout"
    git -C "$top" archive HEAD | tar -xf - -C "$checkout"
    [ $# = 0 ] || chown -R 65534:65534 "$home" "$checkout"
    say "building in $checkout${1:+ as nobody}"
    # Of the caller's surroundings only what reaches the compilers and the
    # network goes along.
    (
        umask "$mask"
        unset CARGO_HOME XDG_CACHE_HOME
        HOME=$home ZOSIA_CACHE=$home/cache ZOSIA_JOBS=$jobs RUSTUP_HOME=$rustup_home \
            "$@" "$checkout/tools/build.sh" --arch "$wanted" --locked
    ) || die 1 "the build in $checkout failed; see above"
}

# compare FILE: whether both builds made the same; if not, where they part.
compare() {
    if cmp -s "$first/out/$1" "$second/out/$1"; then
        say "$1: the same, sha256 $(sha256sum "$first/out/$1" | cut -d ' ' -f 1)"
        return 0
    fi
    say "$1: NOT the same; from byte $(cmp "$first/out/$1" "$second/out/$1" | sed 's/.*byte //' || :)"
    say "words that only one of them has:"
    for build in "$first" "$second"; do
        tr -c '[:print:]' '\n' <"$build/out/$1" | grep '......' | sort -u >"$build/words"
    done
    diff "$first/words" "$second/words" | head -n 40 >&2 || :
    return 1
}

wanted=all
case ${1-} in
    -h | --help)
        usage
        exit 0
        ;;
    --arch)
        [ $# -ge 2 ] || die 2 "--arch needs a value (tools/reproduce.sh --help)"
        wanted=$2
        shift 2
        ;;
esac
case $wanted in
    all) archs='aarch64 x86_64' ;;
    aarch64 | x86_64) archs=$wanted ;;
    *) die 2 "--arch $wanted: not aarch64, x86_64 or all" ;;
esac
[ $# -le 1 ] || die 2 "more than one DIRECTORY (tools/reproduce.sh --help)"
git -C "$top" diff --quiet HEAD ||
    say "the checkout has changes that are not committed: they are not built"
rustup_home=${RUSTUP_HOME:-$HOME/.rustup}
if [ $# = 1 ]; then
    mkdir -p "$1"
    work=$(CDPATH='' cd "$1" && pwd -P)
else
    work=$(mktemp -d "${TMPDIR:-/tmp}/zosia-reproduce.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
fi
chmod 755 "$work"
build_groups=
rust_targets=
for arch in $archs; do
    build_groups="$build_groups build-$arch"
    rust_targets="$rust_targets $arch-unknown-linux-gnu"
done
# shellcheck disable=SC2086 # words
"$top/tools/deps.sh" $build_groups
find_rust || die 1 "no Rust for$rust_targets: run tools/deps.sh build"

first=$work/a/zosia
second=$work/b/a/longer/path/to/zosia-again
build "$work/a/home" "$first" 022 "${ZOSIA_JOBS:-$(getconf _NPROCESSORS_ONLN)}"
if [ "$(id -u)" = 0 ] && [ "$rust_dir" = /usr/bin ]; then
    build "$work/b/home" "$second" 027 1 setpriv --reuid 65534 --regid 65534 --clear-groups
else
    build "$work/b/home" "$second" 027 1
fi
same=yes
for arch in $archs; do
    suffix=
    [ "$arch" = aarch64 ] || suffix=-$arch
    for artefact in "init$suffix" "zosia$suffix.efi" "manifest$suffix.txt" "zosia$suffix.cdx.json"; do
        compare "$artefact" || same=
    done
done
[ -n "$same" ] || die 1 "this tree does not build reproducibly"
