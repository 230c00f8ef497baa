#!/bin/sh
# A host that the test describes: this file, linked under the name of a
# command, behaves as that command does there. Tools that exist everywhere are
# passed on to the real ones after a look at their flags: on a Mac they take
# BSD's only, and a violation is written to $FAKE_VIOLATIONS, which fails the
# test. Every fake command also leaves a line in $FAKE_LOG.
#
# FAKE_OS, FAKE_ARCH  what uname says
# FAKE_SYSCTL         file of "key: value" lines
# FAKE_QEMU           version, or "broken"
# FAKE_RUNS           accel:cpu pairs that run a guest; a pair with "hang:"
#                     before it never returns, one with "old:" has no AVX2
# FAKE_GUEST          how the guest behaves: answers, refuses, silent, saves,
#                     saves-again, floods, panics, killed, waits, kills-TERM,
#                     kills-KILL, fails
# FAKE_FULL           a file: while it exists, tee finds the disk full
# FAKE_VFKIT          what vfkit says of its version
# FAKE_CLONES         "no": a file's clone cannot be made
# FAKE_BLOCKED        a file that the guest removes after its first save
# FAKE_CURL           ok, unreachable, breaks-once, breaks, wrong; real: the
#                     host's own
# FAKE_CURL_DATA      the file that curl downloads
# FAKE_OUT            where build.sh makes its files
# FAKE_PATH           PATH to the real tools

set -eu
name=${0##*/}
PATH=$FAKE_PATH

violation() {
    printf '%s %s: %s\n' "$name" "$arguments" "$1" >>"$FAKE_VIOLATIONS"
    exit 64
}

# Flags that the Mac's tool lacks, or understands otherwise.
refuse_gnu() {
    [ "$FAKE_OS" = Darwin ] || return 0
    for word in "$@"; do
        case $name:$word in
            *:--) ;;
            *:--*) violation "a GNU long option" ;;
            sed:-i* | sed:-r | sed:-z | sed:-s) violation "a GNU flag" ;;
            grep:-P | grep:-[a-zA-Z]*P | date:-[dIR]* | cp:-a | ln:-r | mktemp:-p | mktemp:-t) violation "a GNU flag" ;;
            head:-c-* | head:-n-* | head:-[0-9]* | wc:-L | sort:-[zh] | find:-printf | find:-regextype) violation "a GNU flag" ;;
            sed:*'\|'* | sed:*'\+'* | sed:*'\?'* | sed:*'\s'* | sed:*'\w'* | sed:*'\b'* | sed:*'\t'*) violation "a GNU regular expression" ;;
            grep:*'\|'* | grep:*'\+'* | grep:*'\?'* | grep:*'\s'* | grep:*'\w'*) violation "a GNU regular expression" ;;
        esac
    done
}

