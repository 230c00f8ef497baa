# shellcheck shell=sh
# Hugging Face's hub: which files a repository has. Sourced after download.sh and
# owners.sh.
# shellcheck disable=SC2034,SC2154 # variables are shared with them

# ask_hub NAME PATH: the answer in http_body.
ask_hub() {
    waits=0
    until transfer "$2"; do
        wait_as_asked || refused "$1"
    done
}

# find_in_hub NAME, whose parts split_repository has set: chooses a file of the
# repository as choose_file does, pinned to a revision, with size and SHA-256.
find_in_hub() {
    have curl || install_here "curl"
    ask_hub "$1" "$hub_endpoint/api/models/$repo_owner/$repo_name/revision/${repo_revision:-main}"
    hub_commit=$(printf '%s\n' "$http_body" | json - | sed -n "s/^\.sha$tab//p")
    model_licence=$(printf '%s\n' "$http_body" | json - | sed -n "s/^\.cardData\.license$tab//p")
    is_word "$hub_commit" || die 4 "$1: $(host_of "$hub_endpoint") does not answer as Hugging Face's hub does; check HF_ENDPOINT"
    hub_next="$hub_endpoint/api/models/$repo_owner/$repo_name/tree/$hub_commit?recursive=true"
    hub_files=''
    while [ -n "$hub_next" ]; do
        ask_hub "$1" "$hub_next"
        hub_files=$hub_files$newline$(printf '%s\n' "$http_body" | json - | hub_lines)
        # A long list comes in pages, each with the next one's address.
        hub_next=$(header link | sed -n 's/^<\([^>]*\)>; *rel="next".*/\1/p')
        case $hub_next in "$hub_endpoint"/*) ;; *) hub_next='' ;; esac
    done
    choose_in_hub
    [ -n "$choice" ] ||
        die 4 "$1: the repository has no such GGUF file; it has:$(printf '%s\n' "$hub_files" | sed -n "s/.*$tab\(.*\.gguf\)$/ \1/p" | tr '\n' ',' | sed 's/,$//')"
    end_choice "$1"
    is_sha256 "$model_sha256" || die 4 "$1: the hub tells no SHA-256 of $choice; download it by hand"
    model_name=$1
    model_file=$models_dir/hf/$repo_owner/$repo_name${repo_revision:+@$repo_revision}/${choice##*/}
    model_source=$(hub_source "$choice")
    model_licence=${model_licence:-licence not told}
    hub_rest='' model_rest='' rest_bytes=0
    if is_part "${choice##*/}" && [ "$part_count" -gt 1 ]; then find_hub_parts "$1"; fi
}

hub_source() { printf '%s\n' "$hub_endpoint/$repo_owner/$repo_name/resolve/$hub_commit/$(uri_path "$1")"; }

# The other parts of the choice: hub_rest has length, SHA-256, file and address of each, a
# line, tabs between; the rest is as find_parts sets it.
find_hub_parts() { # NAME
    require_few_parts "$1"
    part=2
    while [ "$part" -le "$part_count" ]; do
        part_path=$(part_name "$part")
        case $choice in */*) part_path=${choice%/*}/$part_path ;; esac
        hub_line=$(printf '%s\n' "$hub_files" | grep -F "$tab$part_path" | head -n 1)
        part_length=${hub_line%%"$tab"*}
        part_sha256=${hub_line#*"$tab"}
        part_sha256=${part_sha256%%"$tab"*}
        { are_counts "$part_length" && is_sha256 "$part_sha256"; } ||
            die 4 "$1 is in $part_count files, of which the hub lacks this one, or its SHA-256: $part_path"
        part_file=${model_file%/*}/${part_path##*/}
        hub_rest=$hub_rest$newline$part_length$tab$part_sha256$tab$part_file$tab$(hub_source "$part_path")
        model_rest="$model_rest $(quote "$part_file")"
        rest_bytes=$((rest_bytes + part_length))
        model_sha256=$model_sha256,$part_sha256
        part=$((part + 1))
    done
}

# Of a repository's tree: size, SHA-256 and path of each file, tabs between.
hub_lines() {
    LC_ALL=C awk -F "$tab" '
        {
            split($1, part, ".")
            key = substr($1, length(part[2]) + 3)
            entry[part[2], key] = $2
            if (part[2] + 0 >= count) count = part[2] + 1
        }
        END {
            for (i = 0; i < count; i++)
                if (entry[i, "type"] == "file" && entry[i, "path"] != "")
                    print entry[i, "size"] "\t" entry[i, "lfs.oid"] "\t" entry[i, "path"]
        }'
}

# Not in a pipe, whose variables would be lost.
choose_in_hub() {
    begin_choice "$repo_quant"
    model_bytes=''
    while IFS= read -r hub_line; do
        hub_path=${hub_line##*"$tab"}
        consider "$hub_path" || continue
        choice=$hub_path
        model_bytes=${hub_line%%"$tab"*}
        model_sha256=${hub_line#*"$tab"}
        model_sha256=${model_sha256%%"$tab"*}
    done <<END
$hub_files
END
    are_counts "$model_bytes" || choice=''
}

# What of a path has a meaning in an address, encoded.
uri_path() {
    printf '%s' "$1" | od -An -v -tx1 | LC_ALL=C awk '
        function value(hex) { return index("0123456789abcdef", substr(hex, 1, 1)) * 16 + index("0123456789abcdef", substr(hex, 2)) - 17 }
        {
            for (i = 1; i <= NF; i++) {
                c = sprintf("%c", value($i))
                printf "%s", c ~ /[A-Za-z0-9._\/-]/ ? c : "%" toupper($i)
            }
        }
        END { print "" }'
}
