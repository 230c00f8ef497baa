# shellcheck shell=sh
# Sourced. CMake's folders in the cache, which last longer than a checkout.

# use_cmake TARGET_DIR REMAP: what CMake reads after each project() is a copy of REMAP in
# the cache, so that a checkout goes on where another has been that is gone.
use_cmake() {
    CMAKE_PROJECT_INCLUDE=$1/remap.cmake
    export CMAKE_PROJECT_INCLUDE
    mkdir -p "$1"
    cmp -s "$2" "$CMAKE_PROJECT_INCLUDE" || {
        cp "$2" "$CMAKE_PROJECT_INCLUDE.new"
        mv "$CMAKE_PROJECT_INCLUDE.new" "$CMAKE_PROJECT_INCLUDE"
    }
    # A folder knows where it is and what it reads. In one that was moved, or whose file to
    # read is gone, CMake fails each time: it is made again.
    for made in "$1"/*/release/build/llama-cpp-sys-2-*/out/build/CMakeCache.txt; do
        [ -f "$made" ] || continue
        if [ "$(cmake_value CMAKE_CACHEFILE_DIR)" != "${made%/*}" ] ||
            [ ! -f "$(cmake_value CMAKE_PROJECT_INCLUDE)" ]; then
            rm -rf "${made%/out/build/*}"
        fi
    done
}

cmake_value() {
    sed -n "s/^$1:[A-Z]*=//p" "$made"
}
