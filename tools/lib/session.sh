# shellcheck shell=sh
# A session with the guest: its files, its terminal, its processes, its end.
# Sourced by run.sh after the others; uses run.sh's variables.
# shellcheck disable=SC2154 # they are assigned there and in host.sh and qemu.sh

scratch=''
terminal=''
children=''
machine_pid=''

# One private directory for everything of this run, gone with it. mktemp lets
# nobody else in, so that the files in it need no umask but the user's own.
open_scratch() {
    scratch=$(mktemp -d "${TMPDIR:-/tmp}/zosia.XXXXXX")
    trap close_session EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 131' QUIT
    trap 'exit 143' TERM
    mkfifo "$scratch/guard"
    guard_session <"$scratch/guard" &
    guard=$!
    exec 7>"$scratch/guard"
}

# Cleans up after a script that was killed: then its end of the pipe closes. Lines
# tell what there is to clean up: the machine's process, the terminal, its settings.
guard_session() {
    # Not the terminal's signals, and not that for writing to it from behind.
    trap '' HUP INT QUIT TERM TSTP TTOU
    trap - EXIT
    while read -r guard_name guard_value; do
        case $guard_name in
            machine) machine_pid=$guard_value ;;
            tty) exec 3<>"$guard_value" ;;
            terminal) terminal=$guard_value ;;
            done) exit 0 ;;
        esac
    done
    end_machine
    restore_terminal
    rm -rf "$scratch"
}

# Ends the machine, also one that was suspended, and returns when it is gone: what it
# still writes to the terminal comes before that is put in order.
end_machine() {
    [ -n "$machine_pid" ] || return 0
    kill -TERM "$machine_pid" 2>/dev/null || return 0
    kill -CONT "$machine_pid" 2>/dev/null || :
    ends_within 20 "$machine_pid" || kill -KILL "$machine_pid" 2>/dev/null || :
}

machine_ended() {
    machine_pid=''
    tell_guard machine
}

tell_guard() { (echo "$*" >&7) 2>/dev/null || :; }

# The one way out: whatever happened, no child stays, the terminal is as it
# was, and the status is the one that was asked for.
close_session() {
    session_status=$?
    trap - EXIT
    trap '' HUP INT QUIT TERM TSTP
    hide_step
    for child in $children; do
        kill "$child" 2>/dev/null || :
    done
    end_machine
    restore_terminal
    rm -rf "$scratch"
    unlock
    tell_guard "done"
    exec 7>&-
    wait "$guard" 2>/dev/null || :
    exit "$session_status"
}

# The terminal as descriptor 3, opened once more where it can be: that nothing waits
# for it is a flag of the opening, which else stays with the user's shell.
save_terminal() {
    tty_name=$(tty) || tty_name=
    if [ -r "$tty_name" ] && [ -w "$tty_name" ]; then
        exec 3<>"$tty_name"
        tell_guard "tty $tty_name"
    else
        exec 3<&0
    fi
    terminal=$(stty -g <&3 2>/dev/null) || terminal=''
    tell_guard "terminal $terminal"
}

# Also what the guest may have switched on by escape sequences: bracketed
# paste, attributes, a hidden cursor, no line wrap.
restore_terminal() {
    [ -n "$terminal" ] || return 0
    reset_terminal
    terminal=''
}

reset_terminal() {
    stty "$terminal" <&3 || :
    [ ! -t 1 ] || printf '\033[?2004l\033[0m\033[?25h\033[?7h'
}

# The machine stops with the script, and the terminal is the shell's meanwhile. QEMU
# makes it raw again when it goes on; bracketed paste is the guest's wish.
suspend() {
    kill -STOP "$machine_pid"
    reset_terminal
    kill -STOP $$
    printf '\033[?2004h'
    kill -CONT "$machine_pid"
}

# Sets session_status when the machine has ended: signals end a wait as well.
wait_for_machine() {
    while :; do
        session_status=0
        wait "$machine_pid" 2>/dev/null || session_status=$?
        if [ "$session_status" -le 128 ] || ! kill -0 "$machine_pid" 2>/dev/null; then return 0; fi
    done
}

