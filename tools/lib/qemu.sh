# shellcheck shell=sh
# QEMU on this host: where it is, which accelerator runs a guest, which
# firmware goes with it. Sourced after host.sh; $scratch is the caller's.
# shellcheck disable=SC2154 # host.sh and the caller assign them

# How to get QEMU here, for messages.
qemu_remedy() {
    case $host_os in
        Darwin)
            if have brew; then
                echo "brew install qemu"
            elif have port; then
                echo "sudo port install qemu"
            else
                echo "install Homebrew (or MacPorts), then: brew install qemu"
            fi
            ;;
        *)
            if have apt-get; then
                echo "$tools/deps.sh run"
            elif have dnf; then
                echo "sudo dnf install qemu-system-aarch64 edk2-aarch64"
            elif have pacman; then
                echo "sudo pacman -S qemu-system-aarch64 edk2-aarch64"
            elif have apk; then
                echo "sudo apk add qemu-system-aarch64 aavmf"
            elif have zypper; then
                echo "sudo zypper install qemu-arm qemu-uefi-aarch64"
            else
                echo "install QEMU's qemu-system-aarch64 and the AArch64 UEFI firmware (edk2)"
            fi
            ;;
    esac
}

# find_qemu sets qemu (its path) and qemu_version (10.0.2), or fails.
find_qemu() {
    qemu=$(command -v "${ZOSIA_QEMU:-qemu-system-aarch64}") || return 1
    qemu_banner=$("$qemu" --version 2>&1) || :
    qemu_version=$(printf '%s\n' "$qemu_banner" |
        sed -n 's/^QEMU emulator version \([0-9][0-9.]*[0-9]\).*/\1/p')
    [ -n "$qemu_version" ] ||
        die 3 "$qemu does not run: $(printf '%s\n' "$qemu_banner" | head -n 1); reinstall it: $(qemu_remedy)"
    qemu_major=${qemu_version%%.*}
    qemu_minor=${qemu_version#*.}
    qemu_minor=${qemu_minor%%.*}
}

qemu_older_than() { [ "$qemu_major" -lt "$1" ] || { [ "$qemu_major" -eq "$1" ] && [ "$qemu_minor" -lt "$2" ]; }; }

# find_firmware sets firmware: the UEFI image nearest to the QEMU in use, as
# the two are tested together; then the places of the distributions.
find_firmware() {
    qemu_prefix=$(cd "$(dirname "$qemu")/.." && pwd -P)
    for firmware in \
        "${ZOSIA_FIRMWARE:-}" \
        "$qemu_prefix/share/qemu/edk2-aarch64-code.fd" \
        /opt/homebrew/share/qemu/edk2-aarch64-code.fd \
        /usr/local/share/qemu/edk2-aarch64-code.fd \
        /opt/local/share/qemu/edk2-aarch64-code.fd \
        "$qemu_prefix/share/qemu-efi-aarch64/QEMU_EFI.fd" \
        /usr/share/qemu-efi-aarch64/QEMU_EFI.fd \
        /usr/share/AAVMF/AAVMF_CODE.no-secboot.fd \
        /usr/share/AAVMF/AAVMF_CODE.fd \
        /usr/share/edk2/aarch64/QEMU_EFI.fd \
        /usr/share/edk2/aarch64/QEMU_CODE.fd \
        /usr/share/qemu/aavmf-aarch64-code.bin \
        /usr/share/qemu/edk2-aarch64-code.fd; do
        [ -z "$firmware" ] || [ ! -r "$firmware" ] || return 0
    done
    firmware=
    return 1
}

# vcpu_runs ACCEL CPU: whether a guest really executes on it. Four
# instructions ask PSCI to switch the machine off; a node like /dev/kvm that
# opens and yet runs nothing, a CPU model that this chip refuses and a missing
# entitlement all fail here, within five seconds.
vcpu_runs() {
    probe_code=$scratch/probe.bin
    # mov x0, #8; movk x0, #0x8400, lsl #16 (SYSTEM_OFF); hvc #0; b .
    printf '\000\001\200\322\000\200\260\362\002\000\000\324\000\000\000\024' >"$probe_code"
    "$qemu" -no-user-config -nodefaults -machine virt -accel "$1" -cpu "$2" -m 64 \
        -display none -no-reboot -kernel "$probe_code" \
        </dev/null >/dev/null 2>"$scratch/probe.err" &
    probe_pid=$!
    probe_left=50
    while kill -0 "$probe_pid" 2>/dev/null; do
        if [ "$probe_left" -eq 0 ]; then
            kill -9 "$probe_pid" 2>/dev/null || :
            wait "$probe_pid" 2>/dev/null || :
            return 1
        fi
        probe_left=$((probe_left - 1))
        # Fractions are not POSIX, yet every sleep at hand takes them.
        sleep 0.1 2>/dev/null || sleep 1
    done
    wait "$probe_pid" 2>/dev/null
}

# choose_accel ACCEL CPU (either may be empty) sets accel and cpu. Says once,
# on standard error, when that is slow, and why.
choose_accel() {
    accel=$1
    cpu=$2
    case $accel in
        tcg) why_slow="--accel tcg" ;;
        '') why_slow= ;;
        *)
            cpu=${cpu:-host}
            return 0
            ;;
    esac
    if [ -z "$accel" ]; then
        case $host_os/$host_arch in
            Darwin/arm64) try_hvf "$cpu" && return 0 ;;
            Linux/arm64) try_kvm "$cpu" && return 0 ;;
            *) why_slow="this is an $host_arch machine" ;;
        esac
    fi
    accel=tcg
    # A processor with dot products: emulated as well, they take half the time of
    # what plain ARMv8 has in their place. What is newer costs more than it saves.
    cpu=${cpu:-neoverse-n1}
    say "no hardware virtualization ($why_slow): QEMU emulates the processor, which is slow"
}

