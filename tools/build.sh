#!/bin/sh
# Builds out/init, the static AArch64 executable, and out/zosia.efi, the kernel
# with that executable inside.
#
# Usage: tools/build.sh [--native | --init | --kernel-tests | --container] [--locked]
#
#   --native      out/native/init instead: the same program for this machine
#   --init        out/init alone, no kernel
#   --kernel-tests  out/kernel-tests instead: the tests of ggml's kernels, linked
#                 with the very objects that are in out/init
#   --container   both artefacts, built in a Debian container by docker, podman
#                 or Apple's container: for machines that are not Linux
#   --locked      fail where the pinned source of the kernel cannot be had any
#                 more, instead of building the newest one and saying so
#
# What is missing on a Debian machine is installed (tools/deps.sh build). The
# Rust that is used is the PATH's, rustup's or the distribution's: the first
# that has AArch64. Beside the artefacts, out/manifest.txt says from what and
# with what they were made, and out/zosia.cdx.json lists every part (CycloneDX);
# the same sources and tools give the same bytes in any directory. With nothing
# changed it takes two seconds.
#
#   ZOSIA_CACHE   what is kept between builds (default ~/.cache/zosia)
#   ZOSIA_JOBS    compilers at once (default: the processors)
#   ZOSIA_KERNEL_SOURCE   where to look for the kernel's pinned source first: the
#                 .deb, or the address of an archive that keeps old packages
set -eu

