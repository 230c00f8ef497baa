#!/bin/sh
# Links the static executable INIT into a kernel: one EFI file.
#
# Usage: kernel/build.sh [--locked] ARCH INIT EFI
#
#   ARCH       aarch64 or x86_64, which INIT is for
#   --locked   fail if the source that kernel/source names cannot be had,
#              instead of building the newest one with a warning
#
# The compiled kernel stays in the cache ($ZOSIA_CACHE, else zosia/ under
# $XDG_CACHE_HOME or ~/.cache), under a hash of what it is made from: source,
# configuration, compiler, and the settings below. A new INIT is only linked in
# again. Beside EFI, a file named .kernel instead of .efi tells what was used.
#
#   ZOSIA_JOBS            compilers at once (default: the processors)
#   ZOSIA_KERNEL_SOURCE   where to look for the pinned source first: the .deb, or
#                         the address of an archive that keeps old packages
set -eu

# Where this file is, not a link to it.
self=$0
while link=$(readlink "$self"); do
    case $link in /*) self=$link ;; *) self=$(dirname "$self")/$link ;; esac
done
top=$(CDPATH='' cd -P "$(dirname "$self")/.." && pwd -P)
# shellcheck source=tools/lib/script.sh
. "$top/tools/lib/script.sh"
# shellcheck source=tools/lib/progress.sh
. "$top/tools/lib/progress.sh"
program=kernel/build.sh
clean_steps

hash_of() { sha256sum "$1" | cut -d ' ' -f 1; }

case ${1-} in
    -h | --help)
        usage
        exit 0
        ;;
esac
locked=
if [ "${1-}" = --locked ]; then
    locked=yes
    shift
fi
[ $# -eq 3 ] || die 2 "usage: kernel/build.sh [--locked] ARCH INIT EFI"
case $1 in
    aarch64) kernel_arch=arm64 prefix=aarch64-linux-gnu- target=Image image=arch/arm64/boot/Image ;;
    x86_64) kernel_arch=x86_64 prefix=x86_64-linux-gnu- target=bzImage image=arch/x86/boot/bzImage ;;
    *) die 2 "there is no kernel for $1; ARCH is aarch64 or x86_64" ;;
esac
arch=$1
shift
[ -f "$1" ] || die 1 "$1: no such file"
here=$(CDPATH='' cd -P "$(dirname "$self")" && pwd -P)
init=$(CDPATH='' cd "$(dirname "$1")" && pwd -P)/$(basename "$1")
mkdir -p "$(dirname "$2")"
efi=$(CDPATH='' cd "$(dirname "$2")" && pwd -P)/$(basename "$2")
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
settings="ARCH=$kernel_arch CROSS_COMPILE=$prefix KBUILD_BUILD_VERSION=1
KBUILD_BUILD_USER=zosia KBUILD_BUILD_HOST=zosia"
kbuild_words=-s
kbuild() {
    # shellcheck disable=SC2086 # words
    make $kbuild_words $settings KBUILD_BUILD_TIMESTAMP="$(pinned date) UTC" "$@"
}

# get_source: $cache/$sha256.deb is there, and is $version: what is pinned, from
# wherever it can be had; or else, unless --locked, the newest that apt knows.
get_source() {
    [ ! -f "$cache/$sha256.deb" ] || return 0
    rm -rf "$cache/fetch"
    mkdir "$cache/fetch"
    if fetch_named || fetch_package || fetch_kept; then
        keep_source
        return
    fi
    [ -z "$locked" ] ||
        die 3 "$package $version is nowhere to be had, and --locked takes no other; set ZOSIA_KERNEL_SOURCE"
    version=$(apt-cache madison "$package" | awk 'NR == 1 { print $3 }')
    [ -n "$version" ] || die 3 "apt knows no $package; run: tools/deps.sh build"
    say "*** $package $(pinned version) is nowhere to be had ***"
    say "*** building the newest that the archive has, $version ***"
    say "*** this is not the kernel that kernel/source names ***"
    sha256=$(apt-cache show "$package=$version" | sed -n 's/^SHA256: //p' | head -n 1)
    [ ! -f "$cache/$sha256.deb" ] || return 0
    fetch_package || die 3 "$package $version cannot be fetched either; see above"
    keep_source
}

# What was fetched becomes the source that the cache has, if it is the right one.
keep_source() {
    got=$(hash_of "$fetched")
    [ "$got" = "$sha256" ] ||
        die 3 "$package $version should have the SHA-256 $sha256, and $fetched has $got"
    mv "$fetched" "$cache/$sha256.deb"
    rm -rf "$cache/fetch"
}

# A file that the caller names.
fetch_named() {
    [ -f "${ZOSIA_KERNEL_SOURCE:-}" ] || return 1
    fetched=$cache/fetch/named.deb
    cp "$ZOSIA_KERNEL_SOURCE" "$fetched"
}

# The package, as apt fetches it: it checks the archive's signature.
fetch_package() {
    (cd "$cache/fetch" && step "fetching the kernel's source" '' apt-get -q \
        -o APT::Sandbox::User="$(id -un)" download "$package=$version") || return 1
    fetched=$(echo "$cache/fetch"/*.deb)
    [ -f "$fetched" ]
}

# The pinned file from an archive that no longer lists it, or from one that
# keeps everything that ever was in it. Here the checksum alone decides.
fetch_kept() {
    places >"$cache/fetch/places"
    while read -r place; do
        fetched=$cache/fetch/kept.deb
        ! show /usr/lib/apt/apt-helper -q -o APT::Sandbox::User="$(id -un)" \
            download-file "${place%/}/$(pinned path)" "$fetched" "SHA256:$sha256" >&2 || return 0
    done <"$cache/fetch/places"
    return 1
}

# Where the file may be kept: what the caller names; the archives that apt
# uses, whose pools keep a file for a while; and their snapshots, where apt's
# configuration has the addresses: as settings from apt 2.9 on, and in Debian's
# container images as comments beside the archives.
# shellcheck disable=SC2016 # apt expands it
places() {
    case ${ZOSIA_KERNEL_SOURCE:-} in *://*) printf '%s\n' "$ZOSIA_KERNEL_SOURCE" ;; esac
    apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' |
        sort -u >"$cache/fetch/archives"
    cat "$cache/fetch/archives"
    apt-config dump Acquire::Snapshots::URI::Host |
        sed -n 's/^Acquire::Snapshots::URI::Host::\([^ ]*\) "\(.*\)";$/\1 \2/p' |
        while read -r host template; do
            sed -n "s|^[a-z+]*://$host/\(.*[^/]\)/*\$|\1|p" "$cache/fetch/archives" |
                while read -r folder; do
                    printf '%s\n' "$template" |
                        sed "s|@PATH@|$folder|; s|@SNAPSHOTID@|$(pinned snapshot)|"
                done
        done
    cat /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null |
        sed -n "s|^# *\(https*://[^ ]*\)/[0-9]\{8\}T[0-9]\{6\}Z/*\$|\1/$(pinned snapshot)|p"
}

# The lines of the fragments that ask for something.
requests() {
    cat "$here/zosia.config" "$here/$arch.config" |
        sed -n '/^CONFIG_/p;/^# CONFIG_.* is not set$/p'
}

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
    begin_step "unpacking and configuring $package $version"
    rm -rf "$tree" "$tree.new"
    mkdir -p "$tree.new"
    dpkg-deb --fsys-tarfile "$cache/$sha256.deb" |
        tar -xO -f - "./usr/src/$package.tar.xz" |
        tar -xJ -f - --strip-components=1 -C "$tree.new"
    cd "$tree.new"
    mkdir initramfs
    kbuild tinyconfig >/dev/null
    scripts/kconfig/merge_config.sh -m .config "$here/zosia.config" "$here/$arch.config" >/dev/null
    kbuild olddefconfig
    lost=$(lost_requests)
    end_step
    [ -z "$lost" ] || die 1 "these lines of kernel/zosia.config or kernel/$arch.config did not survive into .config:
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

command -v "${prefix}gcc" >/dev/null || die 3 "there is no ${prefix}gcc; run: tools/deps.sh build"
compiler=$("${prefix}gcc" --version | head -n 1)
linker=$("${prefix}ld" --version | head -n 1)

# One build at a time.
lock "$cache/lock" "building the kernel"
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
# A line for each file, which tells how far it is; few where only INIT is new.
kbuild_words=
measure=
[ -f "$tree/vmlinux" ] || measure="lines_done $tree/initramfs/log 1614"
: >"$tree/initramfs/log"
# shellcheck disable=SC2086 # words or none
begin_step "building Linux for $arch, $jobs compilers at once" $measure
kbuild -C "$tree" -j "$jobs" "$target" >"$tree/initramfs/log" 2>&1 || {
    hide_step
    tail -n 20 "$tree/initramfs/log" >&2
    die 1 "the kernel did not build; the whole log is $tree/initramfs/log"
}
end_step
cp "$tree/$image" "$efi.new"
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

# Four trees are kept: two for each architecture, or those built last.
touch "$tree"
cd "$cache"
for old in ????????????????; do
    printf '%s %s\n' "$(date -r "$old" +%s)" "$old"
done | sort -rn | sed 1,4d | while read -r _ old; do
    rm -rf "$old"
done
