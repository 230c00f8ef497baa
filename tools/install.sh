#!/bin/sh
# Installs zosia for its user: the command zosia, its files and the completion of
# its options and models for bash, zsh and fish. Needs no root.
#
# Usage: tools/install.sh [--prefix DIR] [--package NAME] [--destdir DIR]
#        tools/install.sh [--prefix DIR] --uninstall
#
#   --prefix DIR  where to (default: ~/.local): DIR/bin/zosia is a link to
#                 DIR/lib/zosia/tools/run.sh; the completions go to DIR/share
#   --uninstall   takes all of that back, as zosia --uninstall does; saved
#                 conversations, downloads and builds stay, and it says where
#   --package NAME  for a package of this system, which NAME removes again
#   --destdir DIR put everything under DIR, for making a package
#
# What is there already of an earlier installation is replaced, and nothing else. EFI
# files that the checkout has in out/ are taken along, but not into a package.
set -eu

# Where this file is, not a link to it.
self=$0
while link=$(readlink "$self"); do
    case $link in /*) self=$link ;; *) self=$(dirname "$self")/$link ;; esac
done
tools=$(CDPATH='' cd -- "$(dirname -- "$self")" && pwd -P)
top=${tools%/*}
# shellcheck source-path=SCRIPTDIR source=lib/script.sh
. "$tools/lib/script.sh"

prefix=$HOME/.local
uninstall='' package='' destdir=''
while [ $# -gt 0 ]; do
    case $1 in
        --prefix | --destdir | --package)
            [ $# -ge 2 ] || die 2 "$1 needs a value (tools/install.sh --help)"
            ;;
    esac
    case $1 in
        -h | --help) usage && exit 0 ;;
        --prefix) prefix=$2 && shift ;;
        --destdir) destdir=$2 && shift ;;
        --package) package=$2 && shift ;;
        --uninstall) uninstall=1 ;;
        *) die 2 "unknown option $1 (tools/install.sh --help)" ;;
    esac
    shift
done
case $prefix in /*) ;; *) die 2 "--prefix $prefix: not an absolute path" ;; esac

# What is installed, but for the link: sources as well, since the EFI file is built
# from them. bench and the tests are members of the workspace.
parts='.cargo Cargo.toml Cargo.lock LICENSE bench init kernel tools'
# An installation is known by this file, in which is where it is.
mark=installed

completions() { # COMMAND
    "$1" bash share/bash-completion/completions/zosia
    "$1" zsh share/zsh/site-functions/_zosia
    "$1" fish share/fish/vendor_completions.d/zosia.fish
}

install_completion() { # SHELL PLACE
    mkdir -p "$destdir$prefix/${2%/*}"
    LC_ALL=C awk -v shell="$1" -f "$tools/packaging/completion.awk" "$tools/run.sh" >"$destdir$prefix/$2"
}

remove_completion() { rm -f "$prefix/$2"; }

take_efi_files() {
    for file in "$top"/out/zosia*.efi; do
        [ -f "$file" ] || continue
        mkdir -p "$home.new/out"
        rm -f "$home.new/out/${file##*/}.sources"
        cp "$file" "$home.new/out/"
        [ ! -f "$file.sources" ] || cp "$file.sources" "$home.new/out/"
    done
}

is_ours() { [ "$(readlink "$1")" = ../lib/zosia/tools/run.sh ]; }

# --- taking it back -----------------------------------------------------------------

if [ -n "$uninstall" ]; then
    # The installation that this file is part of, if it is.
    if [ -f "$top/$mark" ]; then
        package=$(sed -n 's/^package=//p' "$top/$mark")
        prefix=$(sed -n 's/^prefix=//p' "$top/$mark")
    fi
    case $package in
        '') ;;
        apt) die 2 "zosia was installed by a package: sudo apt remove zosia" ;;
        *) die 2 "zosia was installed by a package: $package uninstall zosia" ;;
    esac
    home=$prefix/lib/zosia
    [ -f "$home/$mark" ] || die 1 "there is no zosia in $prefix; where it is: --prefix DIR"
    ! is_ours "$prefix/bin/zosia" || rm "$prefix/bin/zosia"
    completions remove_completion
    # This script is in it: a shell that has read it to its end needs it no longer.
    rm -rf "$home"
    kept=${XDG_DATA_HOME:-$HOME/.local/share}/zosia
    [ "$(uname -s)" != Darwin ] || kept="$HOME/Library/Application Support/zosia and $kept"
    say "zosia is gone from $prefix; left are, if they were made, conversations in $kept and downloads and builds in ${ZOSIA_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/zosia}${ZOSIA_MODELS:+ and $ZOSIA_MODELS}"
    exit 0
fi

# --- installing ----------------------------------------------------------------------

home=$destdir$prefix/lib/zosia
if [ -e "$home" ] && [ ! -f "$home/$mark" ]; then
    die 1 "$home is there and is no installation of zosia; move it away, or choose another --prefix"
fi
if [ -e "$destdir$prefix/bin/zosia" ] && ! is_ours "$destdir$prefix/bin/zosia"; then
    die 1 "$destdir$prefix/bin/zosia is another program; move it away, or choose another --prefix"
fi
[ "$top" != "$home" ] || die 2 "this is the installation; run the script of a checkout"

trap 'rm -rf "$home.new"' EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM
rm -rf "$home.new"
mkdir -p "$home.new" "$destdir$prefix/bin"
for part in $parts; do cp -R "$top/$part" "$home.new/"; done
# What others' builds may have left among the sources.
rm -rf "$home.new/tools/fuzz" "$home.new/init/target"
printf 'prefix=%s\npackage=%s\n' "$prefix" "$package" >"$home.new/$mark"
# What was built there is kept, and the EFI files that the checkout has are taken along:
# a Mac may have no way to others. A package is the same, whatever was built.
[ ! -d "$home/out" ] || mv "$home/out" "$home.new/out"
[ -n "$package" ] || take_efi_files
rm -rf "$home"
mv "$home.new" "$home"
ln -sf ../lib/zosia/tools/run.sh "$destdir$prefix/bin/zosia"
completions install_completion
[ -z "$package" ] || exit 0

say "installed: $prefix/bin/zosia; to take it back: zosia --uninstall"
case :$PATH: in
    *:"$prefix/bin":*) ;;
    *) say "$prefix/bin is not in your PATH; add to your shell's profile: export PATH=\"$prefix/bin:\$PATH\"" ;;
esac
