# shellcheck shell=sh
# QEMU on this host: where it is, which accelerator runs a guest, which
# firmware goes with it. Sourced after host.sh; $scratch is the caller's.
# shellcheck disable=SC2034,SC2154 # host.sh and the caller assign and use them

# for_machine ARCH sets what the machine of this architecture is called and is
# made of: arch, qemu_name, what the names of its files have (suffix), its EFI
# file, serial, board, how its devices end (bus), and processors to try.
for_machine() {
    arch=$1
    qemu_name=qemu-system-$arch
    case $arch in
        # Virtio over MMIO and a device tree: no ACPI and no PCI device. High
        # memory stays on, as models want more than the 3 GiB below it; QEMU leaves
        # out the windows that a chip with 36-bit addresses cannot have.
        aarch64)
            suffix='' serial=ttyAMA0 board=virt,acpi=off bus=device
            hvf_cpus='host max cortex-a76 cortex-a72'
            # A processor with dot products: emulated as well, they take half the time
            # of what plain ARMv8 has in their place. What is newer costs more than it
            # saves.
            tcg_cpu=neoverse-n1
            ;;
        # A PC, without what nothing here looks at.
        x86_64)
            suffix=-x86_64 serial=ttyS0 board=q35,hpet=off,vmport=off,smm=off bus=pci
            hvf_cpus=host
            # Emulated, AVX2 takes four times as long as what a PC had before it. Random
            # numbers, which a session's key needs, come from no one else here.
            tcg_cpu=Nehalem,+rdrand
            ;;
    esac
    efi_name=zosia$suffix.efi
}

# user_emulator ARCH: QEMU's user mode for programs of this architecture, if it is here.
user_emulator() { command -v "qemu-$1" || command -v "qemu-$1-static"; }

# level_cpu LEVEL: a processor that QEMU emulates, of one of ARM's levels.
level_cpu() {
    case $1 in
        v80) echo cortex-a72 ;;
        v82) echo neoverse-n1 ;;
        v86) echo max ;;
    esac
}

# The guest that is emulated where nobody says: it answers in little more than half
# the time of the other.
emulated_arch=aarch64

# default_arch: what is booted where nobody says.
default_arch() { if host_accelerates; then echo "$own_arch"; else echo "$emulated_arch"; fi; }

# arch_of_efi FILE: which processor it says in its header that it is for.
arch_of_efi() {
    efi_header=$(od -An -v -tu4 -j60 -N4 "$1" | tr -d ' ')
    are_counts "$efi_header" || return 1
    case $(od -An -v -tx1 -j"$efi_header" -N6 "$1" 2>/dev/null | tr -d ' ') in
        5045000064aa) echo aarch64 ;;
        504500006486) echo x86_64 ;;
        *) return 1 ;;
    esac
}

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
                echo "$tools/deps.sh $(deps_groups)"
            elif have dnf; then
                case $arch in
                    x86_64) echo "sudo dnf install qemu-system-x86 edk2-ovmf" ;;
                    *) echo "sudo dnf install qemu-system-aarch64 edk2-aarch64" ;;
                esac
            elif have pacman; then
                case $arch in
                    x86_64) echo "sudo pacman -S qemu-system-x86 edk2-ovmf" ;;
                    *) echo "sudo pacman -S qemu-system-aarch64 edk2-aarch64" ;;
                esac
            elif have apk; then
                case $arch in
                    x86_64) echo "sudo apk add qemu-system-x86_64 ovmf" ;;
                    *) echo "sudo apk add qemu-system-aarch64 aavmf" ;;
                esac
            elif have zypper; then
                case $arch in
                    x86_64) echo "sudo zypper install qemu-x86 qemu-ovmf-x86_64" ;;
                    *) echo "sudo zypper install qemu-arm qemu-uefi-aarch64" ;;
                esac
            else
                echo "install QEMU's $qemu_name and the UEFI firmware for $arch (edk2)"
            fi
            ;;
    esac
}

# provide_qemu: QEMU and its firmware are there, installed where that can be done.
provide_qemu() {
    find_qemu || { install_qemu && find_qemu; } ||
        die 3 "QEMU ($qemu_name) is not installed: $(qemu_remedy)$(why_emulated)"
    [ -n "$firmware_wanted" ] || return 0
    find_firmware || { install_qemu && find_firmware; } ||
        die 3 "no UEFI firmware for $arch beside $qemu; set ZOSIA_FIRMWARE, or --no-firmware, or: $(qemu_remedy)"
}

# Why it is QEMU for another processor that is to be installed, if nobody asked for one:
# the remedy for that may be the shorter.
why_emulated() {
    [ "$arch" = "$own_arch" ] || [ -n "$arch_wanted$efi" ] ||
        echo " (for an emulated processor, as ${why_slow:-$(why_foreign)})"
}

