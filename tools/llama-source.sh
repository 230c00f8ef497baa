#!/bin/sh
# Fetches the source of llama.cpp that zosia is compared with, and prints its
# directory: benchmarks build it, tests render the chat templates in it.
#
# Usage: tools/llama-source.sh [--kept | --version]
#
#   --kept      the directory if ZOSIA_CACHE has it already; fetches nothing
#   --version   the version of llama-cpp-python whose source distribution it is
set -eu

# Where this file is, not a link to it.
self=$0
while link=$(readlink "$self"); do
    case $link in /*) self=$link ;; *) self=$(dirname "$self")/$link ;; esac
done
tools=$(CDPATH='' cd -- "$(dirname -- "$self")" && pwd -P)
# shellcheck source-path=SCRIPTDIR source=lib/script.sh
. "$tools/lib/script.sh"
# shellcheck source-path=SCRIPTDIR source=lib/host.sh
. "$tools/lib/host.sh"

version=0.3.36
sha256=832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e

[ $# -le 1 ] || die 2 "too many arguments; --help tells what there is"
cache=${ZOSIA_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/zosia}/peer-$version
source=$cache/llama_cpp_python-$version/vendor/llama.cpp
# Made when all of the archive is unpacked: without it, that was cut short.
unpacked=$cache/llama_cpp_python-$version.unpacked
case ${1:-} in
    '') ;;
    --kept)
        [ -e "$unpacked" ] || die 3 "llama.cpp's source is not in $cache; tools/llama-source.sh fetches it"
        printf '%s\n' "$source"
        exit 0
        ;;
    --version) echo "$version" && exit 0 ;;
    -h | --help) usage && exit 0 ;;
    *) die 2 "unknown option $1; --help tells what there is" ;;
esac

mkdir -p "$cache"
lock "$cache/source" "fetching llama.cpp's source"
if [ ! -e "$unpacked" ]; then
    archive=$cache/llama_cpp_python-$version.tar.gz
    if [ ! -f "$archive" ]; then
        [ -x "$cache/pip/bin/pip" ] || show python3 -m venv "$cache/pip" >&2
        show "$cache/pip/bin/pip" download --quiet --disable-pip-version-check --no-deps \
            --no-binary llama-cpp-python --dest "$cache" "llama-cpp-python==$version" >&2 ||
            die 3 "llama-cpp-python $version cannot be fetched"
    fi
    [ "$(file_sha256 "$archive")" = "$sha256" ] ||
        die 4 "$archive is not the archive that was meant: its SHA-256 is not $sha256; delete it and try again"
    tar -xzf "$archive" -C "$cache"
    : >"$unpacked"
fi
unlock
printf '%s\n' "$source"
