#!/bin/sh
# Runs a static AArch64 program, and every child that it starts, in QEMU's user
# mode as one kind of processor.
#
# Usage: tools/vmtest/run-aarch64.sh CPU PROGRAM [ARGUMENT]...
#
# The engine is a child started from /proc/self/exe with an empty environment,
# so that neither "qemu-aarch64 PROGRAM" nor QEMU_CPU reaches it: the kernel has
# to know the interpreter, and the interpreter the processor. Since Linux 6.7
# this needs no privilege and changes nothing outside; before, it needs root,
# and the registration is taken back afterwards.
set -eu

# Where this file is, not a link to it.
self=$0
while link=$(readlink "$self"); do
    case $link in /*) self=$link ;; *) self=$(dirname "$self")/$link ;; esac
done
top=$(CDPATH='' cd -P "$(dirname "$self")/../.." && pwd -P)
# shellcheck source=tools/lib/script.sh
. "$top/tools/lib/script.sh"

formats=/proc/sys/fs/binfmt_misc

# The first twenty bytes of an ELF file: 64 bits, little-endian, an executable
# or a shared object, for machine 183. Left to printf by the kernel itself.
register() {
    # shellcheck disable=SC2028 # the kernel undoes the escapes
    echo ":$1:M::\\x7fELF\\x02\\x01\\x01\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x02\\x00\\xb7\\x00:\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\x00\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\xfe\\xff\\xff\\xff:$2:" >"$formats/register"
}

case ${1:-} in
    --inside)
        interpreter=$2
        shift 2
        mount -t binfmt_misc none "$formats"
        register zosia "$interpreter"
        exec "$@"
        ;;
esac

[ $# -ge 2 ] || die 125 "usage: run-aarch64.sh CPU PROGRAM [ARGUMENT]..."
cpu=$1
shift
qemu=$(command -v qemu-aarch64 || command -v qemu-aarch64-static) ||
    die 125 "there is no qemu-aarch64; Debian's package is qemu-user-static"
scratch=$(mktemp -d "${TMPDIR:-/tmp}/zosia-aarch64.XXXXXX")
registered=
clean_up() {
    [ -z "$registered" ] || echo -1 >"$formats/$registered" || :
    rm -rf "$scratch"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
interpreter=$scratch/interpreter
printf '#!/bin/sh\nexec %s -cpu %s "$@"\n' "$qemu" "$cpu" >"$interpreter"
chmod 755 "$scratch" "$interpreter"

inside="unshare --user --map-root-user --mount"
if $inside "$0" --inside "$interpreter" true 2>/dev/null; then
    $inside "$0" --inside "$interpreter" "$@"
else
    [ "$(id -u)" = 0 ] || die 125 "this kernel is older than 6.7: it takes root to run the engine in user mode"
    [ -e "$formats/register" ] || mount -t binfmt_misc none "$formats" ||
        die 125 "the kernel has no binfmt_misc"
    registered=zosia-$$
    register "$registered" "$interpreter"
    "$@"
fi
