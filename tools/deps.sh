#!/bin/sh
# Installs what zosia's other commands need, where it is missing.
#
# Usage: tools/deps.sh [GROUP]...
#
#   native  what tools/build.sh --native needs: compilers, Rust
#   init    what tools/build.sh --init needs: these, and Python
#   build   what tools/build.sh needs: these, and the kernel's source
#   fetch   what fetches a model
#   run     this, QEMU and its UEFI firmware
#   test    both of these, and what tools/test.sh checks and compares with
#   bench   both of these, and what bench/ compares with
#   docs    mkdocs
#
# native, init, build and run are for this machine's own architecture; init-aarch64,
# build-x86_64, run-aarch64 and so on say which, and test needs both.
#
# Without GROUP: build and run. On Debian 12 or newer the packages are installed
# with apt, as root or with sudo, after showing the command; a suite of the same
# archive (security, backports) or the architecture arm64 is added where a
# package is only there. Who may not do that is told what an administrator has to
# do. Elsewhere it says what to install and fails; there the EFI file is built in a
# container, as the kernel's source is a package of Debian's. When everything is there,
# it does nothing and says nothing.
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
clean_steps

# root_step TEXT MEASURE COMMAND...: a step as root. A password is asked for before
# its line is shown.
root_step() {
    root_text=$1 root_measure=$2
    shift 2
    require_root
    step "$root_text" "$root_measure" $sudo "$@"
}

# How far apt is, by what it tells of itself (APT::Status-Fd).
apt_done() { # LOG
    sed -n 's/^dlstatus:[^:]*:\([0-9]*\).*/fetched \1 %/p; s/^pmstatus:[^:]*:\([0-9]*\).*/installed \1 %/p' "$1" | tail -n 1
}

# as_root COMMAND...
as_root() {
    require_root
    show $sudo "$@"
}

# may_be_root sets sudo, the word before what root does.
may_be_root() {
    sudo=
    [ "$(id -u)" != 0 ] || return 0
    sudo=sudo
    have sudo && sudo -v
}

# Who may not is told all that is missing at once, since somebody else has to be asked.
require_root() {
    ! may_be_root || return 0
    say "what is missing is installed by root. An administrator can run: $top/tools/deps.sh $groups"
    say "or install it in another way:$packages${source_missing:+ $(pinned package)}${rust_missing:+; Rust 1.$rust_needs or newer, which rustup installs without root, for$rust_targets}${lints_missing:+; rustfmt and clippy}"
    exit 1
}

# any_file PATTERN...: whether one of the files is there.
any_file() {
    for any in "$@"; do
        [ ! -e "$any" ] || return 0
    done
    return 1
}

