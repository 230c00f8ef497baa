# shellcheck shell=sh
# The same program as a command on this machine, in the place of a guest. Sourced
# by run.sh after the others; uses run.sh's variables.
# shellcheck disable=SC2154 # they are assigned there and in host.sh and catalogue.sh

# provide_native sets native: the program, built where there is none that was made
# from these sources.
provide_native() {
    native=${ZOSIA_NATIVE:-}
    [ -z "$native" ] || return 0
    native=$top/out/native/init
    efi_key=$(sources_key)
    if ! find_made_efi "$efi_key" "$native"; then
        if [ -n "$dry_run" ]; then
            say "would build out/native/init"
            return 0
        fi
        # Together, as somebody else may have to be asked to install it.
        ! have apt-get || "$tools/deps.sh" native fetch >&2 || die 3 "building out/native/init takes what is missing here; see above"
        say "building out/native/init"
        choose_build_top "$native"
        [ -z "$build_top" ] || build_native
        find_made_efi "$efi_key" "$native" || die 3 "the build left no $native"
    fi
    native=$efi
}

build_native() {
    show "$build_top/tools/build.sh" --native >&2 || die 3 "the build failed; see above"
    keep_efi "$efi_key" "$build_top/out/native/init"
    unlock
}

# The words of --append as flags, quoted for a shell: zosia.temp=0 is --temp=0.
# Quotes and %XX are what the guest makes of them.
native_flags() {
    printf '%s\n' "$model_append$model_system$append" | LC_ALL=C awk '
        function value(hex) { return index("0123456789abcdef", tolower(substr(hex, 1, 1))) * 16 + index("0123456789abcdef", tolower(substr(hex, 2))) - 17 }
        function end_word() {
            if (word ~ /^zosia\./) {
                gsub(/\047/, "\047\\\047\047", word)
                printf " \047--%s\047", substr(word, 7)
            } else if (word != "") printf " \047--%s\047", word
            word = ""
        }
        {
            for (i = 1; i <= length($0); i++) {
                c = substr($0, i, 1)
                if (c == "\"") { quoted = !quoted; continue }
                if (c == " " && !quoted) { end_word(); continue }
                if (c == "%" && substr($0, i + 1, 2) ~ /^[0-9A-Fa-f][0-9A-Fa-f]$/) {
                    c = sprintf("%c", value(substr($0, i + 1, 2)))
                    i += 2
                }
                word = word c
            }
            end_word()
        }'
}

# attach_flags PATH...: what --attach named, quoted for a shell.
attach_flags() {
    for attach_path in "$@"; do
        printf ' %s' "$(quote --attach "$attach_path")"
    done
}

# run_native: the command takes this process's place, and with it its status.
run_native() {
    eval "set -- $(native_flags) $(eval "attach_flags $attach")"
    [ -z "$threads" ] || set -- "--threads=$threads" "$@"
    [ -z "$draft_model" ] || set -- "--draft-model=$draft_file" "$@"
    if [ -n "$session" ]; then
        [ -n "$dry_run" ] || (umask 077 && mkdir -p "${session_file%/*}")
        set -- "$@" "--session=$session_file" ${encrypt:+--encrypt=on}
    fi
    [ -z "$model_sha256" ] || set -- "$@" "--sha256=$model_sha256"
    case $turn in
        text) set -- "$@" -p "$prompt" ${json:+--json} ;;
        batch)
            set -- "$@" --batch "$batch" ${resume:+--resume} ${parallel:+--parallel="$parallel"}
            [ -z "$output" ] || set -- "$@" --output "$output"
            ;;
    esac
    set -- "$native" "$@" -- "$model_file"
    if [ -n "$dry_run" ]; then
        quote "$@"
        exit 0
    fi
    exec "$@"
}
