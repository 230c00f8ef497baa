#!/bin/sh
# Builds the EFI file, a kernel with one static executable inside: out/zosia.efi
# for AArch64, out/zosia-x86_64.efi for PCs.
#
# Usage: tools/build.sh [--arch ARCH] [--native | --init | --kernel-tests | --container]
#                       [--locked]
#
#   --arch ARCH   aarch64, x86_64 or all (default: aarch64)
#   --native      out/native/init instead: the same program for this machine
#   --init        the executable alone, no kernel: out/init, out/init-x86_64
#   --kernel-tests  out/kernel-tests instead: the tests of ggml's kernels, linked
#                 with the very objects that are in out/init
#   --container   the artefacts, built in a Debian container by docker, podman
#                 or Apple's container: for machines that are not Debian
#   --locked      fail where the pinned source of the kernel cannot be had any
#                 more, instead of building the newest one and saying so
#
# What is missing on a Debian machine is installed (tools/deps.sh). The Rust that
# is used is the PATH's, rustup's or the distribution's: the first that builds for
# ARCH. Beside the artefacts, out/manifest.txt says from what and with what they
# were made, and out/zosia.cdx.json lists every part (CycloneDX), each with
# -x86_64 in its name for that architecture; the same sources and tools give the
# same bytes in any directory. With nothing changed it takes two seconds.
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
top=$(CDPATH='' cd -P "$(dirname "$self")/.." && pwd -P)
# shellcheck source=tools/lib/script.sh
. "$top/tools/lib/script.sh"
# shellcheck source=tools/lib/rust.sh disable=SC2154
. "$top/tools/lib/rust.sh"
# shellcheck source=tools/lib/progress.sh
. "$top/tools/lib/progress.sh"
# shellcheck source=tools/lib/sources.sh
. "$top/tools/lib/sources.sh"
# shellcheck source=tools/lib/cmake.sh
. "$top/tools/lib/cmake.sh"


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

# for_arch ARCH: what is called how from here on.
for_arch() {
    arch=$1
    suffix=
    [ "$arch" = aarch64 ] || suffix=-$arch
    triple=$arch-unknown-linux-gnu
    tool=$arch-linux-gnu-
}

# build_init TRIPLE FILE: FILE for the machine has a list of its crates.
build_init() {
    # The registry's folder has a name only when something is in it.
    show cargo fetch --quiet --locked --target "$1"
    CARGO_ENCODED_RUSTFLAGS=$(rust_flags)
    export CARGO_ENCODED_RUSTFLAGS
    step "compiling zosia for $1" "compiled $1" cargo build --quiet --release --locked \
        --package init --bin init --target "$1" ${ZOSIA_JOBS:+--jobs "$ZOSIA_JOBS"} || exit 1
    mkdir -p "$(dirname "$2")"
    built=$CARGO_TARGET_DIR/$1/release/init
    if [ "$2" != out/native/init ]; then
        # In a section that is never loaded.
        tools/sbom.py auditable "$1" >"$built.crates"
        "${tool}objcopy" --add-section .dep-v0="$built.crates" "$built" "$built.listed"
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
    show cargo fetch --quiet --locked --target "$triple"
    CARGO_ENCODED_RUSTFLAGS=$(rust_flags)
    export CARGO_ENCODED_RUSTFLAGS
    show cargo test --quiet --release --locked --package ggml --lib --target "$triple" \
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
        echo "cc=$("${tool}gcc" --version | head -n 1)"
        echo "cxx=$("${tool}g++" --version | head -n 1)"
        echo "ld=$("${tool}ld" --version | head -n 1)"
        echo "cmake=$(cmake --version | head -n 1)"
        echo "cargo.lock.sha256=$(hash_of Cargo.lock)"
        cat "out/zosia$suffix.kernel"
        echo "init.sha256=$(hash_of "out/init$suffix")"
        echo "zosia.efi.sha256=$(hash_of "$efi")"
    } >"$manifest.new"
    mv "$manifest.new" "$manifest"
}