# Whether the EFI file is built on this machine: its kernel's source is a package of
# Debian's, which apt fetches, or who has no apt has fetched. Elsewhere a container does it.
builds_efi() {
    [ "$host_os" = Linux ] || return 1
    have apt-get || [ -f "${ZOSIA_KERNEL_SOURCE:-}" ] || [ -f "${efi_store%/*}/kernel/$(sed -n 's/^sha256=//p' "$top/kernel/source" 2>/dev/null).deb" ]
}

has_containers() { have docker || have podman || have container; }

# Ends, before anything is fetched, where there is no way to an EFI file.
require_efi() {
    if builds_efi || [ -n "$dry_run$(release_pin version)" ] || has_containers; then return 0; fi
    if [ -f "$top/out/$efi_name" ] || find_made_efi "$(sources_key)" "$top/out/$efi_name"; then return 0; fi
    [ "$host_os" != Linux ] ||
        die 3 "there is no EFI file here yet, and it is built on Debian or in a container: install podman or docker; or do without a virtual machine: $0 --native; or have it built elsewhere (tools/build.sh --arch $arch), and give it: --efi FILE"
    efi_tools=podman
    [ "$vmm" != qemu ] || have "${ZOSIA_QEMU:-$qemu_name}" || efi_tools="qemu podman"
    die 3 "there is no EFI file here yet: brew install $efi_tools && podman machine init --now; or have it built on Linux (tools/build.sh --arch $arch), and give it: --efi FILE"
}

# Builds the EFI file where there is none that was made from these sources. A machine that
# cannot, as a Mac, takes that of the release, or from the container build; what it has,
# it keeps.
provide_efi() {
    efi_key=$(sources_key)
    if find_made_efi "$efi_key" "$efi"; then return 0; fi
    if [ -f "$efi" ]; then
        if ! builds_efi; then
            [ ! -f "$efi.sources" ] ||
                say "out/$efi_name was made from other sources than are here; to rebuild it: tools/build.sh --arch $arch --container"
            return 0
        fi
        efi_why="what is there was made from other sources"
    else
        efi_why="it does not exist"
        if ! builds_efi && fetch_release; then return 0; fi
    fi
    if [ -n "$dry_run" ]; then
        say "would build out/$efi_name: $efi_why"
        return 0
    fi
    say "building out/$efi_name: $efi_why"
    choose_build_top "$efi"
    [ -n "$build_top" ] || return 0
    if builds_efi; then
        show "$build_top/tools/build.sh" --arch "$arch" >&2 || die 3 "the build failed; see above, or build elsewhere and use --efi FILE"
    elif has_containers; then
        show "$build_top/tools/build.sh" --arch "$arch" --container >&2 || die 3 "the build in a container failed; see above"
    elif [ "$host_os" = Linux ]; then
        die 3 "$efi_name $release_version cannot be fetched from $release_url, and building it takes a container tool; check the network, or install podman or docker"
    else
        die 3 "$efi_name $release_version cannot be fetched from $release_url, and building it takes a container tool; check the network, or: brew install podman && podman machine init --now"
    fi
    # What was built in a container is kept in that one's store.
    { builds_efi && [ "$build_top" = "$top" ]; } || keep_efi "$efi_key" "$build_top/out/${efi##*/}"
    unlock
    find_made_efi "$efi_key" "$efi" || [ -f "$efi" ] || die 3 "the build left no $efi"
}

# Sets build_top, where to build FILE, which leaves files there: in a copy of all, if these
# are a package's. That copy is one process's at a time, until it unlocks it, when what was
# built is kept; build_top is empty, and efi set, if another has built FILE meanwhile.
choose_build_top() { # FILE
    build_top=$top
    if [ -w "$top" ] && ! grep -q '^package=.' "$top/installed" 2>/dev/null; then return 0; fi
    build_top=${efi_store%/*}/sources/$efi_key
    mkdir -p "${efi_store%/*}"
    lock "${build_top%/*}" "building ${1##*/}"
    if find_made_efi "$efi_key" "$1"; then
        build_top=''
        unlock
        return 0
    fi
    rm -rf "${build_top%/*}"
    mkdir -p "$build_top"
    cp -R "$top/." "$build_top"
    chmod -R u+w "$build_top"
}