# Where this file is, not a link to it.
self=$0
while link=$(readlink "$self"); do
    case $link in /*) self=$link ;; *) self=$(dirname "$self")/$link ;; esac
done
top=$(cd -P "$(dirname "$self")/.." && pwd -P)
# shellcheck source=tools/lib/script.sh
. "$top/tools/lib/script.sh"
# shellcheck source=tools/lib/rust.sh disable=SC2154
. "$top/tools/lib/rust.sh"
# shellcheck source=tools/lib/progress.sh
. "$top/tools/lib/progress.sh"
# shellcheck source=tools/lib/sources.sh
. "$top/tools/lib/sources.sh"


hash_of() { sha256sum "$1" | cut -d ' ' -f 1; }

# replace FROM TO: TO changes, at once, only where its bytes do.
replace() {
    cmp -s "$1" "$2" && return 0
    cp "$1" "$2.new"
    mv "$2.new" "$2"
}

# Flags for rustc, between 0x1f: what .cargo/config.toml says, which they
# replace, and names instead of this machine's paths.
rust_flags() {
    printf '%s' '-Ctarget-feature=+crt-static'
    for registry in "$cargo_home"/registry/src/*; do
        printf '\037--remap-path-prefix=%s=registry' "$registry"
    done
    printf '\037--remap-path-prefix=%s=target' "$CARGO_TARGET_DIR"
    printf '\037--remap-path-prefix=%s=zosia' "$top"
    printf '\037--remap-path-prefix=%s=/rustc' "$("$rust_dir/rustc" --print sysroot)/lib/rustlib/src/rust"
}

# build_init TRIPLE FILE
build_init() {
    # The registry's folder has a name only when something is in it.
    show cargo fetch --quiet --locked --target "$1"
    CARGO_ENCODED_RUSTFLAGS=$(rust_flags)
    export CARGO_ENCODED_RUSTFLAGS
    step "compiling zosia for $1" "compiled $1" cargo build --quiet --release --locked \
        --package init --bin init --target "$1" ${ZOSIA_JOBS:+--jobs "$ZOSIA_JOBS"} || exit 1
    mkdir -p "$(dirname "$2")"
    built=$CARGO_TARGET_DIR/$1/release/init
    if [ "$1" = "$rust_target" ]; then
        # The list of its crates, in a section that is never loaded.
        tools/sbom.py auditable "$1" >"$built.crates"
        aarch64-linux-gnu-objcopy --add-section .dep-v0="$built.crates" "$built" "$built.listed"
        built=$built.listed
    fi
    replace "$built" "$2"
}

# How far cargo is: nearly all of its time goes into llama.cpp's files, of which
# each leaves an object, and a fifth into what comes after them.
compiled() { # TRIPLE LOG
    objects=$(find "$CARGO_TARGET_DIR/$1/release/build" -name '*.o' 2>/dev/null | wc -l)
    share_done "$((objects))" 78 "5 to 10 minutes"
}

# build_kernel_tests FILE
build_kernel_tests() {
    show cargo fetch --quiet --locked --target "$rust_target"
    CARGO_ENCODED_RUSTFLAGS=$(rust_flags)
    export CARGO_ENCODED_RUSTFLAGS
    show cargo test --quiet --release --locked --package ggml --lib --target "$rust_target" \
        --no-run --message-format=json ${ZOSIA_JOBS:+--jobs "$ZOSIA_JOBS"} >"$1.json"
    built=$(sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' "$1.json")
    rm "$1.json"
    replace "$built" "$1"
}

write_manifest() {
    {
        echo "zosia.version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)"
        echo "rustc=$(rustc --version)"
        echo "cargo=$(cargo --version)"
        echo "cc=$(aarch64-linux-gnu-gcc --version | head -n 1)"
        echo "cxx=$(aarch64-linux-gnu-g++ --version | head -n 1)"
        echo "ld=$(aarch64-linux-gnu-ld --version | head -n 1)"
        echo "cmake=$(cmake --version | head -n 1)"
        echo "cargo.lock.sha256=$(hash_of Cargo.lock)"
        cat out/zosia.kernel
        echo "init.sha256=$(hash_of out/init)"
        echo "zosia.efi.sha256=$(hash_of out/zosia.efi)"
    } >out/manifest.txt.new
    mv out/manifest.txt.new out/manifest.txt
}

# container_engine: prints the first container tool that answers; one may be
# there without what it talks to.
container_engine() {
    silent=
    for engine in docker podman container; do
        command -v "$engine" >/dev/null || continue
        if [ "$engine" = container ]; then
            set -- system status
        else
            set -- info
        fi
        if "$engine" "$@" >/dev/null 2>&1; then
            echo "$engine"
            return
        fi
        silent="$silent $engine"
    done
    [ -z "$silent" ] || die 1 "nothing answers$silent: start it, with podman machine start or the like"
    die 1 "there is no docker, podman or container to build with"
}

# in_container: this script, in an image that has everything it needs. What it
# keeps between builds is in the volume zosia-cache.
in_container() {
    engine=$(container_engine)
    show "$engine" build --tag zosia-build --file tools/Containerfile . >&2 ||
        die 1 "$engine could not make the image; see above"
    # shellcheck disable=SC2086 # one word or none
    show "$engine" run --rm --volume "$top:/zosia" --volume zosia-cache:/cache \
        --env ZOSIA_JOBS="${ZOSIA_JOBS:-}" zosia-build tools/build.sh $locked
}

what=efi
locked=
for option in "$@"; do
    case $option in
        --native) what=native ;;
        --init) what=init ;;
        --kernel-tests) what=tests ;;
        --container) what=container ;;
        --locked) locked=--locked ;;
        -h | --help)
            usage
            exit 0
            ;;
        *) die 2 "unknown option $option (tools/build.sh --help)" ;;
    esac
done

clean_steps
cd "$top"
if [ "$what" = container ]; then
    in_container
    exit 0
fi
"$top/tools/deps.sh" build
find_rust || die 1 "no Rust for $rust_target: run tools/deps.sh build"
PATH=$rust_dir:$PATH
ZOSIA_CACHE=${ZOSIA_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/zosia}
# A folder of its own: artefacts never mix with what cargo made with other flags,
# and do not wait for its lock.
CARGO_TARGET_DIR=$ZOSIA_CACHE/artefacts
cargo_home=${CARGO_HOME:-$HOME/.cargo}
# Nothing of the caller's surroundings gets into the build but this.
LC_ALL=C
TZ=UTC
CMAKE_PROJECT_INCLUDE=$top/tools/lib/remap.cmake
export PATH ZOSIA_CACHE CARGO_TARGET_DIR LC_ALL TZ CMAKE_PROJECT_INCLUDE
unset RUSTFLAGS CARGO_BUILD_RUSTFLAGS CFLAGS CXXFLAGS CPPFLAGS LDFLAGS
[ -z "${ZOSIA_JOBS:-}" ] || export CMAKE_BUILD_PARALLEL_LEVEL="$ZOSIA_JOBS"

# One build at a time in this checkout: cargo has a lock of its own, out/ has not.
mkdir -p out
lock "$top/out/build" "building in this checkout"
if [ "$what" = native ]; then
    build_init "$(rustc -vV | sed -n 's/^host: //p')" out/native/init
    say "built out/native/init"
    exit 0
fi
if [ "$what" = tests ]; then
    build_kernel_tests out/kernel-tests
    exit 0
fi
# Before anything is read: what is changed meanwhile is not in it.
sources=$(sources_key)
build_init "$rust_target" out/init
if aarch64-linux-gnu-readelf -l out/init | grep -q INTERP; then
    die 1 "out/init asks for an interpreter: it is not static"
fi
[ "$what" = efi ] || exit 0
# shellcheck disable=SC2086 # one word or none
kernel/build.sh $locked out/init out/zosia.efi
write_manifest
tools/sbom.py cyclonedx "$rust_target" >out/zosia.cdx.json.new
mv out/zosia.cdx.json.new out/zosia.cdx.json
keep_efi "$sources" out/zosia.efi
say "built out/zosia.efi, $(wc -c <out/zosia.efi | tr -d ' ') bytes; out/manifest.txt and out/zosia.cdx.json say from what"
recorded() { sed -n "s/^$1=//p" out/zosia.kernel; }
[ "$(recorded kernel.version)" = "$(recorded kernel.version.pinned)" ] ||
    say "its kernel is NOT the pinned one: $(recorded kernel.package) $(recorded kernel.version), not $(recorded kernel.version.pinned)"