# What the machine takes and, if no EFI file is here, the build of one: together, as
# somebody else may have to be asked to install it.
deps_groups() {
    if [ -n "$efi" ] || (find_made_efi "$(sources_key)" "$top/out/$efi_name"); then
        echo "run-$arch"
    else
        echo "build-$arch run-$arch"
    fi
}

install_qemu() {
    # shellcheck disable=SC2046 # words
    have apt-get && [ -z "$dry_run" ] && "$tools/deps.sh" $(deps_groups) >&2
}

# find_qemu sets qemu (its path) and qemu_version (10.0.2), or fails.
find_qemu() {
    qemu=$(command -v "${ZOSIA_QEMU:-$qemu_name}") || return 1
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
    qemu_prefix=$(CDPATH='' cd "$(dirname "$qemu")/.." && pwd -P)
    set -- "${ZOSIA_FIRMWARE:-}" \
        "$qemu_prefix/share/qemu/edk2-$arch-code.fd" \
        "/opt/homebrew/share/qemu/edk2-$arch-code.fd" \
        "/usr/local/share/qemu/edk2-$arch-code.fd" \
        "/opt/local/share/qemu/edk2-$arch-code.fd"
    case $arch in
        aarch64)
            set -- "$@" "$qemu_prefix/share/qemu-efi-aarch64/QEMU_EFI.fd" \
                /usr/share/qemu-efi-aarch64/QEMU_EFI.fd \
                /usr/share/AAVMF/AAVMF_CODE.no-secboot.fd \
                /usr/share/AAVMF/AAVMF_CODE.fd \
                /usr/share/edk2/aarch64/QEMU_EFI.fd \
                /usr/share/edk2/aarch64/QEMU_CODE.fd \
                /usr/share/qemu/aavmf-aarch64-code.bin
            ;;
        x86_64)
            set -- "$@" /usr/share/ovmf/OVMF.fd \
                /usr/share/edk2/x64/OVMF.4m.fd \
                /usr/share/edk2/ovmf/OVMF_CODE.fd \
                /usr/share/OVMF/OVMF_CODE_4M.fd \
                /usr/share/OVMF/OVMF_CODE.fd \
                /usr/share/OVMF/OVMF.fd \
                /usr/share/qemu/ovmf-x86_64.bin
            ;;
    esac
    for firmware in "$@" "/usr/share/qemu/edk2-$arch-code.fd"; do
        [ -z "$firmware" ] || [ ! -r "$firmware" ] || return 0
    done
    firmware=
    return 1
}

# vcpu_runs ACCEL CPU: whether a guest really executes on it. A few instructions
# end the machine with a status; a node like /dev/kvm that opens and yet runs
# nothing, a CPU model that this chip refuses and a missing entitlement all fail
# here, within five seconds. Sets has_avx2, where that can be asked.
vcpu_runs() {
    has_avx2=
    probe_status=0
    "probe_$arch" "$1" "$2" || probe_status=$?
    case $arch/$probe_status in
        aarch64/0 | x86_64/85) return 0 ;;
        x86_64/87) has_avx2=1 ;;
        *) return 1 ;;
    esac
}

# ARM's firmware interface switches off: status 0.
probe_aarch64() {
    # mov x0, #8; movk x0, #0x8400, lsl #16 (SYSTEM_OFF); hvc #0; b .
    printf '\000\001\200\322\000\200\260\362\002\000\000\324\000\000\000\024' >"$scratch/probe.bin"
    probe "$1" "$2" -machine virt -kernel "$scratch/probe.bin"
}

# Where a PC begins, 16 bytes before the end of its firmware, it jumps to what
# writes 42, or with AVX2 43, to a port that ends QEMU: status 2 * 42 + 1, or 87.
# Before that it takes the steps at which a host fails that only emulates guests.
probe_x86_64() {
    {
        head -c 65408 /dev/zero
        # The table of segments: its own length and place, and one of code.
        printf '\017\000\200\377\377\377\000\000\377\377\000\000\000\232\317\000'
        # lgdt cs:[0xff80]; mov eax, cr0; or al, 1; mov cr0, eax; jmp 8:0xffffffa7
        printf '\056\146\017\001\026\200\377\017\040\300\014\001\017\042\300\146\352\247\377\377\377\010\000'
        # fninit; fwait; mov eax, 7; xor ecx, ecx; cpuid; shr ebx, 5; and bl, 1
        printf '\333\343\233\270\007\000\000\000\061\311\017\242\301\353\005\200\343\001'
        # mov al, 42; add al, bl; out 0xf4, al; hlt; jmp -3
        printf '\260\052\000\330\346\364\364\353\375'
        head -c 46 /dev/zero
        # jmp 0xff90
        printf '\351\235\377'
        head -c 13 /dev/zero
    } >"$scratch/probe.bin"
    probe "$1" "$2" -machine q35 -device isa-debug-exit,iobase=0xf4,iosize=4 -bios "$scratch/probe.bin"
}