# The EFI file of the release that this tree names, as $efi: whole and checked,
# or not at all. Fails if there is no release, or it cannot be reached.
fetch_release() {
    release_version=$(release_pin version)
    release_url=$(release_pin "url$suffix")
    [ -n "$release_version" ] && [ -n "$release_url" ] || return 1
    release_file=${ZOSIA_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/zosia}/release/$release_version/$efi_name
    if [ ! -f "$release_file" ]; then
        if [ -n "$dry_run" ]; then
            say "would fetch $efi_name $release_version to $release_file"
        else
            fetch_release_file || return 1
        fi
    fi
    efi=$release_file
}

fetch_release_file() {
    mkdir -p "${release_file%/*}"
    lock "$release_file" "fetching $efi_name $release_version"
    if [ -f "$release_file" ]; then
        unlock
        return 0
    fi
    begin_step "fetching $efi_name $release_version"
    if ! transfer "$release_url" -C - -o "$release_file.part"; then
        hide_step
        unlock
        return 1
    fi
    release_got=$(file_sha256 "$release_file.part")
    release_wanted=$(release_pin "sha256$suffix")
    if [ "$release_got" != "$release_wanted" ]; then
        rm -f "$release_file.part"
        die 3 "what was fetched as $efi_name $release_version has SHA-256 $release_got, not $release_wanted, and was removed; try again"
    fi
    mv "$release_file.part" "$release_file"
    end_step
    unlock
}

release_pin() { sed -n "s/^$1=//p" "${ZOSIA_RELEASE:-$tools/release}"; }

# What the guest reads from its port: a length in bytes, a newline and the
# prompt, after "terminal" if the answer is shown at one.
write_frame() {
    frame_head=''
    if [ -z "$json" ] && [ -t 1 ]; then frame_head='terminal '; fi
    if [ "$prompt" = - ]; then
        [ ! -t 0 ] || say "type the message; Ctrl-D on a line of its own ends it"
        read_standard_input
        prompt=$standard_input
        case $prompt in *[![:space:]]*) ;; *) die 1 "standard input is empty: nothing to answer [ZE-61]" ;; esac
    elif [ -p /dev/stdin ] || [ -f /dev/stdin ]; then
        say "reading context from standard input (to give none: < /dev/null)"
        read_standard_input
        [ -z "$standard_input" ] || prompt=$(printf '%s\n\n%s' "$standard_input" "$prompt")
    fi
    printf '%s' "$prompt" >"$scratch/prompt"
    frame_bytes=$(file_bytes "$scratch/prompt")
    [ "$frame_bytes" -le 67108864 ] || die 2 "the prompt has $frame_bytes bytes; 67108864 is the most"
    { printf '%s%s\n' "$frame_head" "$frame_bytes" && cat "$scratch/prompt"; } >"$scratch/frame"
}

# The lines of a batch as descriptor 6, standard output where the results go, and
# $batch_head: "batch", a line that says that there are no more, which nobody else
# knows, how many results are kept, and "terminal" if progress is shown at one.
open_batch() {
    case $batch in
        -) exec 6<&0 ;;
        *) exec 6<"$batch" ;;
    esac
    kept=0
    if [ -n "$output" ]; then
        [ ! -e "$output" ] || [ -n "$resume" ] || die 2 "$output is there already; --resume goes on with it, or remove it"
        [ ! -e "$output" ] || keep_results
        (: >>"$output") 2>/dev/null || die 2 "--output: $output cannot be written"
        exec >>"$output"
    fi
    batch_head="batch ${scratch##*/} $kept"
    if [ -t 2 ] && [ ! -t 1 ]; then batch_head="$batch_head terminal"; fi
}

