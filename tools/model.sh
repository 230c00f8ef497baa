#!/bin/sh
# tools/model.sh COMMAND [ARGUMENT...]
#
# The models that tools/run.sh knows by name: those of the catalogue, what was
# imported, and what other programs keep here, by their names: ollama:MODEL[:TAG],
# hf:OWNER/REPO[@REVISION][:QUANT], lms:PUBLISHER/REPO[:QUANT], llama.cpp:FILE.
#
#   names                 the names alone, one a line
#   list                  all of them: size, RAM that a session needs (at 4096
#                         tokens of context), whether this machine has as much,
#                         and of the catalogue's whether they are here
#   get [--anyway] NAME...  fetch what is not here, print its path; a broken-off
#                         download goes on where it ended. --anyway: also one
#                         that does not fit this machine's RAM. NAME may be
#                         hf:OWNER/REPO[@REVISION][:QUANT], whether known or not
#   verify [NAME...]      check the SHA-256 of what is here (default: all of the
#                         catalogue's and the imported)
#   import FILE [NAME]    copy a .gguf file in, under NAME (default: the file's)
#   path NAME             print the file's path, for other tools
#
# Environment: ZOSIA_MODELS, ZOSIA_CACHE (directories); ZOSIA_NATIVE, the program that
# checks what is imported, if it has been built (out/native/init); HF_TOKEN, HF_ENDPOINT,
# and where the owners keep models: HF_HOME, HF_HUB_CACHE, LLAMA_CACHE, OLLAMA_MODELS.
# Exit status: 0 done; 1 verify found a difference; 2 wrong usage; 3 something
# is missing on this machine; 4 no usable model.

