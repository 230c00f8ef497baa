# shellcheck shell=sh
# shellcheck disable=SC2154 # c1_lead is script.sh's
# Keeps what the guest's /save sends. Sourced by run.sh after script.sh and
# host.sh.
#
# The virtio-serial port zosia.save carries saves one way and answers the other.
# A save is a line of ASCII and the transcript, nothing after it:
#
#   save ID LENGTH NAME\n
#   LENGTH bytes
#
# ID is up to nine digits that come back in the answer, another for each save
# and never 0; LENGTH up to ten; NAME, to the end of the line, up to 200 bytes of
# UTF-8, without a slash, a leading dot or control characters. The answer is a
# line as well, of at most 1024 bytes, when the transcript is on the disk or is
# known not to get there:
#
#   ok ID FINALNAME\n
#   error ID TEXT\n
#
# FINALNAME is NAME, or a numbered one when that was taken: talk-2.md. Lines that
# are not headers are skipped, and the first of them is answered, with ID 0. Nothing
# of a save that ends in an error, or in the middle, is left.

# keep_transcripts FOLDER SCRATCH: saves from standard input, answers to
# descriptor 6, and a line on standard error for each that is not kept. Runs in
# the background, in a shell of its own.
keep_transcripts() {
    folder=$1
    errors=$2/saves.errors
    part=$folder/.save-$$.part
    trap 'rm -f "$part"' EXIT
    trap 'exit 143' TERM
    # Bytes, not characters.
    LC_ALL=C
    export LC_ALL
    skipping=
    while IFS= read -r header; do
        if ! read_header; then
            [ -n "$skipping" ] || refuse 0 "what came is not the header of a save"
            skipping=yes
            continue
        fi
        skipping=
        : >"$errors"
        receive_into=/dev/null
        refusal=$(name_fault)
        if [ -z "$refusal" ] && ! { mkdir -p "$folder" && (: >"$part"); } 2>>"$errors"; then
            refusal="cannot write $folder/$save_name: $(why_not)"
        fi
        [ -n "$refusal" ] || receive_into=$part
        if ! receive "$save_length"; then
            refuse "$save_id" "$save_name: the machine ended before all of it had come"
        elif [ -n "$refusal" ]; then
            refuse "$save_id" "$refusal"
        elif store; then
            printf 'ok %s %s\n' "$save_id" "$final_name" >&6
        else
            refuse "$save_id" "cannot write $folder/$save_name: $(why_not)"
        fi
        rm -f "$part"
    done
}

# read_header takes $header apart into save_id, save_length and save_name, or fails.
read_header() {
    case $header in "save "*" "*" "?*) ;; *) return 1 ;; esac
    save_name=${header#save }
    save_id=${save_name%% *}
    save_name=${save_name#* }
    save_length=${save_name%% *}
    save_name=${save_name#* }
    are_counts "$save_id" && are_counts "1$save_length" &&
        [ -n "$save_length" ] && [ "${#save_id}" -le 9 ] && [ "${#save_length}" -le 10 ] || return 1
    # A zero in front would make it octal.
    while [ "$save_length" != "${save_length#0?}" ]; do save_length=${save_length#0}; done
}

# What is wrong with $save_name as a file's name, or nothing.
name_fault() {
    case $save_name in
        */* | .*) echo "a name has no slash and no leading dot" ;;
        *[[:cntrl:]]* | *"$c1_lead"[$c1_first-$c1_last]*) echo "a name has no control characters" ;;
        *) [ "${#save_name}" -le 200 ] || echo "a name has at most 200 bytes" ;;
    esac
}
c1_first=$(printf '\200')
c1_last=$(printf '\237')

# receive LENGTH: exactly so many bytes of standard input, into $receive_into as far
# as that can be written; fails if they end before. A read takes what is there, and
# never anything of the next save.
receive() {
    receive_left=$1
    while [ "$receive_left" -gt 0 ]; do
        receive_want=$((receive_left < 65536 ? receive_left : 65536))
        # tee goes on when it cannot write, so that all bytes are counted.
        receive_got=$(($(dd bs="$receive_want" count=1 2>/dev/null | { tee -a "$receive_into" 2>>"$errors" || :; } | wc -c)))
        [ "$receive_got" -gt 0 ] || return 1
        receive_left=$((receive_left - receive_got))
    done
}

# store: the whole of $part, on the disk, under the first name that is free.
store() {
    [ "$(file_bytes "$part" 2>>"$errors")" = "$save_length" ] || return 1
    sync "$part" 2>>"$errors" || return 1
    store_number=1
    final_name=$save_name
    # Claimed, as another machine may save under that name as well.
    until (set -C && : >"$folder/$final_name") 2>>"$errors"; do
        [ -e "$folder/$final_name" ] || [ -L "$folder/$final_name" ] || return 1
        store_number=$((store_number + 1))
        case $save_name in
            *.*) final_name=${save_name%.*}-$store_number.${save_name##*.} ;;
            *) final_name=$save_name-$store_number ;;
        esac
    done
    if ! mv -f "$part" "$folder/$final_name" 2>>"$errors"; then
        rm -f "$folder/$final_name"
        return 1
    fi
    sync "$folder" 2>>"$errors" || :
}

# The system's words for what went wrong, without the program's and the file's.
why_not() {
    why=$(grep . "$errors" | tail -n 1)
    why=${why##*: }
    printf '%s\n' "${why:-it is not whole}"
}

# refuse ID TEXT: tells the guest, and the user when the terminal is free again.
refuse() {
    refuse_text=$(visible "$2")
    printf 'error %s %.900s\n' "$1" "$refuse_text" >&6
    printf '%s\n' "not saved: $refuse_text" >&2
}