# probe ACCEL CPU OPTION...: QEMU's status, or 1 after five seconds.
probe() {
    probe_accel=$1
    probe_cpu=$2
    shift 2
    "$qemu" -no-user-config -nodefaults -accel "$probe_accel" -cpu "$probe_cpu" -m 64 \
        -display none -no-reboot "$@" \
        </dev/null >/dev/null 2>"$scratch/probe.err" &
    probe_pid=$!
    if ! ends_within 50 "$probe_pid"; then
        kill -9 "$probe_pid" 2>/dev/null || :
        wait "$probe_pid" 2>/dev/null || :
        return 1
    fi
    wait "$probe_pid" 2>/dev/null
}

# find_accel ACCEL CPU (either may be empty) sets accel and cpu, for a guest of
# $arch; or why_slow and fails, if nothing here runs one.
find_accel() {
    cpu=$2
    why_slow=
    case ${1:-$host_os}/$arch in
        tcg/*) why_slow="--accel tcg" ;;
        hvf/"$own_arch" | Darwin/"$own_arch") try_hvf "$cpu" && return 0 ;;
        kvm/"$own_arch" | Linux/"$own_arch") try_kvm "$cpu" && return 0 ;;
        *) why_slow=$(why_foreign) ;;
    esac
    return 1
}

# Why a guest of another architecture: because it was asked for, or because nothing
# runs one of this machine's own.
why_foreign() {
    case $arch_wanted$efi/$host_os/$own_arch in
        /Linux/x86_64 | /Linux/aarch64) why_no_kvm ;;
        /Darwin/x86_64) why_no_hvf ;;
        *) echo "this is an $host_arch machine, and the guest's processor is $arch" ;;
    esac
}

# emulate: what can be had where nothing runs a guest, said once.
emulate() {
    accel=tcg
    cpu=${cpu:-$tcg_cpu}
    slow="no hardware virtualization ($why_slow): QEMU emulates the processor, which is slow"
    [ "$host_os" != Linux ] || slow="$slow; without a virtual machine it is not: $0 --native"
    say "$slow"
}

why_no_hvf() { echo "kern.hv_support is 0: this Mac, itself perhaps virtual, offers none"; }

why_no_kvm() {
    kvm_node=${ZOSIA_KVM:-/dev/kvm}
    if [ -e "$kvm_node" ]; then
        echo "$kvm_node is not yours to use: $(join_kvm)"
        return
    fi
    if grep -qi microsoft "${ZOSIA_PROC:-/proc}/version" 2>/dev/null; then
        echo "there is no $kvm_node: WSL2 has one on Windows 11, if .wslconfig does not say nestedVirtualization=false"
        return
    fi
    echo "there is no $kvm_node: virtualization is off in the firmware's setup, or the host of this machine keeps it to itself"
}

# Apple's chips with SME refuse -cpu host in some QEMU versions; cortex-a76
# still has the dot product.
try_hvf() {
    if [ "$(sysctl -n kern.hv_support 2>/dev/null)" = 0 ]; then
        why_slow=$(why_no_hvf)
        return 1
    fi
    for cpu in ${1:-$hvf_cpus}; do
        vcpu_runs hvf "$cpu" || continue
        accel=hvf
        tell_without_avx2
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
        why_slow=$(why_no_kvm)
        return 1
    fi
    cpu=${1:-host}
    if vcpu_runs kvm "$cpu"; then
        accel=kvm
        tell_without_avx2
        return 0
    fi
    cpu=$1
    why_slow="$kvm_node runs no guest: $(probe_error)"
    [ -w "$kvm_node" ] || why_slow="$why_slow; $(join_kvm)"
    return 1
}

join_kvm() { echo "is your user in the group kvm? sudo usermod -aG kvm $(id -un), then log in again"; }

# What a processor without AVX2 costs. Where it has it, a host may still hide it.
tell_without_avx2() {
    [ "$arch" != x86_64 ] || [ -n "$has_avx2" ] ||
        say "the guest's processor (-cpu $cpu) has no AVX2, with which answers come several times as fast; where this machine is a virtual one itself, its host may hide it"
}

probe_error() {
    probe_line=$(grep . "$scratch/probe.err" | tail -n 1)
    probe_line=${probe_line#*"$qemu_name": }
    printf '%s\n' "${probe_line:-it hangs}"
}

# A file name as the value of one of QEMU's options: commas are doubled.
qemu_value() { printf '%s\n' "$1" | sed 's/,/,,/g'; }