# Apple's chips with SME refuse -cpu host in some QEMU versions; cortex-a76
# still has the dot product.
try_hvf() {
    if [ "$(sysctl -n kern.hv_support 2>/dev/null)" = 0 ]; then
        why_slow="kern.hv_support is 0: this Mac, itself perhaps virtual, offers none"
        return 1
    fi
    for cpu in ${1:-host max cortex-a76 cortex-a72}; do
        vcpu_runs hvf "$cpu" || continue
        accel=hvf
        case $qemu_version in
            11.0.0) say "QEMU 11.0.0 is reported to keep processors busy while the guest idles; upgrade it: brew upgrade qemu" ;;
        esac
        [ -n "$1" ] || [ "$cpu" = host ] ||
            say "this QEMU cannot give a guest this chip as it is (-cpu host); using -cpu $cpu, which may be slower; brew upgrade qemu may help"
        return 0
    done
    cpu=$1
    why_slow="hvf runs no guest: $(probe_error)"
    return 1
}

try_kvm() {
    kvm_node=${ZOSIA_KVM:-/dev/kvm}
    if [ ! -e "$kvm_node" ]; then
        why_slow="there is no $kvm_node"
        return 1
    fi
    for cpu in ${1:-host}; do
        vcpu_runs kvm "$cpu" || continue
        accel=kvm
        return 0
    done
    cpu=$1
    why_slow="$kvm_node runs no guest: $(probe_error)"
    [ -w "$kvm_node" ] || why_slow="$why_slow; is your user in the group kvm?"
    return 1
}

probe_error() {
    probe_line=$(grep . "$scratch/probe.err" | tail -n 1)
    probe_line=${probe_line#*qemu-system-aarch64: }
    printf '%s\n' "${probe_line:-it hangs}"
}

# A file name as the value of one of QEMU's options: commas are doubled.
qemu_value() { printf '%s\n' "$1" | sed 's/,/,,/g'; }
