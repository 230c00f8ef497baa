#!/bin/sh
# tools/run.sh [OPTION...] [MODEL]
#
# Boots zosia at this terminal. MODEL is a .gguf file (of a model in parts the first,
# NAME-00001-of-0000N.gguf, with the others beside it), a disk image, or a name
# that tools/model.sh list shows: of the catalogue, or ollama:…, hf:…, lms:… for
# what other programs have here; hf:OWNER/REPO[:QUANT] is fetched if it is not.
# Without MODEL it is the largest here that this machine runs well; with none here
# the largest such of the catalogue is fetched, which a person is asked about, or
# where that cannot be reached, smollm2-135m.
# Inside: /help, /exit or Ctrl-D. From outside: Ctrl-] x ends QEMU, Ctrl-] vfkit.
#
#   -p TEXT          one turn: only the answer on standard output, all else on
#                    standard error. -p - reads TEXT from standard input; a
#                    file or pipe on standard input is context before TEXT;
#                    where standard input or output is not a terminal, -p - is meant
#   --               MODEL comes next, whatever it begins with
#   --json           with -p: one JSON object (text, tokens, timings, stop)
#   --batch FILE     answer every line of FILE, JSON objects with "prompt", in
#                    one boot; one JSON object a line on standard output, in
#                    their order. --batch - takes lines from standard input as
#                    they come
#   --output FILE    with --batch: the results go to this new file
#   --resume         with --output: go on behind the last answer of that file
#   --parallel N     prompts of a batch answered side by side, 1 to 8
#                    (default: what memory allows)
#   --session NAME   keep conversations, in the user's data directory, or in the
#                    file NAME if it has a /; made on first use. Without it
#                    nothing is kept: amnesic is the default
#   --encrypt        with a new --session: the guest asks for a passphrase
#   --attach FILE    a text file, or a directory's text files, for /read at the prompt;
#                    with -p and --batch before every prompt; repeatable
#   --draft-model NAME  a small model of the same family, called as MODEL is: it
#                    guesses ahead, the answers are the same
#   --threads N      threads of the engine     (default: what gives the most)
#   --smp N          processors of the guest   (default: --threads, or the
#                    host's performance or physical cores)
#   --mem SIZE       RAM of the guest, MiB or with G (default: by the model)
#   --arch NAME      the guest's: aarch64, x86_64 (default: this machine's own
#                    where it runs guests of it, else what is emulated faster)
#   --accel NAME     hvf, kvm or tcg           (default: what runs a guest)
#   --cpu NAME       QEMU's -cpu               (default: host; tcg neoverse-n1
#                    or Nehalem,+rdrand)
#   --native         no virtual machine: the same program as a command here
#   --no-firmware    start the kernel without UEFI firmware
#   --append TEXT    more kernel parameters, such as 'zosia.temp=0'; repeatable
#   --efi FILE       boot this EFI file, not one in out/, and build nothing
#   --log FILE       keep the console's log
#   --vmm NAME       qemu, or vfkit on macOS   (default: qemu)
#   --dry-run        print the command, start and fetch nothing
#   --uninstall      alone: take an installation back (tools/install.sh)
#
# As the first word, models is tools/model.sh: models list, models get NAME and so
# on; models alone lists them.
#
# Environment: ZOSIA_CACHE, ZOSIA_MODELS (directories), ZOSIA_QEMU,
# ZOSIA_FIRMWARE, ZOSIA_NATIVE (files), HF_TOKEN, HF_ENDPOINT.
#
# Exit status: 0 the session ended by power-off or Ctrl-] x, or -p was answered
# (--batch: every line that it took); 1 not answered, the reason is on standard error; 2 wrong
# usage; 3 something is missing on this machine; 4 no usable model; 5 the guest
# crashed; 6 QEMU or vfkit failed or was killed, or the session is in use; 129,
# 130, 131, 143 hangup, Ctrl-C, SIGQUIT, SIGTERM.