# Of the results that there are, those up to the last that was answered: what is behind
# it (lines that failed, one that is torn) is cut off and done again.
keep_results() {
    complete=$(wc -l <"$output")
    kept=$(LC_ALL=C awk -v complete="$complete" '
        { begun = substr("{\"answered\":", 1, NR > complete ? length($0) : 12) }
        index($0, begun) != 1 { other = NR; exit }
        NR > complete { exit }
        index($0, "{\"answered\":true") == 1 { kept = NR }
        END { print other ? "other " other : kept + 0 }' "$output")
    case $kept in
        other*) die 2 "$output cannot be used: its line ${kept#other } is not a result of a batch; --output names the file of results" ;;
    esac
    LC_ALL=C awk -v kept="$kept" 'NR > kept { exit } { print }' "$output" >"$output.part"
    mv "$output.part" "$output"
}

# Sends the order when the guest has asked for it, as read_turn_port tells. The line that
# ends a batch is sent however its lines end: the guest would wait for it.
send_order() {
    asked=$(cat "$scratch/asked")
    [ -n "$asked" ] || return 0
    if [ "$turn" = batch ]; then
        printf '%s\n' "$batch_head"
        cat <&6 || : >"$scratch/unread"
        printf '\n%s\n' "${scratch##*/}"
    else
        cat "$scratch/frame"
    fi >"$scratch/turn.in"
}

# All of standard input, as $standard_input. A shell's variable loses zero bytes, so
# that they are looked for before; whatever else is not text, the guest refuses.
read_standard_input() {
    cat >"$scratch/input" 2>/dev/null || : # it is closed
    input_bytes=$(file_bytes "$scratch/input")
    [ "$(LC_ALL=C tr -d '\000' <"$scratch/input" | wc -c)" -eq "$input_bytes" ] ||
        die 1 "standard input is not UTF-8 text: it has zero bytes, as UTF-16 has, which iconv -f UTF-16 -t UTF-8 converts [ZE-61]"
    standard_input=$(cat "$scratch/input")
}

# QEMU's control channel tells how the guest ended: its exit status does not.
open_control() {
    mkfifo "$scratch/control.in"
    : >"$scratch/control.out"
    exec 4<>"$scratch/control.in"
    echo '{"execute":"qmp_capabilities"}' >&4
}

how_it_ended() { sed -n 's/.*"SHUTDOWN".*"reason": "\([a-z-]*\)".*/\1/p' "$scratch/control.out" | tail -n 1; }

# Whether --log can be written to. What is refused afterwards leaves no file; a pipe is
# opened once only.
check_log() {
    if [ -p "$log" ]; then return 0; fi
    log_is_new=''
    [ -e "$log" ] || [ -L "$log" ] || log_is_new=1
    (: >>"$log") 2>/dev/null || die 2 "--log: $log cannot be written"
    [ -z "$log_is_new" ] || rm -f "$log"
}