# The file of the chardev with this id, if it has one.
chardev_path() {
    for word in "$@"; do
        case $word in
            *,id="$chardev_id",*=/*) printf '%s\n' "$word" | sed 's/,logappend=off$//; s/.*,[a-z]*=\//\//; s/,,/,/g' ;;
        esac
    done
}

end_guest() {
    printf '{"timestamp": {"seconds": 1}, "event": "SHUTDOWN", "data": {"guest": true, "reason": "%s"}}\n' "$1" >>"$control.out"
}

run_qemu() {
    accel='' cpu='' kernel='' bios=''
    previous=''
    for word in "$@"; do
        case $previous in
            -accel) accel=$word ;;
            -cpu) cpu=$word ;;
            -kernel) kernel=$word ;;
            -bios) bios=$word ;;
        esac
        case $word in if=none,id=texts,*) cp "${word##*,file=}" "$FAKE_LOG.texts" ;; esac
        previous=$word
    done
    probed=$kernel$bios
    if [ "${probed##*/}" = probe.bin ]; then
        # The probe itself is checked: the code of "PSCI, switch off", or what a PC
        # begins with.
        case $name in
            *-aarch64) want=000180d20080b0f2020000d400000014 status=0 ;;
            *) want=e99dff00000000000000000000000000 status=87 ;;
        esac
        [ "$(tail -c 16 "$probed" | od -An -tx1 | tr -d ' \n')" = "$want" ] ||
            violation "the probe is not the code that ends the machine"
        case " ${FAKE_RUNS:-} " in
            *" hang:$accel:$cpu "*) exec sleep 60 ;;
            *" old:$accel:$cpu "*) exit 85 ;;
            *" $accel:$cpu "*) exit "$status" ;;
        esac
        case $accel in
            hvf) echo "$name: Property 'host-arm-cpu.sme' not found" >&2 ;;
            kvm) echo "$name: -accel kvm: failed to initialize kvm: Permission denied" >&2 ;;
        esac
        exit 1
    fi

    chardev_id=control control=$(chardev_path "$@")
    read -r greeting <"$control.in"
    [ "$greeting" = '{"execute":"qmp_capabilities"}' ] || violation "the control channel says $greeting"
    chardev_id=console console=$(chardev_path "$@")
    chardev_id=turn turn=$(chardev_path "$@")
    chardev_id=result result=$(chardev_path "$@")
    if [ -n "$turn" ]; then
        # What comes before the guest asks is lost with some firmwares.
        exec 6<>"$turn.in"
        early=$(dd if="$turn.in" iflag=nonblock bs=1 count=1 2>/dev/null) || :
        [ -z "$early" ] || violation "the order comes before it is asked for"
        exec 4>"$turn.out"
        printf '\005' >&4
        read -r head <&6
        exec 7<"$turn.in" 6>&-
        cat <&7 >"$FAKE_LOG.prompt"
        printf '%s\n' "$head" >"$FAKE_LOG.head"
    fi
    case ${FAKE_GUEST:-answers} in
        answers)
            case ${head:-} in
                batch*)
                    last=${head#batch } skip=${head#batch * } answered=0 lines=0
                    last=${last%% *} skip=${skip%% *}
                    [ "$(tail -n 1 "$FAKE_LOG.prompt")" = "$last" ] || violation "the batch ends without $last"
                    exec 9>"$result"
                    while read -r line && [ "$line" != "$last" ]; do
                        case $line in ?*) ;; *) continue ;; esac
                        if [ "$skip" -gt 0 ]; then
                            skip=$((skip - 1))
                            continue
                        fi
                        lines=$((lines + 1))
                        case $line in
                            *prompt*)
                                answered=$((answered + 1))
                                printf '%s\n' '{"answered":true,"stop":"end_of_turn","text":"a \"answered\":true\n"}' >&9
                                ;;
                            *) echo '{"answered":false,"error":"line 2: expected \"prompt\"","text":""}' >&9 ;;
                        esac
                    done <"$FAKE_LOG.prompt"
                    exec 9>&-
                    printf '\r\033[Kzosia: %s of %s prompts were answered in 1 s, 1.0 tokens/s\n' "$answered" "$lines" >&4
                    ;;
                ?*)
                    printf 'Paris is the capital.\n' >&4
                    printf '%s\n' '{"answered":true,"stop":"end_of_turn","text":"Paris is the capital.\n"}' >"$result"
                    ;;
            esac
            end_guest guest-shutdown
            ;;
        refuses)
            printf 'half an answ' >&4
            echo '{"answered":false,"error":"the file \"model\" is cut","text":"\"answered\":true"}' >"$result"
            end_guest guest-shutdown
            ;;
        saves)
            # A host that answers each; the last is cut off with the machine.
            chardev_id=save save=$(chardev_path "$@")
            exec 7>"$save.out" 8<"$save.in"
            for transcript in 'save 1 7 a talk.md
one
two' 'this is noise
' 'save 2 9 a talk.md
żółć
' 'save 3 1 ../tools/run.sh
x' 'save 4 0 empty
'; do
                printf '%s' "$transcript" >&7
                IFS= read -r answer <&8
                printf '%s\n' "$answer" >>"$FAKE_LOG.answers"
            done
            printf 'save 5 9 cut.md\nhalf' >&7
            exec 7>&- 8<&-
            end_guest guest-shutdown
            ;;
        saves-again)
            chardev_id=save save=$(chardev_path "$@")
            exec 7<>"$save.out" 8<>"$save.in"
            for transcript in 'save 1 1 first.md