set -eu
# Where this file is, not a link to it.
self=$0
while link=$(readlink "$self"); do
    case $link in /*) self=$link ;; *) self=$(dirname "$self")/$link ;; esac
done
tools=$(CDPATH='' cd -- "$(dirname -- "$self")" && pwd -P)
top=${tools%/*}
# shellcheck source-path=SCRIPTDIR source=lib/script.sh
. "$tools/lib/script.sh"
transcripts=$top/transcripts
[ ! -f "$top/installed" ] || transcripts=${XDG_DATA_HOME:-$HOME/.local/share}/zosia/transcripts
# shellcheck source-path=SCRIPTDIR source=lib/host.sh
. "$tools/lib/host.sh"
# shellcheck source-path=SCRIPTDIR source=lib/qemu.sh
. "$tools/lib/qemu.sh"
# shellcheck source-path=SCRIPTDIR source=lib/catalogue.sh
. "$tools/lib/catalogue.sh"
# shellcheck source-path=SCRIPTDIR source=lib/sources.sh
. "$tools/lib/sources.sh"
# shellcheck source-path=SCRIPTDIR source=lib/transcripts.sh
. "$tools/lib/transcripts.sh"
# shellcheck source-path=SCRIPTDIR source=lib/texts.sh
. "$tools/lib/texts.sh"
# shellcheck source-path=SCRIPTDIR source=lib/session.sh
. "$tools/lib/session.sh"
# shellcheck source-path=SCRIPTDIR source=lib/keeping.sh
. "$tools/lib/keeping.sh"
# shellcheck source-path=SCRIPTDIR source=lib/vfkit.sh
. "$tools/lib/vfkit.sh"
# shellcheck source-path=SCRIPTDIR source=lib/native.sh
. "$tools/lib/native.sh"

case ${1:-} in
    models)
        shift
        [ $# -gt 0 ] || set -- list
        exec "$tools/model.sh" "$@"
        ;;
    --uninstall) exec "$tools/install.sh" --uninstall ;;
esac

usage_error() { die 2 "$* (tools/run.sh --help)"; }

model='' draft_model='' prompt='' turn='' json='' batch='' output='' resume='' parallel='' session='' encrypt='' attach='' threads='' smp='' mem='' accel_wanted='' cpu_wanted=''
firmware_wanted=1 append='' efi='' log='' vmm=qemu dry_run='' arch_wanted='' native_wanted=''
while [ $# -gt 0 ]; do
    case $1 in
        --*=*)
            option=$1
            shift
            set -- "${option%%=*}" "${option#*=}" "$@"
            ;;
    esac
    case $1 in
        -p | --batch | --output | --parallel | --session | --attach | --draft-model | --threads | --smp | --mem | --accel | --cpu | --arch | --append | --efi | --log | --vmm)
            [ $# -ge 2 ] || usage_error "$1 needs a value"
            ;;
    esac
    case $1 in
        -h | --help) usage && exit 0 ;;
        -p) turn=text prompt=$2 && shift ;;
        --json) json=1 ;;
        --batch) turn=batch batch=$2 && shift ;;
        --output) output=$2 && shift ;;
        --resume) resume=1 ;;
        --parallel) parallel=$2 && shift ;;
        --session)
            [ -n "$2" ] || usage_error "--session needs a name"
            session=$2 && shift
            ;;
        --encrypt) encrypt=1 ;;
        --attach) attach="$attach $(quote "$2")" && shift ;;
        --draft-model) draft_model=$2 && shift ;;
        --threads) threads=$2 && shift ;;
        --smp) smp=$2 && shift ;;
        --mem) mem=$2 && shift ;;
        --arch) arch_wanted=$2 && shift ;;
        --native) native_wanted=1 ;;
        --accel) accel_wanted=$2 && shift ;;
        --cpu) cpu_wanted=$2 && shift ;;
        --no-firmware) firmware_wanted='' ;;
        --append) append="$append $(percent_encode "$2")" && shift ;;
        --efi) efi=$2 && shift ;;
        --log) log=$2 && shift ;;
        --vmm) vmm=$2 && shift ;;
        --dry-run) dry_run=1 ;;
        --)
            [ $# -eq 2 ] || usage_error "-- needs one MODEL behind it"
            [ -z "$model" ] || usage_error "more than one MODEL: $model and $2"
            model=$2
            shift
            ;;
        # As the plain command has them.
        --[a-z]*) usage_error "unknown option $1; a parameter goes behind --append, as 'zosia.$(printf %s "${1#--}" | tr - _)=VALUE' (a file of that name: -- $1)" ;;
        -*) usage_error "unknown option $1 (a file of that name: -- $1)" ;;
        *)
            [ -z "$model" ] || usage_error "more than one MODEL: $model and $1"
            model=$1
            ;;
    esac
    shift
done

case $mem in
    *[Gg]) mem=${mem%[Gg]} && are_counts "$mem" && mem=$((mem * 1024)) ;;
    *[Mm]) mem=${mem%[Mm]} ;;
esac
are_counts "${threads:-1}" || usage_error "--threads $threads: not a whole number above 0"
are_counts "${smp:-1}" || usage_error "--smp $smp: not a whole number above 0"
are_counts "${mem:-1}" || usage_error "--mem: not a size such as 4096 or 4G"
case $parallel in '' | [1-8]) ;; *) usage_error "--parallel $parallel: not a number from 1 to 8" ;; esac
case $accel_wanted in '' | auto) accel_wanted='' ;; hvf | kvm | tcg) ;; *) usage_error "--accel $accel_wanted: not hvf, kvm or tcg" ;; esac
case $arch_wanted in '' | aarch64 | x86_64) ;; *) usage_error "--arch $arch_wanted: not aarch64 or x86_64" ;; esac
case $vmm in qemu | vfkit) ;; *) usage_error "--vmm $vmm: not qemu or vfkit" ;; esac
[ -z "$encrypt" ] || [ -n "$session" ] || usage_error "--encrypt goes with --session"
[ -z "$session" ] || [ "$turn" != batch ] || usage_error "--batch keeps no conversation: leave out --session"
# What is not typed at a terminal, or not read at one, is one turn, if the machine talks.
case " $append" in
    *" zosia.mode="* | *" rdinit="*) ;;
    *)
        if [ -z "$turn$dry_run" ] && [ "$vmm" = qemu ] && ! { [ -t 0 ] && [ -t 1 ]; }; then
            turn=text prompt=-
        fi
        ;;
esac
[ -z "$json" ] || [ "$turn" = text ] || usage_error "--json goes with -p"
case $turn:$prompt in text:*[![:space:]]*) ;; text:*) usage_error "-p needs a text that is not empty" ;; esac
[ "$turn" = batch ] || [ -z "$output$resume$parallel" ] || usage_error "--output, --resume and --parallel go with --batch"
[ -z "$resume" ] || [ -n "$output" ] || usage_error "--resume goes with --output FILE"
case $turn:$batch in
    # Not opened by its name, which on Linux begins at the beginning, and fails for a socket.
    batch:- | batch:/dev/stdin)
        batch=-
        (: 6<&0) 2>/dev/null || die 2 "--batch: standard input cannot be read"
        ;;
    batch:*)
        [ -r "$batch" ] || die 2 "--batch: $batch cannot be read"
        [ ! -d "$batch" ] || die 2 "--batch: $batch is a directory; name a file, with one JSON object a line"
        ;;
esac
if [ "$vmm" = vfkit ]; then
    [ -z "$turn" ] || usage_error "-p and --batch need --vmm qemu"
    [ "$accel_wanted$cpu_wanted$log$firmware_wanted" = 1 ] ||
        usage_error "--accel, --cpu, --no-firmware and --log are for --vmm qemu"
fi

if [ -n "$native_wanted" ]; then
    [ "$arch_wanted$accel_wanted$cpu_wanted$efi$log$smp$mem$firmware_wanted$vmm" = 1qemu ] ||
        usage_error "--native has no machine: --arch, --accel, --cpu, --efi, --log, --smp, --mem, --no-firmware and --vmm are for one"
fi
[ -z "$log" ] || [ -n "$dry_run" ] || check_log

# What is opened next would get its number, and the answer.
(: 3>&1) 2>/dev/null || die 1 "standard output is closed: there is nowhere to write to [ZE-61]"
detect_host
[ -z "$session" ] || find_session
if [ -n "$native_wanted" ]; then
    [ "$host_os" = Linux ] || die 3 "--native: the program runs on Linux only"
else
    open_scratch
    [ -z "$attach" ] || eval "attach_texts $attach"
fi

# The model that find_model found is fetched, or where its site cannot be reached
# and nobody named it, a much smaller one.
provide_model() {
    if [ -z "$model_source" ] || model_is_here; then return 0; fi
    if [ -n "$dry_run" ]; then
        say "would fetch $model_name ($(human_bytes $((model_bytes + rest_bytes)))) to $model_file"
        return 0
    fi
    ! fetch_model || return 0
    [ -z "$named" ] || die 4 "$model_name cannot be fetched from ${model_source%%!*}; see what is here: $tools/model.sh list"
    say "$model_name cannot be reached from here; going on with smollm2-135m, a much smaller model"
    find_model smollm2-135m
    ram_need=$(model_ram_mib "$model_bytes" "$ctx")
    model_is_here || fetch_model ||
        die 4 "smollm2-135m cannot be fetched either; give a .gguf file: tools/run.sh FILE"
}

# Another model beside it: what find_model says of it is draft_*.
find_draft() {
    find_model "$draft_model"
    draft_file=$model_file draft_rest=$model_rest draft_bytes=$((model_bytes + rest_bytes))
    if [ -f "$draft_file" ] && [ "$(head -c 4 "$draft_file" | tr -d '\0')" != GGUF ]; then
        die 4 "--draft-model takes a .gguf file, and $draft_file is none"
    fi
}

# In a subshell, where nothing of what it sets is the model's.
provide_draft() (
    named=$draft_model
    find_model "$draft_model"
    provide_model
)

# --- the model: refused before anything is installed, fetched or built ----------

if [ -n "$efi" ] && [ -r "$efi" ] && ! efi_arch=$(arch_of_efi "$efi"); then
    die 3 "--efi: $efi is no EFI file for AArch64 or x86_64"
fi
for_machine "${arch_wanted:-${efi_arch:-$(default_arch)}}"
[ "${efi_arch:-$arch}" = "$arch" ] || die 2 "--efi: $efi is for $efi_arch, and --arch says $arch"
[ -n "$efi$native_wanted" ] || require_efi
named=$model
[ -n "$model" ] || choose_default
draft_file='' draft_rest='' draft_bytes=0
[ -z "$draft_model" ] || find_draft
find_model "$model"
case " $append" in
    *\ zosia.ctx=*) ctx=${append##* zosia.ctx=} && ctx=${ctx%% *} ;;
    *) ctx=4096 ;;
esac
are_counts "$ctx" || ctx=4096
ram_need=$(model_ram_mib $((model_bytes + rest_bytes)) "$ctx")
# Of what a guest needs for everything else, a second model takes no more.
[ -z "$draft_model" ] || ram_need=$((ram_need + $(model_ram_mib "$draft_bytes" "$ctx") - 512))
[ -n "$mem$native_wanted" ] || require_ram "$model_name" "$ram_need" ", or set --mem"

# --- the machine ----------------------------------------------------------------

if [ -n "$native_wanted" ]; then
    provide_native
    [ -z "$draft_model" ] || provide_draft
    provide_model
    run_native
fi
if [ "$vmm" = qemu ]; then
    provide_qemu
    if ! find_accel "$accel_wanted" "$cpu_wanted"; then
        case $accel_wanted in
            '' | tcg)
                # Nothing runs this machine's own, and another is emulated faster.
                if [ "$arch" != "${arch_wanted:-${efi_arch:-$emulated_arch}}" ] && [ -z "$cpu_wanted" ]; then
                    for_machine "$emulated_arch"
                    [ -n "$efi" ] || require_efi
                    provide_qemu
                fi
                emulate
                ;;
            *) die 3 "--accel $accel_wanted: $why_slow" ;;
        esac
    fi
else
    [ "$host_os/$host_arch" = Darwin/arm64 ] || die 3 "vfkit is for Macs with Apple Silicon; elsewhere: --vmm qemu"
    have vfkit || [ -n "$dry_run" ] || die 3 "vfkit is not installed: brew install vfkit"
    [ -n "$dry_run" ] || require_vfkit
    # It takes the terminal's settings, and does not check whether there is one.
    [ -t 0 ] || [ -n "$dry_run" ] || die 2 "--vmm vfkit talks at a terminal only, and standard input is none"
fi

[ -z "$draft_model" ] || provide_draft
provide_model

# As much again for weights copied into the processor's favourite layout, if
# that leaves the host a quarter; the guest takes what it uses, not what it may.
if [ -z "$mem" ]; then
    mem=$((ram_need + (model_bytes + rest_bytes) / 1048576))
    [ "$mem" -le $(($(host_ram_mib) * 3 / 4)) ] || mem=$ram_need
    mem=$(((mem + 127) / 128 * 128))
fi
smp=${smp:-${threads:-$(host_cores)}}
if [ "$vmm" = qemu ] && [ "$accel" = hvf ] && [ "$mem" -gt 63488 ] && qemu_older_than 9 2; then
    die 3 "QEMU $qemu_version gives a guest on this Mac at most 63488 MiB and $model_name is to have $mem; upgrade it: brew upgrade qemu"
fi

# --- the EFI file ---------------------------------------------------------------

if [ -z "$efi" ]; then
    efi=$top/out/$efi_name
    provide_efi
elif [ ! -r "$efi" ] && [ -z "$dry_run" ]; then
    die 3 "--efi: $efi cannot be read"
fi
efi=$(absolute "$efi")

# A model's disk, quoted for a shell: through the host's page cache, where a second start
# finds it, and which the host may drop, as it is never written.
qemu_disk() { # ID FILE SERIAL
    printf ' %s' "$(quote \
        -drive "if=none,id=$1,format=raw,readonly=on,cache=writeback,aio=threads,file=$(qemu_value "$2")" \
        -device "virtio-blk-$bus,drive=$1,serial=$3")"
}

# The other parts of a model as disks.
part_disks() { # VMM ID FILE...
    part_vmm=$1 part_id=$2
    shift 2
    part=1
    for part_file in "$@"; do
        part=$((part + 1))
        "${part_vmm}_disk" "$part_id$part" "$part_file" "zosia-$(rest_length "$part_file")"
    done
}

# The parts behind the model's first file, and the draft model, which the guest knows by
# its serial number.
more_disks() { # VMM
    eval "part_disks $1 model $model_rest"
    [ -n "$draft_model" ] || return 0
    "$1_disk" draft "$draft_file" zosia-draft
    eval "part_disks $1 draft $draft_rest"
}

# In a dry run it may not be here.
rest_length() { if [ -f "$1" ]; then file_bytes "$1"; else echo 0; fi; }

# --- the command ----------------------------------------------------------------

# Kernel lines below KERN_ALERT stay off the console: PID 1 says what matters.
# quiet also silences the EFI stub. A panic reboots, which ends QEMU; in vfkit
# it would begin again, so there it stays in sight.
if [ "$vmm" = vfkit ]; then console=hvc0 panic=0; else console=$serial panic=-1; fi
parameters="console=$console quiet loglevel=2 panic=$panic"
if [ -z "$turn" ] && [ -t 0 ] && tty_size=$(stty size 2>/dev/null) && [ "${tty_size% *}" != 0 ]; then
    parameters="$parameters zosia.cols=${tty_size#* } zosia.rows=${tty_size% *}"
fi
# The guest cannot know what the terminal here shows, or what its user likes.
if [ -z "$turn" ] && [ -t 0 ] && { [ "${TERM:-dumb}" = dumb ] || [ -n "${NO_COLOR:-}" ]; }; then
    parameters="$parameters zosia.color=off"
fi
# One turn: the prompt comes over its port, however long it is.
[ -z "$turn" ] || parameters="$parameters zosia.prompt=-"
[ -z "$parallel" ] || parameters="$parameters zosia.parallel=$parallel"
[ -z "$threads" ] || parameters="$parameters zosia.threads=$threads"
[ -z "$draft_model" ] || parameters="$parameters zosia.draft_model=zosia-draft"
[ -z "$model_sha256" ] || parameters="$parameters zosia.sha256=$model_sha256"
[ -z "$session" ] || parameters="$parameters zosia.session=on"
# What is encrypted on the disk stays nowhere in the machine when it is off.
[ -z "$session" ] || ! is_encrypted || parameters="$parameters init_on_free=1"
[ -z "$encrypt" ] || parameters="$parameters zosia.encrypt=on"
own_parameters=$parameters$model_append
parameters=$own_parameters$model_system$append
parameters_bytes=$(printf %s "$parameters" | wc -c | tr -d ' ')
# A PC's kernel has 50 bytes of its own before them.
if [ "$arch" = x86_64 ]; then parameters_max=1997; else parameters_max=2047; fi
if [ "$parameters_bytes" -gt "$parameters_max" ] && [ -n "$model_system" ]; then
    say "the model's system prompt is left out, as with it the parameters take $parameters_bytes bytes and the kernel keeps $parameters_max; /system TEXT sets one at the prompt, and --native takes any"
    parameters=$own_parameters$append
    parameters_bytes=$(printf %s "$parameters" | wc -c | tr -d ' ')
fi
[ "$parameters_bytes" -le "$parameters_max" ] ||
    die 2 "the parameters take $parameters_bytes bytes and the kernel keeps $parameters_max; put long ones on a disk (zosia-disk --append) [ZE-53]"

[ -z "$session" ] || make_session
lock_session

# What a conversation shows is kept nowhere unless that is asked for.
choose_console_log

if [ "$vmm" = vfkit ]; then
    # The EFI file is a plain arm64 Image too, which Apple's loader starts.
    # deviceId is the disk's serial number: the file's exact length, as below.
    for file in "$efi" "$model_file" "$draft_file" "${session_file:-}" "$scratch"; do
        case $file in *[,\"]*) die 2 "--vmm vfkit cannot take a comma or a quote in a file's name; rename $file" ;; esac
    done
    quote_parameters
    set --
    if [ -n "$attach" ]; then
        set -- --device "virtio-blk,path=$scratch/texts,readonly,deviceId=zosia-texts-$(file_bytes "$scratch/texts")"
        end_sector "$scratch/texts"
    fi
    model_disk=$(vfkit_disk model "$model_file" "zosia-$model_bytes")
    other_disks=$(more_disks vfkit)
    eval "set -- $model_disk \"\$@\""
    set -- --log-level error --restful-uri none:// --cpus "$smp" --memory "$mem" \
        --bootloader "linux,kernel=$efi,cmdline=$parameters" \
        "$@" --device virtio-serial,stdio
    eval "set -- \"\$@\" $other_disks"
    if [ -n "$session" ]; then
        set -- "$@" --device "virtio-blk,path=$session_file,deviceId=zosia-session"
    fi
    if [ -n "$dry_run" ]; then
        quote vfkit "$@"
        exit 0
    fi
    run_vfkit "$@"
fi

# KVM's own newest interrupt controller; elsewhere QEMU's choice.
[ "$arch/$accel" != aarch64/kvm ] || board=$board,gic-version=max
set -- -name zosia -no-user-config -nodefaults -display none -nic none -no-reboot \
    -machine "$board" -accel "$accel" -cpu "$cpu" -smp "$smp" -m "$mem"
[ -z "$firmware_wanted" ] || set -- "$@" -bios "$firmware"
[ -z "$attach" ] || set -- "$@" \
    -drive "if=none,id=texts,format=raw,readonly=on,file=$(qemu_value "$scratch/texts")" \
    -device "virtio-blk-$bus,drive=texts,serial=zosia-texts-$(file_bytes "$scratch/texts")"
set -- "$@" -kernel "$efi" -append "$parameters"
# Its serial number tells the guest the file's exact length, which a disk of whole
# sectors does not.
eval "set -- \"\$@\" $(qemu_disk model "$model_file" "zosia-$model_bytes")"
set -- "$@" \
    -chardev "pipe,id=control,path=$(qemu_value "$scratch/control")" -mon chardev=control,mode=control \
    -device "virtio-serial-$bus"
eval "set -- \"\$@\" $(more_disks qemu)"
# The one disk that is written: a flush reaches the host's disk, an error the guest.
if [ -n "$session" ]; then
    set -- "$@" \
        -drive "if=none,id=session,format=raw,cache=writeback,aio=threads,werror=report,rerror=report,file.locking=on,file=$(qemu_value "$session_file")" \
        -device "virtio-blk-$bus,drive=session,serial=zosia-session"
fi
if [ -n "$turn" ]; then
    set -- "$@" \
        -chardev "file,id=console,path=$(qemu_value "$console_out")" -serial chardev:console \
        -chardev "pipe,id=turn,path=$(qemu_value "$scratch/turn")" -device virtserialport,chardev=turn,name=zosia.turn \
        -chardev "file,id=result,path=$(qemu_value "$scratch/result")" -device virtserialport,chardev=result,name=zosia.result
else
    set -- "$@" \
        -chardev "stdio,id=console,mux=on,signal=off${log:+,logfile=$(qemu_value "$console_out"),logappend=off}" \
        -serial chardev:console -echr 0x1d \
        -chardev "pipe,id=save,path=$(qemu_value "$scratch/save")" -device virtserialport,chardev=save,name=zosia.save
fi

if [ -n "$dry_run" ]; then
    quote "$qemu" "$@"
    exit 0
fi

case $turn in
    '') run_interactive "$@" ;;
    batch)
        open_batch
        run_turn "$@"
        ;;
    *)
        write_frame
        run_turn "$@"
        ;;
esac
