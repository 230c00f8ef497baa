#!/bin/sh
# tools/test-build.sh
#
# tools/build.sh --container, with container tools that are not here: a directory
# of commands that answer as told and note what they were asked. What another Linux
# than Debian is told. And the image's recipe: what it copies is enough for
# tools/deps.sh to tell what is missing.

set -eu
# Where this file is, not a link to it.
self=$0
while link=$(readlink "$self"); do
    case $link in /*) self=$link ;; *) self=$(dirname "$self")/$link ;; esac
done
tools=$(CDPATH='' cd -- "$(dirname -- "$self")" && pwd -P)
work=$(mktemp -d "${TMPDIR:-/tmp}/zosia-test-build.XXXXXX")
trap 'rm -rf "$work"' EXIT

fail() {
    printf 'test-build.sh: %s\n' "$*" >&2
    cat "$work/err" >&2
    exit 1
}

# machine NAME=STATUS...: a PATH with these container tools; STATUS is what asking
# one for what it talks to ends with.
machine() {
    rm -rf "${work:?}/bin"
    mkdir "$work/bin"
    : >"$work/log"
    for command in dirname readlink sed uname; do
        ln -s "$(command -v "$command")" "$work/bin/$command"
    done
    for tool in "$@"; do
        cat >"$work/bin/${tool%=*}" <<EOF
#!/bin/sh
echo "\${0##*/} \$*" >>"$work/log"
case \$1 in info | system) exit ${tool#*=} ;; esac
EOF
        chmod +x "$work/bin/${tool%=*}"
    done
}

# builds STATUS: with tools/build.sh --container ending so.
builds() {
    status=0
    PATH=$work/bin /bin/sh "$tools/build.sh" --container >"$work/out" 2>"$work/err" || status=$?
    [ "$status" = "$1" ] || fail "status $status, not $1"
}

# asked COMMAND: that this is what a container tool was asked.
asked() {
    grep -Fq -- "$1" "$work/log" || fail "nothing was asked to: $1"
}

says() {
    grep -Fq -- "$1" "$work/err" || fail "not said: $1"
}

machine docker=0 podman=0
builds 0
asked "docker build --tag zosia-build --file tools/Containerfile ."
asked "docker run --rm --volume ${tools%/tools}:/zosia --volume zosia-cache:/cache --security-opt label=disable"
asked "chown -R --reference=. out; exit \$status sh tools/build.sh --arch aarch64"

machine docker=1 podman=0
builds 0
asked "podman run --rm"

machine container=0
builds 0
asked "container system status"
asked "container run --rm"

machine docker=1 podman=125
builds 1
says "nothing answers docker podman"

machine
builds 1
says "there is no docker, podman or container to build with"

# A Linux without apt cannot build the EFI file, and is told at once; the program alone it can.
machine
for command in id grep ls cat; do ln -s "$(command -v "$command")" "$work/bin/$command"; done
for group in build init; do
    status=0
    PATH=$work/bin ZOSIA_CACHE=$work/none HOME=$work/none /bin/sh "$tools/deps.sh" "$group" >"$work/out" 2>"$work/err" || status=$?
    [ "$status" = 1 ] || fail "status $status, not 1"
    says "this is not Debian; please install what provides:"
    case $group in
        build) says "the EFI file is built on Debian, whose package the kernel's source is: build in a container" ;;
        init) ! grep -q "the EFI file" "$work/err" || fail "the EFI file is told of" ;;
    esac
done

# With nothing to install, deps.sh is silent unless it misses a file of its own.
"$tools/deps.sh" build 2>/dev/null
sed -n 's/^COPY //p' "$tools/Containerfile" | while read -r from to; do
    mkdir -p "$work/image${to%/*}"
    cp "${tools%/tools}/$from" "$work/image$to"
done
: >"$work/log"
"$work/image/zosia/tools/deps.sh" build >"$work/err" 2>&1 || fail "deps.sh fails with the image's files"
[ ! -s "$work/err" ] || fail "deps.sh misses something of the image's files"

# cmake_folder NAME DIR INCLUDE: a folder of CMake's in the cache that thinks it is in
# DIR and reads INCLUDE.
cmake_folder() {
    built=$work/cache/$1/release/build/llama-cpp-sys-2-1/out/build
    mkdir -p "$built"
    printf 'CMAKE_PROJECT_INCLUDE:UNINITIALIZED=%s\nCMAKE_CACHEFILE_DIR:INTERNAL=%s\n' \
        "$3" "${2:-$built}" >"$built/CMakeCache.txt"
}

# stands NAME: whether it is still there.
stands() { [ -e "$work/cache/$1/release/build/llama-cpp-sys-2-1" ]; }

cmake_folder here "" "$tools/lib/remap.cmake"
cmake_folder moved "$work/elsewhere" "$tools/lib/remap.cmake"
cmake_folder orphaned "" "$work/gone/remap.cmake"
(
    # shellcheck source=tools/lib/cmake.sh
    . "$tools/lib/cmake.sh"
    use_cmake "$work/cache" "$tools/lib/remap.cmake"
    cmp "$tools/lib/remap.cmake" "$CMAKE_PROJECT_INCLUDE"
) >"$work/err" 2>&1 || fail "no file for CMake in the cache"
stands here || fail "a folder of CMake's that works was removed"
! stands moved || fail "a folder of CMake's that was moved was not removed"
! stands orphaned || fail "a folder of CMake's whose checkout is gone was not removed"

# Git for Windows, whose files WSL2 sees, leaves the ends of lines as they are.
if [ -e "${tools%/tools}/.git" ]; then
    git -c safe.directory='*' -c core.autocrlf=true -C "${tools%/tools}" archive HEAD tools/run.sh |
        tar -xO -f - >"$work/run.sh"
    ! grep -q "$(printf '\r')" "$work/run.sh" || fail "a checkout on Windows has other lines"
fi

echo "test-build.sh: all right"
