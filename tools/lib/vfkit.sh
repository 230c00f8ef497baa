# shellcheck shell=sh
# A Mac's own virtual machine, which vfkit starts: its disks, its parameters, its run.
# Sourced by run.sh after the others; uses run.sh's variables.
# shellcheck disable=SC2154,SC2034 # they are assigned, and read, there and in session.sh

# Ends the script if vfkit cannot attach a disk read-only. A version in other words than
# its own is let through.
require_vfkit() {
    vfkit_version=$(vfkit --version 2>/dev/null) || :
    case $vfkit_version in
        "vfkit version: v0."[0-5].*) die 3 "this is vfkit ${vfkit_version#*: v}, and 0.6 or newer is needed: brew upgrade vfkit" ;;
    esac
}

vfkit_disk() { # ID FILE SERIAL
    whole_sectors "$2" "$1"
    printf ' %s' "$(quote --device "virtio-blk,path=$disk_file,readonly,deviceId=$3")"
}

# FILE as Apple's framework takes it, as $disk_file: of whole sectors, as few models are.
# Else it is a clone, which takes no space.
whole_sectors() { # FILE ID
    disk_file=$1
    disk_bytes=$(rest_length "$1")
    [ $((disk_bytes % 512)) != 0 ] || return 0
    if [ -n "$dry_run" ]; then
        say "would attach a clone of $1 that is of whole sectors"
        return 0
    fi
    disk_file=$scratch/$2.img
    cp -c "$1" "$disk_file" 2>/dev/null ||
        die 3 "--vmm vfkit takes disks of whole sectors, $1 has $disk_bytes bytes, and cannot be cloned to ${TMPDIR:-/tmp}: put it on that volume, or into a disk image (zosia-disk create)"
    chmod u+w "$disk_file"
    end_sector "$disk_file"
}

# Zeros to the end of the last sector.
end_sector() {
    dd if=/dev/null of="$1" bs=512 seek=$((($(file_bytes "$1") + 511) / 512)) count=0 2>/dev/null
}

# The parameters as a value in vfkit's list of options, which commas part, but
# not between quotes. A pair of quotes around the whole is taken off, so that
# what has quotes of its own must not end in one.
quote_parameters() {
    case $parameters in
        *\"*)
            unquoted=$(printf '%s\n' "$parameters" | sed 's/"[^"]*"//g')
            case $unquoted in
                *[,\"]*) die 2 "--vmm vfkit cannot take these parameters: close every quote, and quote what has a comma" ;;
            esac
            parameters="$parameters "
            ;;
        *) parameters="\"$parameters\"" ;;
    esac
}

# vfkit makes the terminal raw but for the keys that send signals. One of them
# is left, for ending vfkit from outside; Ctrl-C belongs to the guest.
run_vfkit() {
    save_terminal
    stty raw opost -echo isig intr '^]' quit undef susp undef || :
    vfkit "$@" <&3 3<&- 7>&- &
    machine_pid=$!
    tell_guard "machine $machine_pid"
    wait_for_machine
    machine_ended
    restore_terminal
    [ "$session_status" = 0 ] || die 6 "vfkit ended with status $session_status"
    exit 0
}