# Sets console_out, where QEMU writes what its console shows, and console_log, where it
# is kept. These are one file, but for a --log that is none: /dev/stderr is another one to
# QEMU than to the user. That is descriptor 9, and QEMU gets a pipe.
choose_console_log() {
    console_log=$scratch/console.log
    console_out=$console_log
    case $log in
        '') return 0 ;;
        /dev/std* | /dev/fd/* | /proc/*/fd/*) ;;
        *)
            if [ ! -e "$log" ] || [ -f "$log" ]; then
                console_log=$(absolute "$log")
                console_out=$console_log
                return 0
            fi
            ;;
    esac
    console_out=$scratch/console
    [ -z "$dry_run" ] || return 0
    case $log in
        /dev/stdout) exec 9>&1 ;;
        /dev/stderr) exec 9>&2 ;;
        *) exec 9>>"$log" ;;
    esac
}

# What copies from that pipe, of which the shell holds the writing end as descriptor 9
# until QEMU has it.
open_log() {
    logger=''
    [ "$console_out" != "$console_log" ] || return 0
    mkfifo "$console_out"
    tee "$console_log" <"$console_out" >&9 4>&- 5>&- 6<&- 7>&- 8>&- 9>&- &
    logger=$!
    children="$children $logger"
    exec 9>"$console_out"
}

# All of it has been copied.
close_log() {
    [ -z "$logger" ] || wait "$logger" 2>/dev/null || :
    logger=''
}

# The last lines of a console that has not been shown, without escape sequences, for a
# failure's report.
console_tail() {
    if [ -z "$turn" ] || [ ! -s "$console_log" ]; then return 0; fi
    echo "--- the end of the guest's console ---" >&2
    escape=$(printf '\033')
    tail -n 30 "$console_log" | LC_ALL=C sed "s/$escape\[[0-9;?=]*[A-Za-z]//g" | LC_ALL=C tr -d '\000-\010\013-\037' >&2
    echo "---" >&2
}

# report_end QEMU_STATUS: returns if the guest switched itself off or the user
# ended it; otherwise says what happened and exits.
report_end() {
    restore_terminal
    case $(how_it_ended) in
        guest-shutdown | host-qmp-quit | host-ui) return 0 ;;
        guest-reset | guest-panic)
            console_tail
            die 5 "the guest crashed; the end of its console is above, --log FILE keeps all of it [ZE-63]"
            ;;
        host-signal) die 6 "QEMU was ended by a signal [ZE-64]" ;;
    esac
    if [ "$1" -gt 128 ]; then
        console_tail
        die 6 "QEMU was killed by signal $(($1 - 128)) [ZE-64]"
    fi
    ! session_is_in_use || die 6 "the session $session_file is in use by another machine or command; end that first, or give another --session [ZE-72]"
    end_line=$(grep . "$scratch/qemu.log" | tail -n 1)
    end_line=${end_line#*"$qemu_name": }
    die 6 "QEMU $qemu_version ended with status $1: ${end_line:-it gave no reason} [ZE-64]"
}

# QEMU in the background and the shell in wait, so that a signal to the shell
# is heard at once; the terminal goes along as descriptor 3. The shell holds
# the writing end of the saves until QEMU has it.
run_interactive() {
    open_control
    save_terminal
    mkfifo "$scratch/save.in" "$scratch/save.out"
    : >"$scratch/saves.log"
    # By exec, as a shell keeps a copy of what is closed for a function alone.
    {
        exec 7>&-
        keep_transcripts "$transcripts" "$scratch"
    } <"$scratch/save.out" 6<>"$scratch/save.in" 2>"$scratch/saves.log" &
    keeper=$!
    children=$keeper
    exec 5>"$scratch/save.out"
    open_log
    if [ -t 3 ] && [ -t 1 ]; then exec 8>&3; else exec 8>&1; fi
    "$qemu" "$@" <&3 >&8 2>"$scratch/qemu.log" 3<&- 4>&- 7>&- 8>&- &
    machine_pid=$!
    exec 8>&- 9>&-
    tell_guard "machine $machine_pid"
    trap suspend TSTP
    exec 5>&-
    wait_for_machine
    trap '' TSTP
    machine_ended
    # Answers that the guest no longer reads must not hold the keeper up.
    cat <>"$scratch/save.in" >/dev/null 7>&- &
    children="$keeper $logger $!"
    wait "$keeper" 2>/dev/null || :
    # A signal that the child of a shell gets before it has forgotten its parent's traps is
    # lost: but not this one.
    kill -KILL "$!" 2>/dev/null || :
    wait "$!" 2>/dev/null || :
    close_log
    children=''
    restore_terminal
    # Not before: the terminal was the guest's.
    while IFS= read -r unsaved; do say "$unsaved"; done <"$scratch/saves.log"
    report_end "$session_status"
}

# What comes on the turn's port, for the command that is given. Before all else the guest
# asks for its order by one byte (ENQ): there are firmwares whose driver reads the port
# until the kernel does, and what was sent before then is lost.
read_turn_port() {
    dd bs=1 count=1 >"$scratch/asked" 2>/dev/null
    exec "$@"
}

# One boot that answers. What is streamed to standard output is the answer's
# port, or the results' when JSON is asked for; the other goes nowhere or into
# a file; of a batch it tells how far it is. The shell holds the writing ends of
# streams until QEMU has them, so that the readers end exactly when QEMU does,
# even one that fails to start.
run_turn() {
    open_control
    mkfifo "$scratch/turn.in" "$scratch/turn.out" "$scratch/asked"
    if [ "$turn" = batch ]; then
        read_turn_port tee "$scratch/streamed" <"$scratch/turn.out" >&2 6<&- 7>&- &
    elif [ -n "$json" ]; then
        read_turn_port cat <"$scratch/turn.out" >/dev/null 7>&- &
    else
        read_turn_port tee "$scratch/streamed" <"$scratch/turn.out" 7>&- &
    fi
    teller=$!
    children=$teller
    exec 8>"$scratch/turn.out"
    if [ -z "$json" ] && [ "$turn" != batch ]; then
        : >"$scratch/result"
        results=$scratch/result
        reader=$teller
    else
        mkfifo "$scratch/result"
        if [ "$turn" = batch ]; then
            cat <"$scratch/result" 6<&- 7>&- 8>&- &
        else
            tee "$scratch/streamed" <"$scratch/result" 7>&- 8>&- &
            results=$scratch/streamed
        fi
        reader=$!
        children="$children $reader"
        exec 5>"$scratch/result"
    fi
    open_log
    "$qemu" "$@" </dev/null >/dev/null 2>"$scratch/qemu.log" 4>&- 6<&- 7>&- &
    machine_pid=$!
    tell_guard "machine $machine_pid"
    exec 5>&- 8>&- 9>&-
    send_order 2>/dev/null 7>&- &
    children="$children $!"
    exec 6<&-

    reader_status=0
    wait "$reader" || reader_status=$?
    # Nobody reads the answer any more, as in `run.sh -p … | head -1`.
    [ "$reader_status" = 0 ] || kill "$machine_pid" 2>/dev/null || :
    session_status=0
    wait "$machine_pid" 2>/dev/null || session_status=$?
    machine_ended
    close_log
    [ "$reader_status" = 0 ] || die 1 "standard output did not take all of the answer [ZE-61]"
    if [ "$turn" = batch ]; then
        wait "$teller" 2>/dev/null || :
        report_end "$session_status"
        report_batch
        return 0
    fi
    # A terminal's next prompt begins on a line of its own.
    [ ! -t 1 ] || [ -z "$(tail -c 1 "$scratch/streamed")" ] || echo

    report_end "$session_status"
    report_results
}

# Status 0 only if the last that was told is that every prompt was answered.
report_batch() {
    told=$(tr '\r' '\n' <"$scratch/streamed" | sed -n 's/.*zosia: \([0-9]*\) of \([0-9]*\) prompts were answered.*/\1 \2/p' | tail -n 1)
    case $told in
        '')
            console_tail
            die 1 "not answered: the guest powered off without a result [ZE-63]"
            ;;
    esac
    [ "$batch" != - ] || batch="standard input"
    [ ! -e "$scratch/unread" ] || die 1 "--batch: $batch could not be read to its end; the lines up to there were asked"
    [ "${told% *}" = "${told#* }" ] || exit 1
}

# Status 0 only if the turn's result says that it was answered.
report_results() {
    ! grep -q '"answered": *true' "$results" || return 0
    reason=$(sed -n -E 's/.*"error": *"(([^"\\]|\\.)*)".*/\1/p' "$results" | tail -n 1 | sed 's/\\\(["\\/]\)/\1/g')
    case $reason in "not kept: "*) die 1 "$reason" ;; esac
    [ -z "$reason" ] || die 1 "not answered: $reason"
    console_tail
    die 1 "not answered: the guest powered off without a result [ZE-63]"
}
