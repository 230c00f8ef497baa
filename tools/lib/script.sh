# shellcheck shell=sh
# What every script here has: its messages, its help, its locks. Sourced first.
# Works with the tools of macOS, of Debian and of busybox.

program=${0##*/}

# Some services and containers give no HOME: then it is what the system has.
if [ -z "${HOME:-}" ]; then
    HOME=$(eval "printf '%s\n' ~$(id -un)")
    export HOME
fi

# Prints the text as one line that does nothing to a terminal: what a file's
# name or a program's error may hold of control characters is spelled out, and
# other text is left alone. The C1 controls are two bytes in UTF-8.
visible() {
    case $1 in
        *[[:cntrl:]]* | *"$c1_lead"*) ;;
        *)
            printf '%s\n' "$1"
            return
            ;;
    esac
    printf '%s' "$1" | od -An -v -tx1 | LC_ALL=C awk '
        function value(hex) { return index("0123456789abcdef", substr(hex, 1, 1)) * 16 + index("0123456789abcdef", substr(hex, 2)) - 17 }
        { for (i = 1; i <= NF; i++) bytes[++n] = value($i) }
        END {
            for (i = 1; i <= n; i++) {
                byte = bytes[i]
                if (byte == 10) printf "\\n"
                else if (byte == 9) printf "\\t"
                else if (byte < 32 || byte == 127) printf "\\x%02x", byte
                else if (byte == 194 && i < n && bytes[i + 1] >= 128 && bytes[i + 1] < 160) printf "\\x%02x", bytes[++i]
                else printf "%c", byte
            }
            print ""
        }'
}
c1_lead=$(printf '\302')

# What is opened next must not get the number of a closed standard error.
(: 3>&2) || exec 2>/dev/null

# Messages go to standard error: standard output belongs to the answer.
# One that takes nothing does not change what is done, nor the status.
# A step that is being shown (progress.sh) gives way to them.
say() {
    [ -z "${step_pid:-}" ] || printf '\r\033[K' >&2
    printf '%s: %s\n' "$program" "$(visible "$*")" >&2 2>/dev/null || :
}

# die STATUS MESSAGE: one message, its remedy in it, and out.
die() {
    die_status=$1
    shift
    [ -z "${step_pid:-}" ] || hide_step
    say "$*"
    exit "$die_status"
}

# show COMMAND...: runs what takes long or changes the machine, visibly.
show() {
    announce "$@"
    "$@"
}

announce() {
    [ -z "${step_pid:-}" ] || printf '\r\033[K' >&2
    printf '+ %s\n' "$(visible "$*")" >&2
}

have() { command -v "$1" >/dev/null 2>&1; }

# The comment that the script begins with. Who has installed zosia knows the scripts
# by another name.
usage() {
    if [ "$program" = zosia ] || [ -f "${tools:-}/../installed" ]; then
        sed -n '1d;/^#/!q;s/^# \{0,1\}//;s|tools/run\.sh|zosia|g;s|tools/model\.sh|zosia models|g;p' "$0"
    else
        sed -n '1d;/^#/!q;s/^# \{0,1\}//;p' "$0"
    fi
}

# lock PATH DOING [refuse]: from here to unlock, or the end of this script, only
# one process DOES that; another waits, or is refused. PATH is that of what the
# lock guards, in a directory that exists. One lock at a time.
lock() {
    lock_link=
    if have flock; then
        # Programs started meanwhile hold it too: a download outlives its script.
        exec 9>"$1.lock"
        flock -n 9 || {
            [ -z "${3:-}" ] || die 6 "another process is $2: ${1##*/} [ZE-72]"
            say "waiting for another process, which is $2"
            flock 9
        }
        return 0
    fi
    # As on macOS.
    lock_by_link "$@"
}

# The same without flock: a link that names the process that holds it.
lock_by_link() {
    lock_told=
    lock_lost=0
    until ln -s $$ "$1.pid" 2>/dev/null; do
        if ! lock_owner=$(readlink "$1.pid"); then
            # Given back this moment, or it cannot be made at all.
            lock_lost=$((lock_lost + 1))
            [ "$lock_lost" -lt 9 ] || die 3 "$1.pid cannot be made; is the directory writable?"
        elif ! is_running "$lock_owner" && mkdir "$1.stale" 2>/dev/null; then
            # Left behind. Of several that see it, one takes it away, and only
            # if no other has done so and holds it by now.
            [ "$(readlink "$1.pid")" != "$lock_owner" ] || rm -f "$1.pid"
            rmdir "$1.stale"
        else
            [ -z "${3:-}" ] || die 6 "process $lock_owner is $2: ${1##*/} (if it is another program, remove $1.pid) [ZE-72]"
            [ -n "$lock_told" ] || say "waiting for process $lock_owner, which is $2 (if it is another program, remove $1.pid)"
            lock_told=1
            sleep 1
        fi
    done
    lock_link=$1.pid
}

unlock() {
    exec 9>&-
    [ -z "${lock_link:-}" ] || rm -f "$lock_link"
    lock_link=
}

# Whether there is a process of this number, anybody's.
is_running() { kill -0 "$1" 2>/dev/null || ps -p "$1" >/dev/null 2>&1; }

# ends_within TENTHS PID: whether a process of the user's ends in so many tenths of a
# second.
ends_within() {
    tenths=$1
    while kill -0 "$2" 2>/dev/null; do
        [ "$tenths" -gt 0 ] || return 1
        tenths=$((tenths - 1))
        # Fractions are not POSIX, yet every sleep at hand takes them.
        sleep 0.1 2>/dev/null || sleep 1
    done
}
