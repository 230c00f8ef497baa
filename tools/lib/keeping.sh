# shellcheck shell=sh
# Where conversations are kept: the file that --session names, which the guest sees
# as a disk. Sourced by run.sh after the others; uses run.sh's variables.
# shellcheck disable=SC2154 # they are assigned there and in host.sh and qemu.sh

# What a session can grow to. The file is sparse: it takes what is in it.
keeping_mib=8192

# Whether the session is encrypted, or will be, as one of its two superblocks says: the
# second is at byte 12288.
is_encrypted() {
    [ -n "$encrypt" ] || head -c 16384 "$session_file" 2>/dev/null | LC_ALL=C grep -aq '"encryption"'
}

# Sets $session_file. A name is one in the user's data directory.
find_session() {
    case $session in
        */) die 2 "--session $session: not a file's name" ;;
        */*) session_file=$(absolute "$session") ;;
        .* | -* | '' | *[[:cntrl:]]*) die 2 "--session: a name has no control characters and does not begin with . or -; a path has a /" ;;
        *) session_file=$(data_directory)/$session.session ;;
    esac
    [ ! -e "$session_file" ] || [ -f "$session_file" ] || die 2 "--session: $session_file is not a file"
}

data_directory() {
    case $host_os in
        Darwin) printf '%s\n' "$HOME/Library/Application Support/zosia" ;;
        *) printf '%s\n' "${XDG_DATA_HOME:-$HOME/.local/share}/zosia" ;;
    esac
}

# Nobody but the user may read it, from the beginning. dd makes a file that is all
# hole: BSD has no other tool for it.
make_session() {
    if [ -e "$session_file" ]; then
        [ -n "$dry_run" ] || grow_session
        return 0
    fi
    if [ -n "$dry_run" ]; then
        say "would make the session $session_file"
        return 0
    fi
    (
        umask 077
        mkdir -p "${session_file%/*}" && set -C && : >"$session_file" && {
            dd if=/dev/null of="$session_file" bs=1048576 seek="$keeping_mib" count=0 2>/dev/null ||
                { rm -f "$session_file" && false; }
        }
    ) || die 3 "the session $session_file cannot be made; is its directory writable, and are files of $keeping_mib MiB allowed there?"
    say "made the session $session_file"
}

# One that the plain command made is as large as what is in it, one whose making was
# interrupted is empty, and a guest's disk does not grow. dd keeps what is before the hole.
grow_session() {
    [ ! -s "$session_file" ] || [ "$(head -c 8 "$session_file" | LC_ALL=C tr -d '\000')" = zosiases ] || return 0
    [ "$(file_bytes "$session_file")" -lt $((keeping_mib * 1048576)) ] || return 0
    dd if=/dev/null of="$session_file" bs=1048576 seek="$keeping_mib" count=0 2>/dev/null ||
        die 3 "the session $session_file cannot grow; is it writable, and are files of $keeping_mib MiB allowed there?"
}

# On a Mac two kinds of machine may have the file, and vfkit neither says whose it is nor
# asks. One lock for both, whatever is installed there, and held by no descriptor.
lock_session() {
    if [ -z "$session" ] || [ -n "$dry_run" ] || [ "$host_os" != Darwin ]; then return 0; fi
    lock_by_link "$session_file" "using this session" refuse
}

# Another machine, or the plain command, has it: QEMU's own lock says so.
session_is_in_use() {
    [ -n "$session" ] && grep -q 'Failed to get .* lock' "$scratch/qemu.log"
}
