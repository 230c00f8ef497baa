# shellcheck shell=sh
# Long steps: at a terminal one line that is replaced, with what is being done, how
# far it is and how long it may take; in a log a line at the start and one at the
# end. Sourced after script.sh.

step_pid='' step_log=''

# begin_step TEXT [COMMAND...]: COMMAND prints how far the step is, by its own
# measure; it may use step_seconds, how long the step has taken so far.
begin_step() {
    step_text=$1
    shift
    step_began=$(date +%s)
    if [ ! -t 2 ]; then
        say "$step_text"
        return 0
    fi
    # The lock and the guard's pipe are the script's alone.
    keep_showing "$@" 3>&- 7>&- 9>&- &
    step_pid=$!
}

keep_showing() {
    step_width=$(stty size <&2 2>/dev/null) || step_width=
    step_width=${step_width#* }
    # 0 where nobody knows.
    [ "${step_width:-0}" -gt 1 ] || step_width=80
    while kill -0 $$ 2>/dev/null; do
        step_seconds=$(($(date +%s) - step_began))
        step_line="$step_text: $(clock "$step_seconds")"
        [ $# = 0 ] || step_line="$step_line, $("$@")"
        # shellcheck disable=SC2059 # as not every printf has %.*s
        printf "\\r\\033[K%.$((step_width - 1))s" "$(visible "$step_line")" >&2
        sleep 1
    done
}

end_step() {
    hide_step
    say "$step_text: done after $(clock $(($(date +%s) - step_began)))"
}

# The line goes away, whatever comes next: also when the script ends.
hide_step() {
    [ -n "$step_pid" ] || return 0
    kill "$step_pid" 2>/dev/null || :
    wait "$step_pid" 2>/dev/null || :
    step_pid=''
    printf '\r\033[K' >&2
}

# step TEXT MEASURE COMMAND...: COMMAND as a step of its own, announced, with its output
# in step_log, whose end is shown if it fails. MEASURE, words that are a command or
# none, is run with that file as its last argument.
step() {
    step_log=$(mktemp "${TMPDIR:-/tmp}/zosia-log.XXXXXX")
    # shellcheck disable=SC2086 # words
    begin_step "$1" ${2:+$2 "$step_log"}
    shift 2
    announce "$@"
    step_status=0
    "$@" >"$step_log" 2>&1 || step_status=$?
    if [ "$step_status" = 0 ]; then
        end_step
    else
        hide_step
        # What apt tells for the measure is nothing for a reader.
        grep -v '^[dp][lm]status:' "$step_log" | tail -n 30 >&2
    fi
    rm -f "$step_log"
    step_log=''
    return "$step_status"
}

# For a script that has steps: its end, by a signal as well, leaves nothing of them.
clean_steps() {
    trap 'hide_step; [ -z "$step_log" ] || rm -f "$step_log"' EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
}

# SECONDS as minutes and seconds.
clock() { printf '%d:%02d\n' $(($1 / 60)) $(($1 % 60)); }

# How far a step is that has done DONE of TOTAL: a share, and the time that is left
# at the same speed; before there is one, what it USUALLY takes.
share_done() { # DONE TOTAL USUALLY
    awk -v done="$1" -v total="$2" -v usually="$3" -v seconds="$step_seconds" 'BEGIN {
        if (done > total) done = total
        share = done / total
        if (share < 0.03) printf "usually %s\n", usually
        else printf "%d %%, about %d:%02d left\n", share * 100, int(seconds * (1 / share - 1)) / 60, int(seconds * (1 / share - 1)) % 60
    }'
}

# By the lines of a build's LOG, of which there are TOTAL at its end.
lines_done() { # LOG TOTAL
    share_done "$(($(wc -l <"$1")))" "$2" "3 to 5 minutes"
}

# The same for a download to FILE, that had START bytes at first.
bytes_done() { # FILE START TOTAL
    bytes_now=0
    [ ! -f "$1" ] || bytes_now=$(file_bytes "$1")
    awk -v now="$bytes_now" -v start="$2" -v total="$3" -v seconds="$step_seconds" 'BEGIN {
        unit = total >= 1e9 ? 1e9 : 1e6
        printf "%.1f of %.1f %s", now / unit, total / unit, unit == 1e9 ? "GB" : "MB"
        if (seconds > 0 && now > start) {
            speed = (now - start) / seconds
            left = int((total - now) / speed)
            printf ", %.1f MB/s, about %d:%02d left", speed / 1e6, left / 60, left % 60
        }
        print ""
    }'
}