x' 'save 2 1 second.md
x'; do
                printf '%s' "$transcript" >&7
                IFS= read -r answer <&8
                printf '%s\n' "$answer" >>"$FAKE_LOG.answers"
                for hindrance in "$FAKE_FULL" "$FAKE_BLOCKED"; do
                    [ ! -f "$hindrance" ] || rm "$hindrance"
                done
            done
            end_guest guest-shutdown
            ;;
        floods)
            # More answers than a pipe holds, of which none is read.
            chardev_id=save save=$(chardev_path "$@")
            exec 7<>"$save.out" 8<>"$save.in"
            awk 'BEGIN { for (id = 1; id <= 2000; id++) print "save " id " 0 a name that is refused/" }' >&7
            end_guest guest-shutdown
            ;;
        silent) end_guest guest-shutdown ;;
        measures)
            echo '{"zosia":"0.1.0"}'
            end_guest guest-shutdown
            ;;
        panics)
            [ -z "$console" ] || printf '\033[31m[    1.0] Kernel panic - not syncing: Attempted to kill init!\n' >"$console"
            end_guest guest-reset
            ;;
        killed) kill -9 $$ ;;
        waits)
            printf 'and so on\n' >&4
            exec sleep 60
            ;;
        kills-*)
            # Kills what runs it, and ends when that has begun to wait for it, or is gone.
            waits=$(grep -c '^sleep' "$FAKE_LOG") || :
            trap 'ends=1' TERM
            kill -"${FAKE_GUEST#kills-}" "$PPID"
            while [ -z "${ends:-}" ] || { [ -e "$control.in" ] && [ "$(grep -c '^sleep' "$FAKE_LOG")" = "$waits" ]; }; do
                sleep 0.01
            done
            echo "the guest's last words"
            ;;
        locked)
            echo 'qemu-system-aarch64: -device virtio-blk-device,drive=session: Failed to get "write" lock' >&2
            echo 'Is another process using the image [/x]?' >&2
            exit 1
            ;;
        fails)
            echo "$name: Could not open '/x': No such file or directory" >&2
            exit 1
            ;;
    esac
}

