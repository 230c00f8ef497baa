# shellcheck shell=sh
# What the host is and has. Sourced after script.sh; everything here works with
# the tools of macOS, of Debian and of busybox.

# Prints the words so that a shell reads them back as they are.
quote() {
    quote_line=
    for quote_word in "$@"; do
        case $quote_word in
            '' | *[!A-Za-z0-9_./:=,+@%-]*)
                quote_word="'$(printf '%s\n' "$quote_word" | sed "s/'/'\\\\''/g")'"
                ;;
        esac
        quote_line="$quote_line${quote_line:+ }$quote_word"
    done
    printf '%s\n' "$quote_line"
}

# What of a kernel command line firmware does not pass on faithfully, anything
# but printable ASCII, becomes %XX, which the guest undoes in its own parameters.
percent_encode() {
    printf '%s' "$1" | od -An -v -tx1 | LC_ALL=C awk '
        function value(hex) { return index("0123456789abcdef", substr(hex, 1, 1)) * 16 + index("0123456789abcdef", substr(hex, 2)) - 17 }
        {
            for (i = 1; i <= NF; i++) {
                byte = value($i)
                if (byte < 32 || byte > 126) printf "%%%s", toupper($i)
                else printf "%c", byte
            }
        }
        END { print "" }'
}

# Whether the words are all whole numbers above zero.
are_counts() {
    for count_word in "$@"; do
        case $count_word in
            '' | *[!0-9]* | 0*) return 1 ;;
        esac
    done
}

# detect_host sets host_os (Darwin, Linux, ...), host_arch (arm64, x86_64, ...) and
# own_arch, the same as guests are named by it.
detect_host() {
    host_os=$(uname -s)
    host_arch=$(uname -m)
    [ "$host_arch" != aarch64 ] || host_arch=arm64
    # A shell under Rosetta calls an Apple Silicon Mac x86_64.
    if [ "$host_os" = Darwin ] && [ "$(sysctl -n hw.optional.arm64 2>/dev/null)" = 1 ]; then
        host_arch=arm64
    fi
    own_arch=$host_arch
    [ "$own_arch" != arm64 ] || own_arch=aarch64
}

# Whether guests run at the processor's own speed here, as far as can be told without
# trying.
host_accelerates() {
    case $host_os/$host_arch in
        Darwin/arm64) ;;
        Darwin/x86_64) [ "$(sysctl -n kern.hv_support 2>/dev/null)" = 1 ] ;;
        Linux/arm64 | Linux/x86_64) [ -w "${ZOSIA_KVM:-/dev/kvm}" ] ;;
        *) return 1 ;;
    esac
}

# Processors worth a thread: performance cores on Apple Silicon, otherwise
# physical cores, as a second thread of a core adds nothing to arithmetic.
host_cores() {
    if [ "$host_os" = Darwin ]; then
        cores=$(sysctl -n hw.perflevel0.physicalcpu 2>/dev/null) ||
            cores=$(sysctl -n hw.physicalcpu 2>/dev/null) || cores=
    else
        cores=$(lscpu -p=CORE,SOCKET 2>/dev/null | grep -v '^#' | sort -u | grep -c .) || cores=
        online=$(getconf _NPROCESSORS_ONLN 2>/dev/null) || online=
        # A container may be given fewer processors than the machine has cores.
        if ! are_counts "$cores" || { are_counts "$online" && [ "$online" -lt "$cores" ]; }; then
            cores=$online
        fi
    fi
    are_counts "$cores" || cores=1
    printf '%s\n' "$cores"
}

# RAM in MiB that this machine, or the container we are in, has.
host_ram_mib() {
    if [ "$host_os" = Darwin ]; then
        ram=$(sysctl -n hw.memsize) && printf '%s\n' $((ram / 1048576))
        return
    fi
    ram=$(awk '$1 == "MemTotal:" { print int($2 / 1024) }' "${ZOSIA_PROC:-/proc}/meminfo")
    if read -r ram_limit 2>/dev/null <"${ZOSIA_CGROUP:-/sys/fs/cgroup}/memory.max" &&
        are_counts "$ram_limit" && [ $((ram_limit / 1048576)) -lt "$ram" ]; then
        ram=$((ram_limit / 1048576))
    fi
    printf '%s\n' "$ram"
}

# Size of a file in bytes; of a block device on Linux too.
file_bytes() {
    if [ -b "$1" ] && have blockdev; then
        blockdev --getsize64 "$1"
    else
        # wc pads with blanks on macOS.
        wc -c <"$1" | tr -d ' '
    fi
}

file_sha256() {
    if have sha256sum; then
        sha256_line=$(sha256sum <"$1")
    elif have shasum; then
        sha256_line=$(shasum -a 256 <"$1")
    else
        sha256_line=$(openssl dgst -sha256 -r <"$1") ||
            die 3 "no tool for SHA-256 is here; install coreutils, perl or openssl"
    fi
    printf '%s\n' "${sha256_line%% *}"
}

# FILE as an absolute path; its directory must exist.
absolute() {
    case $1 in
        /*) printf '%s\n' "$1" ;;
        *) printf '%s/%s\n' "$(pwd -P)" "$1" ;;
    esac
}

# Bytes as people say them.
human_bytes() {
    awk -v bytes="$1" 'BEGIN {
        if (bytes >= 1e9) printf "%.1f GB\n", bytes / 1e9
        else printf "%.0f MB\n", bytes / 1e6
    }'
}