# build_machine: the executable of this architecture and, but for --init, the EFI
# file and what tells of it.
build_machine() {
    efi=out/zosia$suffix.efi
    manifest=out/manifest$suffix.txt
    bom=out/zosia$suffix.cdx.json
    build_init "$triple" "out/init$suffix"
    if "${tool}readelf" -l "out/init$suffix" | grep -q INTERP; then
        die 1 "out/init$suffix asks for an interpreter: it is not static"
    fi
    [ "$what" = efi ] || return 0
    # shellcheck disable=SC2086 # one word or none
    kernel/build.sh $locked "$arch" "out/init$suffix" "$efi"
    write_manifest
    tools/sbom.py cyclonedx "$triple" "$manifest" >"$bom.new"
    mv "$bom.new" "$bom"
    keep_efi "$sources" "$efi"
    say "built $efi, $(wc -c <"$efi" | tr -d ' ') bytes; $manifest and $bom say from what"
    recorded() { sed -n "s/^$1=//p" "out/zosia$suffix.kernel"; }
    [ "$(recorded kernel.version)" = "$(recorded kernel.version.pinned)" ] ||
        say "its kernel is NOT the pinned one: $(recorded kernel.package) $(recorded kernel.version), not $(recorded kernel.version.pinned)"
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
    set -- tools/build.sh --arch "$archs" $locked
    options=
    if [ "$(uname -s)" = Linux ]; then
        # SELinux would keep the container out of the checkout, and what its root makes is
        # to be whose the checkout is, as the container sees it.
        options='--security-opt label=disable'
        # shellcheck disable=SC2016 # of the container's shell
        set -- sh -c 'status=0; "$@" || status=$?; [ ! -d out ] || chown -R --reference=. out; exit $status' sh "$@"
    fi
    # shellcheck disable=SC2086 # words
    show "$engine" run --rm --volume "$top:/zosia" --volume zosia-cache:/cache $options \
        --env ZOSIA_JOBS="${ZOSIA_JOBS:-}" zosia-build "$@"
}

what=efi
locked=
archs=aarch64
while [ $# -gt 0 ]; do
    case $1 in
        --arch)
            [ $# -ge 2 ] || die 2 "--arch needs a value (tools/build.sh --help)"
            archs=$2
            shift
            ;;
        --native) what=native ;;
        --init) what=init ;;
        --kernel-tests) what=tests ;;
        --container) what=container ;;
        --locked) locked=--locked ;;
        -h | --help)
            usage
            exit 0
            ;;
        *) die 2 "unknown option $1 (tools/build.sh --help)" ;;
    esac
    shift
done
case $archs in
    aarch64 | x86_64 | all) ;;
    *) die 2 "--arch $archs: not aarch64, x86_64 or all" ;;
esac

clean_steps
cd "$top"
if [ "$what" = container ]; then
    in_container
    exit 0
fi
if [ "$what" = native ]; then archs=$(own_arch); fi
[ "$archs" != all ] || archs='aarch64 x86_64'
rust_targets=
for arch in $archs; do
    case $what in
        native) "$top/tools/deps.sh" native ;;
        efi) "$top/tools/deps.sh" "build-$arch" ;;
        *) "$top/tools/deps.sh" "init-$arch" ;;
    esac
    rust_targets="$rust_targets $arch-unknown-linux-gnu"
done
find_rust || die 1 "no Rust for$rust_targets: run tools/deps.sh build"
PATH=$rust_dir:$PATH
ZOSIA_CACHE=${ZOSIA_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/zosia}
# A folder of its own: artefacts never mix with what cargo made with other flags,
# and do not wait for its lock.
CARGO_TARGET_DIR=$ZOSIA_CACHE/artefacts
cargo_home=${CARGO_HOME:-$HOME/.cargo}
# Nothing of the caller's surroundings gets into the build but this.
LC_ALL=C
TZ=UTC
export PATH ZOSIA_CACHE CARGO_TARGET_DIR LC_ALL TZ
use_cmake "$CARGO_TARGET_DIR" "$top/tools/lib/remap.cmake"
unset RUSTFLAGS CARGO_BUILD_RUSTFLAGS CFLAGS CXXFLAGS CPPFLAGS LDFLAGS
# On a PC its own tools do; for AArch64 .cargo/config.toml says which.
[ "$(own_arch)" = x86_64 ] ||
    export CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_LINKER=x86_64-linux-gnu-gcc \
        OBJCOPY_x86_64_unknown_linux_gnu=x86_64-linux-gnu-objcopy
[ -z "${ZOSIA_JOBS:-}" ] || export CMAKE_BUILD_PARALLEL_LEVEL="$ZOSIA_JOBS"

# One build at a time in this checkout: cargo has a lock of its own, out/ has not.
mkdir -p out
lock "$top/out/build" "building in this checkout"
if [ "$what" = native ]; then
    for_arch "$archs"
    build_init "$triple" out/native/init
    say "built out/native/init"
    exit 0
fi
if [ "$what" = tests ]; then
    for_arch aarch64
    build_kernel_tests out/kernel-tests
    exit 0
fi
# Before anything is read: what is changed meanwhile is not in it.
sources=$(sources_key)
for arch in $archs; do
    for_arch "$arch"
    build_machine
done