# need PACKAGE COMMAND...: notes what is missing, as Debian's package and as
# commands for everybody else.
packages=
commands=
need() {
    need_package=$1
    shift
    for need_command in "$@"; do
        case $need_command in
            /*) any_file "$need_command" || break ;;
            *) have "$need_command" || break ;;
        esac
        need_command=
    done
    if [ -n "$need_command" ]; then
        packages="$packages $need_package"
        commands="$commands $need_command"
    fi
}

# A library or header, that may lie in one of several places.
need_file() {
    need_package=$1
    shift
    if ! any_file "$@"; then
        packages="$packages $need_package"
        commands="$commands $1"
    fi
}

debian_codename() {
    [ -r /etc/debian_version ] && [ -r /etc/os-release ] && have apt-get || return 1
    sed -n 's/^VERSION_CODENAME=//p' /etc/os-release | tr -d '"'
}

# has_package NAME: whether apt could install it.
has_package() {
    apt-cache policy "$1" 2>/dev/null | grep -q '^  Candidate: [^(]'
}

# has_source: whether apt knows the kernel's source in the version that is pinned.
has_source() {
    apt-cache madison "$(pinned package)" 2>/dev/null | grep -Fq " $(pinned version) "
}

pinned() { sed -n "s/^$1=//p" "$top/kernel/source"; }

updated=
update() {
    [ -z "$updated" ] || return 0
    root_step "asking the archives what they have" '' apt-get -q update || die 1 "apt-get update failed; see above"
    updated=yes
}

# add_suite SUITE: in the same archive that the system's own suite comes from.
# The security suite lies beside it.
# shellcheck disable=SC2016 # apt expands them
add_suite() {
    ! apt-get indextargets --format '$(RELEASE)' 'Created-By: Packages' | grep -Fxq "$1" ||
        return 0
    archive=$(apt-get indextargets --format '$(RELEASE) $(REPO_URI)' 'Created-By: Packages' |
        sed -n "s/^$codename //p" | head -n 1)
    archive=${archive%/}
    [ -n "$archive" ] || die 1 "apt has no suite $codename to take the archive's address from"
    case $1 in
        *-security) archive=${archive%/*}/debian-security ;;
    esac
    list=/etc/apt/sources.list.d/zosia-$1.list
    as_root sh -c 'umask 022; echo "deb $1 $2 main" >"$3"' sh "$archive" "$1" "$list"
    if ! root_step "asking the archive for $1" '' apt-get -q update; then
        as_root rm -f "$list"
        root_step "asking the archives what they have" '' apt-get -q update || die 1 "apt-get update failed; see above"
        say "the archive has no suite $1 at $archive"
        return 1
    fi
    updated=yes
}

install() {
    root_step "installing $# packages" apt_done env DEBIAN_FRONTEND=noninteractive \
        apt-get -q -y -o APT::Status-Fd=1 install --no-install-recommends "$@" ||
        die 1 "apt-get could not install: $*"
}

# tools_arch: whose tools are meant where nobody says.
tools_arch() {
    case $(own_arch) in x86_64) echo x86_64 ;; *) echo aarch64 ;; esac
}

# need_native ARCH: what the program takes.
need_native() {
    need make make
    need gcc gcc
    need g++ g++
    need_file libc6-dev /usr/include/stdlib.h
    need cmake cmake
    case $1 in
        aarch64) need_compiler aarch64 aarch64 arm64 ;;
        x86_64) need_compiler x86_64 x86-64 amd64 ;;
    esac
    need_file libclang-dev /usr/lib/llvm-*/lib/libclang.so /usr/lib*/libclang.so \
        /usr/lib/*/libclang.so
    rust_targets="$rust_targets $1-unknown-linux-gnu"
    find_rust || rust_missing=yes
}

# need_init ARCH: and what lists its parts.
need_init() {
    need_native "$1"
    need python3 python3
}

# need_build ARCH: and what the kernel takes.
need_build() {
    need_init "$1"
    need bc bc
    need bison bison
    need flex flex
    need xz-utils xz
    need perl perl
    need dpkg dpkg-deb
    if [ "$1" = x86_64 ]; then
        # What the kernel's build checks its objects with, and packs it with.
        need_file libelf-dev /usr/include/libelf.h
        need lz4 lz4
    fi
    # The kernel's source is a package; kernel/build.sh fetches it by itself, where there is
    # apt.
    if [ ! -f "$cache/kernel/$(pinned sha256).deb" ]; then
        if debian_codename >/dev/null; then
            has_source || source_missing=yes
        else
            [ -f "${ZOSIA_KERNEL_SOURCE:-}" ] || source_missing=yes
        fi
    fi
}

# need_compiler ARCH NAME DEBIAN: NAME is that of its packages, DEBIAN that of
# Debian's architecture. The machine's own compiler has such names as well.
need_compiler() {
    [ "$(own_arch)" != "$1" ] || return 0
    need "gcc-$2-linux-gnu" "$1-linux-gnu-gcc"
    need "g++-$2-linux-gnu" "$1-linux-gnu-g++"
    need_file "libc6-dev-$3-cross" "/usr/$1-linux-gnu/lib/libc.a"
}

# need_run ARCH
need_run() {
    case $1 in
        aarch64)
            need qemu-system-arm qemu-system-aarch64
            need_file qemu-efi-aarch64 /usr/share/qemu-efi-aarch64/QEMU_EFI.fd \
                /usr/share/AAVMF/AAVMF_CODE.fd /usr/share/edk2/aarch64/QEMU_EFI.fd \
                /usr/share/qemu/edk2-aarch64-code.fd
            ;;
        x86_64)
            need qemu-system-x86 qemu-system-x86_64
            need_file ovmf /usr/share/ovmf/OVMF.fd /usr/share/edk2/x64/OVMF.4m.fd \
                /usr/share/qemu/edk2-x86_64-code.fd
            ;;
    esac
    need_fetch
}

need_fetch() {
    need curl curl
    need python3-pip pip3
}

need_test() {
    for test_arch in aarch64 x86_64; do
        need_build "$test_arch"
        need_run "$test_arch"
    done
    need shellcheck shellcheck
    need dash dash
    need busybox busybox
    need bash bash
    need e2fsprogs /sbin/mkfs.ext4
    need erofs-utils mkfs.erofs
    need qemu-user-static qemu-aarch64-static
    need cpio cpio
    need strace strace
    need sbsigntool sbsign
    need_file qemu-efi-aarch64 /usr/share/AAVMF/AAVMF_VARS.snakeoil.fd
    need openssl openssl
    need_docs
    if [ -x "${rust_dir:-/usr/bin}/cargo-clippy" ] && [ -x "${rust_dir:-/usr/bin}/rustfmt" ]; then
        return 0
    fi
    lints_missing=yes
}

# What is counted and compared with is AArch64's.
need_bench() {
    need_build aarch64
    need_run aarch64
    need cpio cpio
    need strace strace
    need_file time /usr/bin/time
    need_docs
}

need_docs() {
    need_file python3-venv /usr/lib/python3*/ensurepip/__init__.py \
        /usr/local/lib/python3*/ensurepip/__init__.py
}

