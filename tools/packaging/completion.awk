# Prints zosia's completion for a shell, of the options in run.sh's help:
#   awk -v shell=bash -f completion.awk tools/run.sh       (bash, zsh or fish)

/^#   --? / { next }
/^#   -/ {
    option[++count] = $2
    # What stands two spaces on; an argument's name is in capitals.
    argument[$2] = $3 ~ /^[A-Z]+$/ ? $3 : ""
    text = $0
    sub(/^#   [^ ]+ ([A-Z]+ )? */, "", text)
    sub(/ *\(default.*/, "", text)
    gsub(/['"\\[\]:`$]/, "", text)
    about[$2] = text
}
!/^#/ && NR > 1 { exit }

END {
    choices["--accel"] = "hvf kvm tcg"
    choices["--vmm"] = "qemu vfkit"
    choices["--arch"] = "aarch64 x86_64"
    if (shell == "bash") bash()
    else if (shell == "zsh") zsh()
    else fish()
}

function bash(    i, name, all, plain) {
    print "# Completion of zosia's options and models for bash."
    print "_zosia() {"
    print "    local word=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]} name IFS=$'\\n'"
    print "    # Names of models have colons, at which bash parts words."
    print "    ! declare -F _get_comp_words_by_ref >/dev/null || _get_comp_words_by_ref -n : -c word -p previous"
    print "    case $previous in"
    for (i = 1; i <= count; i++) {
        name = option[i]
        all = all name "\\n"
        if (name in choices) {
            plain = choices[name]
            gsub(/ /, "\\n", plain)
            printf "        %s) COMPREPLY=($(compgen -W $'%s' -- \"$word\")) ;;\n", name, plain
        } else if (argument[name] == "FILE") {
            printf "        %s) COMPREPLY=($(compgen -f -- \"$word\")) ;;\n", name
        } else if (argument[name] != "") {
            printf "        %s) COMPREPLY=() ;;\n", name
        }
    }
    print "        *)"
    print "            case $word in"
    printf "                -*) COMPREPLY=($(compgen -W $'%s--help' -- \"$word\")) ;;\n", all
    print "                *)"
    print "                    # Not by compgen, which would run what a name has of commands."
    print "                    COMPREPLY=($(compgen -f -- \"$word\"))"
    print "                    while read -r name; do"
    print "                        [[ $name != \"$word\"* ]] || COMPREPLY+=(\"$name\")"
    print "                    done < <(echo models; zosia models names 2>/dev/null)"
    print "                    ;;"
    print "            esac"
    print "            ;;"
    print "    esac"
    print "    ! declare -F __ltrim_colon_completions >/dev/null || __ltrim_colon_completions \"$word\""
    print "}"
    print "complete -o filenames -F _zosia zosia"
}

function zsh(    i, name) {
    print "#compdef zosia"
    print "# Completion of zosia's options and models for zsh."
    print "_zosia_models() {"
    print "    local -a names"
    print "    names=(models \"${(@f)$(zosia models names 2>/dev/null)}\")"
    print "    compadd -a names"
    print "    _files"
    print "}"
    print "_arguments \\"
    for (i = 1; i <= count; i++) {
        name = option[i]
        printf "    '%s[%s]", name, about[name]
        if (name in choices) printf ":%s:(%s)", argument[name], choices[name]
        else if (argument[name] == "FILE") printf ":FILE:_files"
        else if (argument[name] != "") printf ":%s:", argument[name]
        print "' \\"
    }
    print "    '--help[show the help]' \\"
    print "    '*:model:_zosia_models'"
}

function fish(    i, name) {
    print "# Completion of zosia's options and models for fish."
    print "complete -c zosia -a 'models (zosia models names 2>/dev/null)'"
    print "complete -c zosia -l help -d 'show the help'"
    for (i = 1; i <= count; i++) {
        name = option[i]
        printf "complete -c zosia %s %s", name ~ /^--/ ? "-l" : "-o", substr(name, name ~ /^--/ ? 3 : 2)
        if (name in choices) printf " -x -a '%s'", choices[name]
        else if (argument[name] == "FILE") printf " -r -F"
        else if (argument[name] != "") printf " -x"
        printf " -d '%s'\n", about[name]
    }
}