set -eu
# Where this file is, not a link to it.
self=$0
while link=$(readlink "$self"); do
    case $link in /*) self=$link ;; *) self=$(dirname "$self")/$link ;; esac
done
tools=$(CDPATH='' cd -- "$(dirname -- "$self")" && pwd -P)
# shellcheck source-path=SCRIPTDIR source=lib/script.sh
. "$tools/lib/script.sh"
# shellcheck source-path=SCRIPTDIR source=lib/host.sh
. "$tools/lib/host.sh"
# shellcheck source-path=SCRIPTDIR source=lib/catalogue.sh
. "$tools/lib/catalogue.sh"

named_or_die() {
    model_rest='' rest_bytes=0
    find_owned "$1" || find_named "$1" || die 4 "there is no model $1; there are: $(known_names)"
}

list_models() {
    detect_host
    # Without /proc, as in some containers, nobody knows.
    ram_here=$(host_ram_mib 2>/dev/null) || ram_here=
    printf '%-16s %9s %10s  %-5s %-12s %s\n' NAME SIZE RAM FITS LICENCE HERE
    for name in $(known_names); do
        named_or_die "$name"
        here=no
        if model_is_here; then
            here=yes
        elif [ -f "$model_file.part" ]; then
            here="$(human_bytes "$(file_bytes "$model_file.part")") of it"
        fi
        ram_need=$(model_ram_mib "$model_bytes" 4096)
        printf '%-16s %9s %6s MiB  %-5s %-12s %s\n' "$name" "$(human_bytes "$model_bytes")" \
            "$ram_need" "$(fits "$ram_need")" "${model_licence:-imported}" "$here"
    done
    owned_header=1
    each_owned list_owned
}

fits() {
    if [ -z "$ram_here" ]; then
        echo '?'
    elif [ "$(($1 + 1024))" -le "$ram_here" ]; then
        echo yes
    else
        echo no
    fi
}

# shellcheck disable=SC2154 # is_part sets part_count
list_owned() { # NAME FILE KIND
    if [ -n "$owned_header" ]; then
        printf '\n%9s %10s  %-5s %-20s %s\n' SIZE RAM FITS TYPE "KEPT BY OTHER PROGRAMS"
        owned_header=''
    fi
    if [ "$3" = - ]; then
        printf '%9s %10s  %-5s %-20s %s\n' - - - "passed over" "$(visible "$1")"
        return
    fi
    if [ ! -r "$2" ]; then
        printf '%9s %10s  %-5s %-20s %s\n' - - - "not readable" "$(visible "$1")"
        return
    fi
    model_bytes=$(whole_bytes "$2")
    if [ "$model_bytes" = 0 ]; then
        printf '%9s %10s  %-5s %-20s %s\n' - - - "not whole" "$(visible "$1")"
        return
    fi
    ram_need=$(model_ram_mib "$model_bytes" 4096)
    printf '%9s %6s MiB  %-5s %-20s %s\n' "$(human_bytes "$model_bytes")" "$ram_need" "$(fits "$ram_need")" \
        "$(visible "$(architecture "$2") $3")" "$(visible "$1")"
}

list_names() {
    known_names | tr ' ' '\n'
    each_owned name_owned
}

name_owned() { [ "$3" = - ] || visible "$1"; }

get_models() {
    anyway=''
    if [ "${1:-}" = --anyway ]; then
        anyway=1
        shift
    fi
    [ $# -gt 0 ] || die 2 "get: name one of: $(catalogue_names)"
    detect_host
    for name in "$@"; do
        named_or_die "$name"
        if ! model_is_here; then
            [ -n "$anyway" ] || require_ram "$name" "$(model_ram_mib $((model_bytes + rest_bytes)) 4096)" ", or --anyway"
            fetch_model || die 4 "$name cannot be fetched from ${model_source%%!*}; check the network and try again"
        fi
        printf '%s\n' "$model_file"
    done
}

all_sha256() { # FILE..., commas between
    all_sha256=''
    for all_file in "$@"; do
        all_sha256=$all_sha256${all_sha256:+,}$(file_sha256 "$all_file")
    done
    printf '%s\n' "$all_sha256"
}

verify_models() {
    [ $# -gt 0 ] || {
        # shellcheck disable=SC2046 # names have no blanks
        set -- $(known_names)
        all=1
    }
    verify_status=0
    for name in "$@"; do
        named_or_die "$name"
        if [ ! -f "$model_file" ]; then
            [ -n "${all:-}" ] || die 4 "$name is not here; tools/model.sh get $name"
        elif [ -z "$model_sha256" ]; then
            printf '%s: no checksum is known\n' "$name"
        elif [ "$(eval "all_sha256 $(quote "$model_file") $model_rest")" = "$model_sha256" ]; then
            printf '%s: as recorded\n' "$name"
        else
            printf '%s: DIFFERS from %s; remove %s and get it again\n' "$name" "$model_sha256" "$model_file"
            verify_status=1
        fi
    done
    return "$verify_status"
}

# Refuses what zosia would: as the program itself says, where it has been built for
# this machine, else by magic and version, and a name that means a part.
check_header() {
    case $(od -An -v -tx1 -N 8 "$1" | tr -d ' \n') in
        4747554602000000 | 4747554603000000) ;;
        47475546*) die 4 "$1 has another version of GGUF than 2 and 3, or is big-endian; convert the model again with a current llama.cpp" ;;
        *) die 4 "$1 is not a GGUF file; zosia reads models in that format only" ;;
    esac
    case $1 in
        *-00001-of-00001.gguf) ;;
        *-[0-9][0-9][0-9][0-9][0-9]-of-[0-9][0-9][0-9][0-9][0-9].gguf)
            die 4 "$1 is one part of a model, and import copies one file; tools/run.sh takes the first part where it lies, with the others beside it"
            ;;
    esac
    native=${ZOSIA_NATIVE:-${tools%/*}/out/native/init}
    [ -x "$native" ] || return 0
    refusal=$("$native" --mode diag "$1" 2>/dev/null | sed -n 's/^model: .*\[ZE-/&/p') || return 0
    [ -z "$refusal" ] || die 4 "${refusal#model: }"
}

import_model() {
    { [ $# -ge 1 ] && [ $# -le 2 ]; } || die 2 "import FILE [NAME]"
    [ -f "$1" ] || die 4 "there is no file $1"
    name=${2:-${1##*/}}
    name=${name%.gguf}
    is_model_name "$name" ||
        die 2 "import: $name cannot be a model's name, which has letters, digits, dots, dashes and underscores; give one: import FILE NAME"
    ! find_entry "$name" || die 2 "import: $name is in the catalogue; choose another NAME"
    check_header "$1"
    model_file=$models_dir/$name.gguf
    model_name=$name
    mkdir -p "$models_dir"
    lock "$model_file" "importing $name"
    [ ! -e "$model_file" ] || die 4 "$model_file exists; remove it first, or choose another NAME"
    require_disk "$(file_bytes "$1")"
    trap 'hide_step; rm -f "$model_file.import"; unlock' EXIT
    cp "$1" "$model_file.import"
    import_sha256=$(file_sha256 "$1")
    [ "$(file_sha256 "$model_file.import")" = "$import_sha256" ] || die 4 "the copy of $1 differs from it; check the disk"
    printf '%s\n' "$import_sha256" >"$model_file.sha256"
    mv "$model_file.import" "$model_file"
    unlock
    say "imported; to chat: tools/run.sh $name"
}

trap 'hide_step; unlock' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
command=${1:-}
[ $# -eq 0 ] || shift
case $command in
    list) list_models ;;
    names) list_names ;;
    get) get_models "$@" ;;
    verify) verify_models "$@" ;;
    import) import_model "$@" ;;
    path)
        [ $# -eq 1 ] || die 2 "path NAME"
        named_or_die "$1"
        model_is_here || die 4 "$1 is not here; tools/model.sh get $1"
        printf '%s\n' "$model_file"
        ;;
    -h | --help) usage ;;
    '') usage >&2 && exit 2 ;;
    *) die 2 "unknown command $command (tools/model.sh --help)" ;;
esac