# candidate_minor PACKAGE: the 96 of the version 1.96.0 that apt would install.
candidate_minor() {
    apt-cache policy "$1" 2>/dev/null |
        awk '/^  Candidate: / { split($2, part, "."); minor = part[2] } END { print minor + 0 }'
}

install_rust() {
    if have rustup || [ -x "${CARGO_HOME:-$HOME/.cargo}/bin/rustup" ]; then
        rustup=$(command -v rustup) || rustup=${CARGO_HOME:-$HOME/.cargo}/bin/rustup
        # shellcheck disable=SC2086 # words
        if show "$rustup" target add $rust_targets >&2 && find_rust; then
            return 0
        fi
        say "rustup has no working$rust_targets: taking the distribution's Rust"
    fi
    [ -n "$codename" ] || return 1
    foreign=
    for target in $rust_targets; do
        case $target in aarch64-*) foreign_arch=arm64 ;; *) foreign_arch=amd64 ;; esac
        [ "$(dpkg --print-architecture)" != "$foreign_arch" ] || continue
        foreign="$foreign $foreign_arch"
        dpkg --print-foreign-architectures | grep -Fxq "$foreign_arch" && continue
        as_root dpkg --add-architecture "$foreign_arch"
        updated=
    done
    update
    # Debian 12 has a current Rust only under the second name, for browsers; the
    # security suite and backports have newer ones than the release.
    for suite in '' security backports; do
        [ -z "$suite" ] || add_suite "$codename-$suite" || continue
        for rust_name in rustc rustc-web; do
            [ "$(candidate_minor "$rust_name")" -ge "$rust_needs" ] || continue
            web=${rust_name#rustc}
            libraries=
            for foreign_arch in $foreign; do
                libraries="$libraries libstd-rust$web-dev:$foreign_arch"
            done
            # shellcheck disable=SC2086 # words
            install "cargo$web" "rustc$web" $libraries
            if find_rust; then return 0; fi
        done
    done
    return 1
}

