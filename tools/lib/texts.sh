# shellcheck shell=sh
# Texts for --attach, on a disk of their own that is written with what every host
# has. init/texts reads it, and tells its format. Sourced after host.sh; $scratch is
# the caller's.
# shellcheck disable=SC2154 # the caller assigns it

texts_max=1000
texts_bytes_max=67108864

# attach_texts PATH...: all texts of these files and directories as $scratch/texts.
attach_texts() {
    texts_count=0 texts_bytes=0
    printf 'zosia texts 1\n' >"$scratch/texts"
    for attach_path in "$@"; do
        # What begins with a dash is no option to find or cat.
        case $attach_path in -*) attach_path=./$attach_path ;; esac
        if [ -d "$attach_path" ]; then
            attach_directory "${attach_path%/}"
        elif [ ! -f "$attach_path" ]; then
            die 2 "--attach: $attach_path is neither a file nor a directory"
        elif [ ! -r "$attach_path" ]; then
            die 2 "--attach: $attach_path cannot be read"
        elif looks_like_text "$attach_path"; then
            attach_text "$attach_path" "${attach_path##*/}"
        else
            die 2 "--attach: $attach_path is not text: it has zero bytes"
        fi
    done
    printf 'end\n' >>"$scratch/texts"
}

# The texts of a directory in the order of their names: nothing hidden, no links.
attach_directory() {
    case ${1##*/} in . | .. | '') attach_prefix='' ;; *) attach_prefix=${1##*/}/ ;; esac
    attach_before=$texts_count
    LC_ALL=C find "$1/." -name '.?*' -prune -o -type f -print | LC_ALL=C sort >"$scratch/found"
    [ "$(wc -l <"$scratch/found")" -le "$texts_max" ] ||
        die 2 "--attach: $1 has more than $texts_max files; name some of them"
    while IFS= read -r attach_file; do
        if [ ! -r "$attach_file" ]; then
            say "$attach_file cannot be read and is left out [ZE-61]"
        elif looks_like_text "$attach_file"; then
            attach_text "$attach_file" "$attach_prefix${attach_file#"$1/./"}"
        fi
    done <"$scratch/found"
    [ "$texts_count" -gt "$attach_before" ] || die 2 "--attach: $1 has no text in it"
}

# As init/texts tells it: no zero byte in what it begins with, but for UTF-16.
looks_like_text() {
    case $(od -An -v -tx1 -N8192 "$1") in
        *' 00'*) case $(od -An -tx1 -N2 "$1" | tr -d ' \n') in fffe | feff) ;; *) return 1 ;; esac ;;
    esac
}

# attach_text FILE NAME: as the file is now.
attach_text() {
    texts_count=$((texts_count + 1))
    [ "$texts_count" -le "$texts_max" ] ||
        die 2 "--attach: there are more than $texts_max texts; name some of them"
    texts_bytes=$((texts_bytes + $(file_bytes "$1")))
    [ "$texts_bytes" -le "$texts_bytes_max" ] ||
        die 2 "--attach: with $1 there are $texts_bytes bytes of text; $texts_bytes_max is the most"
    cat "$1" >"$scratch/text" || die 2 "--attach: $1 cannot be read"
    printf 'text %s %s\n%s' "$(printf %s "$2" | wc -c | tr -d ' ')" "$(file_bytes "$scratch/text")" "$2" >>"$scratch/texts"
    cat "$scratch/text" >>"$scratch/texts"
}
