#!/bin/sh
# Makes a Debian package of this tree: out/zosia_VERSION_all.deb.
#
# Usage: tools/packaging/deb.sh
#
# What it installs is what tools/install.sh does, under /usr. Its kernel and program are
# built when they are first needed, by tools/build.sh. Needs dpkg-deb; lintian checks
# the result if it is here. The same tree gives the same bytes.
set -eu

# Where this file is, not a link to it.
self=$0
while link=$(readlink "$self"); do
    case $link in /*) self=$link ;; *) self=$(dirname "$self")/$link ;; esac
done
top=$(CDPATH='' cd -P "$(dirname "$self")/../.." && pwd -P)
# shellcheck source=tools/lib/script.sh
. "$top/tools/lib/script.sh"

cd "$top"
version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
deb=out/zosia_${version}_all.deb
mkdir -p out
tree=$(mktemp -d out/deb.XXXXXX)
trap 'rm -rf "$tree"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
# For directories and files alike, whoever makes it.
umask 022
chmod 755 "$tree"
tools/install.sh --package apt --prefix /usr --destdir "$PWD/$tree"
# Debian has the licence, and a place for what is not of the package's name.
rm "$tree/usr/lib/zosia/LICENSE"
find "$tree" -type d -exec chmod 755 {} +
find "$tree" -type f -exec chmod 644 {} +
find "$tree/usr/lib" -type f -exec grep -lE -m 1 '^#!/' {} + | while read -r file; do
    case $(head -c 2 "$file") in '#!') chmod 755 "$file" ;; esac
done

doc=$tree/usr/share/doc/zosia
mkdir -p "$doc" "$tree/usr/share/man/man1" "$tree/DEBIAN"
cp README.md "$doc/"
cat >"$doc/copyright" <<END
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: zosia

Files: *
Copyright: 2026 the authors of zosia
License: Apache-2.0
 On Debian systems the text of the licence is in
 /usr/share/common-licenses/Apache-2.0.
END
# The last change of the sources, or of the file itself where there is no history.
date=$(git log -1 --format=%cD 2>/dev/null || date -R -r Cargo.toml)
SOURCE_DATE_EPOCH=$(date -d "$date" +%s)
export SOURCE_DATE_EPOCH
printf 'zosia (%s) unstable; urgency=low\n\n  * Made from its sources.\n\n -- zosia <zosia@localhost>  %s\n' \
    "$version" "$date" | gzip -9n >"$doc/changelog.gz"
{
    printf '.TH ZOSIA 1 "" "zosia %s"\n.SH NAME\nzosia \\- boot a language model as a chat prompt\n' "$version"
    printf '.SH DESCRIPTION\n.nf\n'
    sh "$tree/usr/bin/zosia" --help 2>/dev/null | sed 's/\\/\\e/g; s/-/\\-/g; s/^\([.'\'']\)/\\\&\1/'
    printf '.fi\n'
} | gzip -9n >"$tree/usr/share/man/man1/zosia.1.gz"

cat >"$tree/DEBIAN/control" <<END
Package: zosia
Version: $version
Section: misc
Priority: optional
Architecture: all
Maintainer: zosia <zosia@localhost>
Installed-Size: $(du -sk "$tree/usr" | cut -f 1)
Depends: qemu-system-arm, qemu-efi-aarch64, curl
Recommends: make, gcc, g++, bc, bison, flex, xz-utils, cmake, python3, gcc-aarch64-linux-gnu, g++-aarch64-linux-gnu, libclang-dev
Description: boot a language model as a chat prompt
 A kernel and one program, which is PID 1, in one EFI file: it finds a
 language model on a disk, reads it and talks. No shell, no network. The
 command zosia boots it in QEMU with a model by name, also one that Ollama,
 LM Studio, llama.cpp or Hugging Face's library have here. The EFI file is
 built when it is first needed.
END
(cd "$tree" && find usr -type f -exec md5sum {} + | LC_ALL=C sort -k 2 >DEBIAN/md5sums)
find "$tree" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
show dpkg-deb --root-owner-group -Zxz --build "$tree" "$deb" >&2
# There is no address yet that a maintainer could be written to.
! have lintian || show lintian --fail-on error,warning \
    --suppress-tags bogus-mail-host,bogus-mail-host-in-debian-changelog "$deb"