install_lints() {
    if have rustup && show rustup component add rustfmt clippy >&2; then
        return 0
    fi
    [ -n "$codename" ] || return 1
    if has_package rustfmt-web; then
        install rustfmt-web rust-web-clippy
    else
        install rustfmt rust-clippy
    fi
}

cache=${ZOSIA_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/zosia}
rust_missing=
source_missing=
lints_missing=
rust_targets=
[ $# -gt 0 ] || set -- build run
groups=$*
for group in "$@"; do
    case $group in
        -h | --help)
            usage
            exit 0
            ;;
        native | init | build | run) "need_$group" "$(tools_arch)" ;;
        init-aarch64 | init-x86_64 | build-aarch64 | build-x86_64 | run-aarch64 | run-x86_64) "need_${group%-*}" "${group#*-}" ;;
        fetch | test | bench | docs) "need_$group" ;;
        *) die 2 "unknown group $group; groups are native, init, build, fetch, run, test, bench and docs" ;;
    esac
done
[ -n "$packages$rust_missing$source_missing$lints_missing" ] || exit 0

if ! codename=$(debian_codename); then
    codename=
    if [ -n "$rust_missing" ] && install_rust; then rust_missing=; fi
    if [ -n "$lints_missing" ] && install_lints; then lints_missing=; fi
    [ -z "$commands" ] ||
        say "this is not Debian; please install what provides:$commands"
    [ -z "$commands" ] || say "(Debian's packages are called:$packages)"
    [ -z "$rust_missing" ] ||
        say "please install Rust 1.$rust_needs or newer with rustup, then: rustup target add$rust_targets"
    [ -z "$lints_missing" ] || say "please install: rustup component add rustfmt clippy"
    [ -z "$source_missing" ] ||
        say "the EFI file is built on Debian, whose package the kernel's source is: build in a container (tools/build.sh --container), which takes podman or docker, or do without a virtual machine (tools/run.sh --native)"
    [ -z "$commands$rust_missing$lints_missing$source_missing" ] || exit 1
    exit 0
fi

# kernel/build.sh has more places to look for the source, for which nobody is asked.
if [ -z "$packages$rust_missing$lints_missing" ] && ! may_be_root; then exit 0; fi
# First, as the suite that has it also has the newer compilers.
if [ -n "$source_missing" ]; then
    update
    for suite in security backports; do
        has_source || add_suite "$codename-$suite" || :
    done
    # Another version will do, and kernel/build.sh says so.
    has_package "$(pinned package)" ||
        die 1 "apt has no package $(pinned package) in $codename, nor in its security and backports suites; build in a container (tools/build.sh --container), or do without a virtual machine (tools/run.sh --native)"
fi
if [ -n "$packages" ]; then
    update
    # Debian 12's own QEMU is too old, and clashes with a newer qemu-utils.
    options=
    case " $packages " in
        *' qemu-'*)
            if [ "$codename" = bookworm ] && add_suite bookworm-backports; then
                options='-t bookworm-backports'
            fi
            ;;
    esac
    for package in $packages; do
        has_package "$package" || die 1 "apt has no package $package in $codename"
    done
    qemu=
    rest=
    for package in $packages; do
        case $package in
            qemu-*) qemu="$qemu $package" ;;
            *) rest="$rest $package" ;;
        esac
    done
    # shellcheck disable=SC2086 # words
    [ -z "$rest" ] || install $rest
    # shellcheck disable=SC2086 # words
    [ -z "$qemu" ] || install $options $qemu
fi
if [ -n "$rust_missing" ]; then
    install_rust || die 1 "there is no Rust 1.$rust_needs or newer for$rust_targets to be had: install rustup"
fi
[ -z "$lints_missing" ] || install_lints ||
    die 1 "rustfmt and clippy could not be installed"