# Options as vfkit documents them. Without a terminal the real one crashes.
run_vfkit() {
    [ -t 0 ] || violation "standard input is no terminal"
    previous=''
    for word in "$@"; do
        case $previous,$word in
            --device,virtio-blk,path=*,deviceId=*)
                disk=${word#*path=}
                [ $(($(wc -c <"${disk%%,*}") % 512)) = 0 ] || violation "$disk is not of whole sectors"
                ;;
            --device,virtio-serial,stdio) ;;
            --bootloader,linux,kernel=/*,cmdline=*) ;;
            --cpus,[1-9]* | --memory,[1-9]* | --log-level,error | --restful-uri,none://) ;;
            *,--device | *,--bootloader | *,--cpus | *,--memory | *,--log-level | *,--restful-uri) ;;
            *) violation "an option that vfkit does not have: $previous $word" ;;
        esac
        # The longest serial number of a virtio disk.
        case $word in
            *,deviceId=*)
                serial=${word##*,deviceId=}
                [ "${#serial}" -le 20 ] || violation "the serial number $serial is too long"
                ;;
        esac
        previous=$word
    done
    case ${FAKE_GUEST:-answers} in
        fails)
            echo 'time="2026-01-01T00:00:00Z" level=error msg="hypervisor virtualization error"' >&2
            exit 1
            ;;
    esac
}

run_curl() {
    cat >/dev/null # its configuration
    case $FAKE_CURL in
        unreachable)
            printf 'curl: (6) Could not resolve host\n\n000'
            exit 6
            ;;
    esac
    output='' resume=''
    while [ $# -gt 0 ]; do
        case $1 in
            -o) output=$2 && shift ;;
            -C) resume=1 && shift ;;
            --connect-timeout) shift ;;
            -K | -D | --stderr)
                [ "$2" = - ] || violation "not standard input or output"
                shift
                ;;
            -w) shift ;;
            -f | -L | -sS | https://*) ;;
            *) violation "an option that the fake does not know" ;;
        esac
        shift
    done
    [ -n "$resume" ] || violation "the download cannot be resumed"
    have=0
    [ ! -f "$output" ] || have=$(wc -c <"$output")
    whole=$(wc -c <"$FAKE_CURL_DATA")
    printf 'HTTP/1.1 200 OK\r\n\r\n\n200'
    case $FAKE_CURL in
        ok) tail -c +$((have + 1)) "$FAKE_CURL_DATA" >>"$output" ;;
        wrong) head -c "$whole" /dev/zero >"$output" ;;
        breaks-once)
            if [ "$have" = 0 ]; then
                head -c $((whole / 2)) "$FAKE_CURL_DATA" >"$output"
                exit 18
            fi
            tail -c +$((have + 1)) "$FAKE_CURL_DATA" >>"$output"
            ;;
        breaks)
            [ "$have" != 0 ] || head -c $((whole / 2)) "$FAKE_CURL_DATA" >"$output"
            exit 18
            ;;
    esac
}

arguments=$*
case $name in
    uname | sysctl | sw_vers | brew | apt-get | stty | sleep | qemu-system-* | curl | shasum | vfkit | podman | build.sh | deps.sh)
        printf '%s %s\n' "$name" "$*" >>"$FAKE_LOG"
        ;;
    *) refuse_gnu "$@" ;;
esac
case $name in
    uname)
        case $* in
            -s) echo "$FAKE_OS" ;;
            -m) echo "$FAKE_ARCH" ;;
            *) violation "neither -s nor -m" ;;
        esac
        ;;
    sysctl)
        if [ $# != 2 ] || [ "$1" != -n ]; then violation "not sysctl -n KEY"; fi
        sed -n "s/^$2: //p" "$FAKE_SYSCTL" | grep . || {
            echo "sysctl: unknown oid '$2'" >&2
            exit 1
        }
        ;;
    sw_vers) echo 15.5 ;;
    brew | apt-get) ;;
    stty)
        # A Mac's stty -g is one word of fields and only that is taken back.
        case $* in
            size) echo "40 100" ;;
            -g) echo "gfmt1:cflag=4b00:iflag=6b02" ;;
            gfmt1:*) ;;
            "raw opost -echo isig intr ^] quit undef susp undef") ;;
            *) violation "not -g, size, what -g gave or words that BSD's stty has" ;;
        esac
        ;;
    shasum)
        [ "${1:-} ${2:-}" = "-a 256" ] || violation "not shasum -a 256"
        shift 2
        sha256sum "$@"
        ;;
    lscpu)
        # Four cores of two threads.
        printf '# CPU\n0,0\n0,0\n1,0\n1,0\n2,0\n2,0\n3,0\n3,0\n'
        ;;
    getconf) echo 8 ;;
    sleep)
        # Nothing on this host is worth the whole wait.
        case $1 in
            0.1) exec sleep 0.01 ;;
            *) exec sleep 0.1 ;;
        esac
        ;;
    qemu-system-*)
        if [ "$*" = --version ]; then
            if [ "$FAKE_QEMU" = broken ]; then
                echo "dyld[123]: Library not loaded: /opt/homebrew/opt/gnutls/lib/libgnutls.30.dylib" >&2
                exit 134
            fi
            echo "QEMU emulator version $FAKE_QEMU"
            exit 0
        fi
        run_qemu "$@"
        ;;
    curl) if [ "$FAKE_CURL" = real ]; then exec curl "$@"; else run_curl "$@"; fi ;;
    vfkit) if [ "$*" = --version ]; then echo "${FAKE_VFKIT-vfkit version: v0.6.1}"; else run_vfkit "$@"; fi ;;
    podman) ;;
    cp)
        if [ "$FAKE_OS$1" = Darwin-c ]; then
            [ "${FAKE_CLONES:-}" != no ] || exit 1
            shift
        fi
        exec cp "$@"
        ;;
    tee)
        if [ -e "${FAKE_FULL:-}" ]; then
            case $* in
                *.part)
                    cat
                    echo "tee: $2: No space left on device" >&2
                    exit 1
                    ;;
            esac
        fi
        exec tee "$@"
        ;;
    build.sh)
        echo "building" # on standard output, where only the answer belongs
        sleep 0.1
        case $* in
            *"--arch x86_64"*) made=$FAKE_OUT/zosia-x86_64.efi ;;
            *) made=$FAKE_OUT/zosia.efi ;;
        esac
        mkdir -p "$FAKE_OUT"
        : >"$made"
        echo new >"$made.sources"
        ;;
    *) exec "$name" "$@" ;;
esac
