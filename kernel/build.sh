#!/bin/sh
# Links the static executable INIT into a kernel: one EFI file.
#
# Usage: kernel/build.sh INIT EFI
#
# The compiled kernel stays in the cache ($ZOSIA_CACHE, else zosia/ under
# $XDG_CACHE_HOME or ~/.cache), under a hash of what it is made from: source,
# configuration, compiler, and the settings below. A new INIT is only linked in
# again. Beside EFI, a file named .kernel instead of .efi tells what was used.
#
#   ZOSIA_JOBS   compilers at once (default: the processors)
set -eu

say() { printf 'kernel: %s\n' "$*" >&2; }

die() {
    say "$*"
    exit 1
}

show() {
    printf '+ %s\n' "$*" >&2
    "$@"
}

hash_of() { sha256sum "$1" | cut -d ' ' -f 1; }

case ${1-} in
    -h | --help)
        sed -n '2,/^set -eu/{/^#/!d;s/^# \{0,1\}//;p;}' "$0"
        exit 0
        ;;
esac
[ $# -eq 2 ] || die "usage: kernel/build.sh INIT EFI"
[ -f "$1" ] || die "$1: no such file"
here=$(cd "$(dirname "$0")" && pwd -P)
init=$(cd "$(dirname "$1")" && pwd -P)/$(basename "$1")
mkdir -p "$(dirname "$2")"
efi=$(cd "$(dirname "$2")" && pwd -P)/$(basename "$2")
record=${efi%.efi}.kernel
cache=${ZOSIA_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/zosia}/kernel
mkdir -p "$cache"

pinned() { sed -n "s/^$1=//p" "$here/source"; }
package=$(pinned package)
version=$(pinned version)
sha256=$(pinned sha256)

# What the caller's environment could say to kbuild is settled here.
unset KBUILD_OUTPUT KCFLAGS KAFLAGS KCPPFLAGS KCONFIG_CONFIG LOCALVERSION \
    MAKEFLAGS MFLAGS CFLAGS CPPFLAGS LDFLAGS
LC_ALL=C
TZ=UTC
export LC_ALL TZ

# kbuild TARGET...: make with all that goes into a build besides the source,
# the configuration and the compiler.
prefix=aarch64-linux-gnu-
settings="ARCH=arm64 CROSS_COMPILE=$prefix KBUILD_BUILD_VERSION=1
KBUILD_BUILD_USER=zosia KBUILD_BUILD_HOST=zosia"
kbuild() {
    # shellcheck disable=SC2086 # words
    make -s $settings KBUILD_BUILD_TIMESTAMP="$(pinned date) UTC" "$@"
}

# get_source: $cache/$sha256.deb is there, and is $version.
get_source() {
    [ ! -f "$cache/$sha256.deb" ] || return 0
    if ! fetch; then
        newest=$(apt-cache madison "$package" | awk 'NR == 1 { print $3 }')
        [ -n "$newest" ] || die "apt knows no $package; run: tools/deps.sh build"
        say "*** the archive no longer has $package $version ***"
        say "*** building the newest that it has, $newest ***"
        say "*** this is not the kernel that kernel/source names ***"
        version=$newest
        sha256=$(apt-cache show "$package=$newest" | sed -n 's/^SHA256: //p' | head -n 1)
        [ ! -f "$cache/$sha256.deb" ] || return 0
        fetch || die "$package $version cannot be fetched either; see above"
    fi
    got=$(hash_of "$fetched")
    [ "$got" = "$sha256" ] ||
        die "$package $version should have the sha256 $sha256, and has $got"
    mv "$fetched" "$cache/$sha256.deb"
    rm -rf "$cache/fetch"
}

# fetch: the package into $fetched. apt checks the archive's signature.
fetch() {
    rm -rf "$cache/fetch"
    mkdir "$cache/fetch"
    (cd "$cache/fetch" && show apt-get -q -o APT::Sandbox::User="$(id -un)" \
        download "$package=$version" >&2) || return 1
    fetched=$(echo "$cache/fetch"/*.deb)
    [ -f "$fetched" ]
}

# One build at a time; a lock whose owner is gone is taken over.
lock() {
    waited=
    until mkdir "$cache/lock" 2>/dev/null; do
        owner=$(cat "$cache/lock/pid" 2>/dev/null) || owner=
        if [ -n "$owner" ] && ! kill -0 "$owner" 2>/dev/null; then
            say "process $owner died while it built; taking over"
            rm -rf "$cache/lock"
            continue
        fi
        [ -n "$waited" ] || say "waiting for process ${owner:-?}, which builds"
        waited=yes
        sleep 1
    done
    echo $$ >"$cache/lock/pid"
    trap 'rm -rf "$cache/lock"' EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
}

# The lines of the fragment that ask for something.
requests() { sed -n '/^CONFIG_/p;/^# CONFIG_.* is not set$/p' "$here/zosia.config"; }

# lost_requests: the lines that do not hold in .config. A symbol to be switched
# off must be one that this kernel knows, or the line says nothing.
lost_requests() {
    find . -name 'Kconfig*' -exec sed -n \
        's/^[[:space:]]*\(menu\)\{0,1\}config[[:space:]]\{1,\}\([A-Za-z0-9_]*\).*/CONFIG_\2/p' \
        {} + | sort -u >initramfs/symbols
    requests | while IFS= read -r line; do
        case $line in
            CONFIG_*) grep -Fxq -- "$line" .config || echo "  $line" ;;
            *)
                symbol=${line#'# '}
                symbol=${symbol%' is not set'}
                if ! grep -Fxq -- "$symbol" initramfs/symbols; then
                    echo "  $line (this kernel has no such symbol)"
                elif grep -q "^$symbol=" .config; then
                    echo "  $line"
                fi
                ;;
        esac
    done
}

# configure: a fresh source tree in $tree, which has its name when it is ready.
configure() {
    say "unpacking $package $version"
    rm -rf "$tree" "$tree.new"
    mkdir -p "$tree.new"
    dpkg-deb --fsys-tarfile "$cache/$sha256.deb" |
        tar -xO -f - "./usr/src/$package.tar.xz" |
        tar -xJ -f - --strip-components=1 -C "$tree.new"
    cd "$tree.new"
    mkdir initramfs
    kbuild tinyconfig >/dev/null
    scripts/kconfig/merge_config.sh -m .config "$here/zosia.config" >/dev/null
    kbuild olddefconfig
    lost=$(lost_requests)
    [ -z "$lost" ] || die "these lines of kernel/zosia.config did not survive into .config:
$lost"
    cd "$here"
    mv "$tree.new" "$tree"
}

# is_current: whether EFI is already what this build would make.
is_current() {
    [ -f "$efi" ] && [ -f "$record" ] || return 1
    grep -Fxq "kernel.key=$key" "$record" &&
        grep -Fxq "kernel.initramfs.sha256=$(hash_of "$here/initramfs.list")" "$record" &&
        grep -Fxq "kernel.init.sha256=$(hash_of "$init")" "$record" &&
        grep -Fxq "kernel.efi.sha256=$(hash_of "$efi")" "$record"
}

command -v "${prefix}gcc" >/dev/null || die "there is no ${prefix}gcc; run: tools/deps.sh build"
compiler=$("${prefix}gcc" --version | head -n 1)
linker=$("${prefix}ld" --version | head -n 1)

lock
# What a build that was broken off has left.
rm -rf "$cache/fetch" "$cache"/*.new
get_source
key=$({
    echo "$sha256 $(pinned date) $compiler $linker $settings"
    requests
} | sha256sum | cut -c 1-16)
tree=$cache/$key
if is_current; then
    exit 0
fi
if [ ! -d "$tree" ]; then
    configure
fi
cp "$here/initramfs.list" "$tree/initramfs/"
cp "$init" "$tree/initramfs/init"
jobs=${ZOSIA_JOBS:-$(getconf _NPROCESSORS_ONLN)}
say "building Linux in $tree, $jobs compilers at once"
kbuild -C "$tree" -j "$jobs" Image >"$tree/initramfs/log" 2>&1 || {
    tail -n 20 "$tree/initramfs/log" >&2
    die "the kernel did not build; the whole log is $tree/initramfs/log"
}
cp "$tree/arch/arm64/boot/Image" "$efi.new"
mv "$efi.new" "$efi"
{
    echo "kernel.key=$key"
    echo "kernel.package=$package"
    echo "kernel.version=$version"
    echo "kernel.version.pinned=$(pinned version)"
    echo "kernel.source.sha256=$sha256"
    # Kconfig also notes the Rust that it met, and does not use.
    echo "kernel.config.sha256=$(grep -v '^CONFIG_RUSTC_' "$tree/.config" | sha256sum | cut -d ' ' -f 1)"
    echo "kernel.compiler=$compiler"
    echo "kernel.linker=$linker"
    echo "kernel.initramfs.sha256=$(hash_of "$here/initramfs.list")"
    echo "kernel.init.sha256=$(hash_of "$init")"
    echo "kernel.efi.sha256=$(hash_of "$efi")"
} >"$record"

# Two trees are kept: this one, and the last one before it.
touch "$tree"
cd "$cache"
for old in ????????????????; do
    printf '%s %s\n' "$(date -r "$old" +%s)" "$old"
done | sort -rn | sed 1,2d | while read -r _ old; do
    rm -rf "$old"
done
