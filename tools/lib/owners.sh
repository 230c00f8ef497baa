# shellcheck shell=sh
# Models that other programs keep on this machine, by the names that those give
# them: Hugging Face's cache (which newer llama.cpp shares), LM Studio's, Ollama's
# and older llama.cpp's. Files are used where they lie; nothing is written there.
# Sourced after host.sh; uses catalogue.sh's variables.
# shellcheck disable=SC2034,SC2154 # which are shared

json() { LC_ALL=C awk -f "$tools/lib/json.awk" "$1"; }

# --- where they keep them ---------------------------------------------------------

# Run COMMAND ARGUMENT... with each folder that has PUBLISHER/REPOSITORY/FILE.
lmstudio_shelves() {
    shelf_home=$HOME/.lmstudio
    if [ -s "$HOME/.lmstudio-home-pointer" ]; then
        IFS= read -r shelf_home <"$HOME/.lmstudio-home-pointer" || :
    fi
    "$@" "$shelf_home/models"
    "$@" "$HOME/.cache/lm-studio/models"
    # The folder that its user has chosen.
    [ -r "$shelf_home/settings.json" ] || return 0
    shelf_chosen=$(json "$shelf_home/settings.json" | sed -n "s/^\.downloadsFolder$tab//p")
    [ -z "$shelf_chosen" ] || [ "$shelf_chosen" = "$shelf_home/models" ] || "$@" "$shelf_chosen"
}

hub_cache() {
    printf '%s\n' "${HF_HUB_CACHE:-${HUGGINGFACE_HUB_CACHE:-${HF_HOME:-${XDG_CACHE_HOME:-$HOME/.cache}/huggingface}/hub}}"
}

llama_cache() {
    if [ -n "${LLAMA_CACHE:-}" ]; then
        printf '%s\n' "$LLAMA_CACHE"
    elif [ "$(uname -s)" = Darwin ]; then
        printf '%s\n' "$HOME/Library/Caches/llama.cpp"
    else
        printf '%s\n' "${XDG_CACHE_HOME:-$HOME/.cache}/llama.cpp"
    fi
}

# The second is where its Linux installer puts a service's.
on_ollama_stores() {
    if [ -n "${OLLAMA_MODELS:-}" ]; then
        "$@" "$OLLAMA_MODELS"
    else
        "$@" "$HOME/.ollama/models"
        "$@" /usr/share/ollama/.ollama/models
    fi
}

# --- one file of a repository -----------------------------------------------------

# WORD as a pattern of the shell that is indifferent to case. Its characters are
# letters, digits and . _ - alone.
any_case() {
    printf '%s\n' "$1" | LC_ALL=C awk '{
        for (i = 1; i <= length($0); i++) {
            c = substr($0, i, 1)
            printf "%s", c ~ /[A-Za-z]/ ? "[" toupper(c) tolower(c) "]" : c
        }
        print ""
    }'
}

is_word() { case $1 in '' | .* | *[!A-Za-z0-9._-]*) return 1 ;; esac }

# Files beside a model that are none: projectors, statistics, draft heads.
is_companion() {
    case $1 in *mmproj* | *imatrix* | mtp-* | eagle3-* | dflash-* | dspark-*) ;; *) return 1 ;; esac
}

# is_part NAME: of a model in several files; sets part_stem, part_number and part_count.
is_part() {
    case $1 in
        *-[0-9][0-9][0-9][0-9][0-9]-of-[0-9][0-9][0-9][0-9][0-9].gguf) ;;
        *) return 1 ;;
    esac
    part_stem=${1%.gguf}
    part_count=$((1${part_stem##*-} - 100000))
    part_stem=${part_stem%-of-*}
    part_number=${part_stem##*-}
    part_stem=${part_stem%-*}
}

is_later_part() { is_part "$1" && [ "$part_number" != 00001 ]; }

# The quantization that a file's name ends in, or nothing.
quantization() {
    quant_stem=${1##*/}
    ! is_part "$quant_stem" || quant_stem=$part_stem.gguf
    quant_stem=${quant_stem%.gguf}
    quant=${quant_stem##*[-.]}
    if [ "$quant" = "$quant_stem" ] || ! is_word "$quant"; then quant=''; fi
}

# A choice among a repository's files by QUANT, which is the quantization in the
# file's name or that name; without it as llama.cpp chooses: Q4_K_M, else Q8_0, else
# what there is. begin_choice, then consider each: that which is the best so far
# succeeds. choice_ties has what is as good.
begin_choice() {
    choice='' choice_rank=9 choice_ties='' choice_companion=''
    choice_wanted=$1 choice_pattern=''
    ! is_word "$1" || choice_pattern=$(any_case "$1")
}

consider() { # PATH in the repository
    case $1 in *.gguf) ;; *) return 1 ;; esac
    consider_name=${1##*/}
    if is_companion "$consider_name"; then
        choice_companion=$consider_name
        return 1
    fi
    ! is_later_part "$consider_name" || return 1
    consider_rank=''
    if [ -z "$choice_wanted" ]; then
        case /$1 in
            *[-._/][Qq]4_[Kk]_[Mm][./-]*) consider_rank=1 ;;
            *[-._/][Qq]8_0[./-]*) consider_rank=2 ;;
            *) consider_rank=3 ;;
        esac
    elif [ "$1" = "$choice_wanted" ] || [ "$consider_name" = "${choice_wanted%.gguf}.gguf" ]; then
        consider_rank=0
    elif [ -n "$choice_pattern" ]; then
        # shellcheck disable=SC2254 # it is a pattern
        case /$1 in *[-._/]${choice_pattern}[./-]*) consider_rank=1 ;; esac
    fi
    [ -n "$consider_rank" ] || return 1
    if [ "$consider_rank" = "$choice_rank" ]; then
        choice_ties="$choice_ties, $consider_name"
        return 1
    fi
    [ "$consider_rank" -lt "$choice_rank" ] || return 1
    choice_rank=$consider_rank
    choice_ties=$consider_name
}

# end_choice NAME: refuses what is not clear, and says what is passed over.
end_choice() {
    case $choice_ties in
        *', '*) die 4 "$1 may be one of several: $choice_ties; add :FILE to the name, with the one you mean" ;;
    esac
    [ -z "$choice_companion" ] || say "$choice_companion is not a language model and is passed over"
}

# choose_file QUANT FOLDER [PREFIX]: sets choice to the path of the best file that is
# whole, of those whose names begin so.
choose_file() {
    begin_choice "$1"
    for choose_path in "$2/${3:-}"*.gguf "$2"/*/"${3:-}"*.gguf; do
        [ -f "$choose_path" ] || continue
        choose_name=${choose_path#"$2"/}
        ! consider "${choose_name#"${3:-}"}" || choice=$choose_path
    done
    [ -n "$choice" ]
}

# --- finding one ------------------------------------------------------------------

# find_owned NAME does for an owner's name what find_model does for a file. What
# is not of that form it leaves alone and fails.
find_owned() {
    case $1 in
        hf:*) find_hf "$1" ;;
        lms:*) find_lms "$1" ;;
        ollama:*) find_ollama "$1" ;;
        llama.cpp:*) find_llama_cpp "$1" ;;
        *) return 1 ;;
    esac
}

# More take more disks than a machine has slots for, and more checksums than its command
# line holds.
parts_max=20

# part_name N: the file's name of another part than is_part has told of.
part_name() { printf '%s-%05d-of-%05d.gguf\n' "$part_stem" "$1" "$part_count"; }

# Where model_file is the first of several parts, the others, quoted for a shell, are
# model_rest; rest_bytes is their length, and model_sha256 has theirs, too, if it has one
# and all are known.
find_parts() { # NAME
    model_rest='' rest_bytes=0
    if ! is_part "${model_file##*/}" || [ "$part_count" -lt 2 ]; then return 0; fi
    [ "$part_number" = 00001 ] ||
        die 4 "$1 is part $part_number of a model in $part_count files; give the first, $(part_name 1)"
    require_few_parts "$1"
    part=2
    while [ "$part" -le "$part_count" ]; do
        part_file=${model_file%/*}/$(part_name "$part")
        [ -f "$part_file" ] || die 4 "$1 is in $part_count files, of which this one is missing: $part_file"
        if [ -n "$model_sha256" ]; then
            part_sha256=$(kept_sha256 "$part_file")
            model_sha256=${part_sha256:+$model_sha256,$part_sha256}
        fi
        rest_bytes=$((rest_bytes + $(file_bytes "$part_file")))
        model_rest="$model_rest $(quote "$part_file")"
        part=$((part + 1))
    done
}

# The length of FILE and of all parts that belong to it; 0 where one is not there.
whole_bytes() { # FILE
    whole_bytes=$(file_bytes "$1")
    if is_part "${1##*/}" && [ "$part_count" -gt 1 ]; then
        part=2
        while [ "$part" -le "$part_count" ]; do
            part_file=${1%/*}/$(part_name "$part")
            if [ ! -f "$part_file" ]; then
                whole_bytes=0
                break
            fi
            whole_bytes=$((whole_bytes + $(file_bytes "$part_file")))
            part=$((part + 1))
        done
    fi
    printf '%s\n' "$whole_bytes"
}

require_few_parts() { # NAME
    [ "$part_count" -le "$parts_max" ] ||
        die 4 "$1 is in $part_count files, and a machine takes at most $parts_max; put them on one disk (zosia-disk create), and give that"
}

# The SHA-256 of a file that was fetched, or that a cache knows.
kept_sha256() { # FILE
    kept_sha256=''
    read -r kept_sha256 2>/dev/null <"$1.sha256" || kept_sha256=$(blob_sha256 "$1")
    printf '%s\n' "$kept_sha256"
}

# use_owned NAME FILE [SHA256]
use_owned() {
    [ -r "$2" ] || die 4 "$2, which is $1, cannot be read; check its permissions"
    model_name=$1 model_file=$(absolute "$2") model_source='' model_licence='' model_sha256=${3:-}
    model_append='' model_system='' model_bytes=$(file_bytes "$model_file")
    [ "$model_bytes" -gt 0 ] || die 4 "$2, which is $1, is empty; fetch it again there"
    find_parts "$1"
}

# split_repository NAME: hf:OWNER/REPO[@REVISION][:QUANT] as repo_owner, repo_name,
# repo_revision and repo_quant.
split_repository() {
    repo_name=${1#*:} repo_quant='' repo_revision=''
    case $repo_name in *:*) repo_quant=${repo_name#*:} repo_name=${repo_name%%:*} ;; esac
    case $1 in hf:*@*) repo_revision=${repo_name#*@} repo_name=${repo_name%%@*} ;; esac
    repo_owner=${repo_name%%/*}
    case $repo_name in */*) repo_name=${repo_name#*/} ;; *) repo_name='' ;; esac
    # Folders of LM Studio's may have any name.
    case $1:$repo_owner:$repo_name in
        hf:*) is_word "$repo_owner" && is_word "$repo_name" && is_word "${repo_revision:-main}" ;;
        *:.* | *:) false ;;
        *) case $repo_name in */*) false ;; esac ;;
    esac || die 2 "$1 is not the name of a repository, which is ${1%%:*}:OWNER/REPO, perhaps with :QUANT behind it"
}

# What zosia itself has fetched comes first, then the caches, then the hub.
find_hf() {
    split_repository "$1"
    if choose_file "$repo_quant" "$models_dir/hf/$repo_owner/$repo_name${repo_revision:+@$repo_revision}"; then
        end_choice "$1"
        read -r hf_sha256 2>/dev/null <"$choice.sha256" || hf_sha256=''
        use_owned "$1" "$choice" "$hf_sha256"
    elif find_snapshot "$(hub_cache)" || find_snapshot "$(llama_cache)"; then
        end_choice "$1"
        use_owned "$1" "$choice" "$(blob_sha256 "$choice")"
    elif [ -z "$repo_revision" ] && choose_file "$repo_quant" "$(llama_cache)" "${repo_owner}_${repo_name}_"; then
        end_choice "$1"
        use_owned "$1" "$choice"
    else
        find_in_hub "$1"
    fi
}

# find_snapshot CACHE: in the revision that is asked for, or which its owner calls
# main, or any that has it.
find_snapshot() {
    snapshots=$1/models--$repo_owner--$repo_name
    [ -d "$snapshots/snapshots" ] || return 1
    snapshot=
    read -r snapshot 2>/dev/null <"$snapshots/refs/${repo_revision:-main}" || :
    if [ -n "$snapshot" ] && is_word "$snapshot"; then
        ! choose_file "$repo_quant" "$snapshots/snapshots/$snapshot" || return 0
        [ -z "$repo_revision" ] || return 1
    fi
    for snapshot in "$snapshots/snapshots/$repo_revision"*; do
        ! choose_file "$repo_quant" "$snapshot" || return 0
    done
    return 1
}

# In Hugging Face's cache a file is a link to one whose name is its SHA-256.
blob_sha256() {
    blob=$(readlink "$1") || return 0
    ! is_sha256 "${blob##*/}" || printf '%s\n' "${blob##*/}"
}

is_sha256() { [ ${#1} = 64 ] && case $1 in *[!0-9a-f]*) return 1 ;; esac }

find_lms() {
    split_repository "$1"
    lms_file=''
    lmstudio_shelves choose_on_shelf "$1"
    [ -n "$lms_file" ] || die 4 "LM Studio has no $1 here; what is here: $tools/model.sh list"
    use_owned "$1" "$lms_file"
}

choose_on_shelf() { # NAME SHELF
    if [ -z "$lms_file" ] && choose_file "$repo_quant" "$2/$repo_owner/$repo_name"; then
        end_choice "$1"
        lms_file=$choice
    fi
}

find_llama_cpp() {
    llama_file=$(llama_cache)/${1#llama.cpp:}.gguf
    { case $1 in */*) false ;; esac && [ -f "$llama_file" ]; } ||
        die 4 "llama.cpp has no $1 here; what is here: $tools/model.sh list"
    use_owned "$1" "$llama_file"
}

# [HOST/][NAMESPACE/]MODEL[:TAG]
find_ollama() {
    ollama_name=${1#ollama:}
    case ${ollama_name##*/} in
        *:*) ollama_tag=${ollama_name##*:} ollama_name=${ollama_name%:*} ;;
        *) ollama_tag=latest ;;
    esac
    case $ollama_name in
        */*/*) ;;
        */*) ollama_name=registry.ollama.ai/$ollama_name ;;
        *) ollama_name=registry.ollama.ai/library/$ollama_name ;;
    esac
    case /$ollama_name/$ollama_tag/ in */../* | *//* | */./*) die 2 "$1 is not the name of a model of Ollama's" ;; esac
    ollama_blob=''
    on_ollama_stores look_in_ollama "$ollama_name/$ollama_tag"
    [ -n "$ollama_blob" ] || die 4 "Ollama has no $1 here; what is here: $tools/model.sh list"
    ! has_layer adapter || die 4 "$1 is a model with an adapter (LoRA), which zosia does not read; name the model that it is made from"
    ! has_layer projector || say "$1 has a projector for images, which is not a language model and is passed over"
    use_owned "$1" "$ollama_blob" "$ollama_sha256"
    take_settings "$ollama_store"
}

# What Ollama sets for this model, as parameters in model_append, and in model_system the
# system prompt, if the user has given none. Its template is in a language of its own; the
# model's file has one too.
take_settings() { # STORE
    settings_file=$1/blobs/sha256-$(layer_digest params)
    [ ! -f "$settings_file" ] ||
        model_append=$(json "$settings_file" | LC_ALL=C awk -F "$tab" '
            BEGIN {
                zosia[".temperature"] = "temp"
                zosia[".top_p"] = "top_p"
                zosia[".top_k"] = "top_k"
                zosia[".min_p"] = "min_p"
                zosia[".repeat_penalty"] = "repeat_penalty"
                zosia[".seed"] = "seed"
            }
            ($1 in zosia) && $2 ~ /^[0-9.]+$/ { printf " zosia.%s=%s", zosia[$1], $2 }')
    settings_file=$1/blobs/sha256-$(layer_digest system)
    case " ${append:-}" in *" zosia.system="*) settings_file='' ;; esac
    if [ -f "$settings_file" ]; then
        # A quotation mark has no place in a quoted value, but as its number.
        settings_system=$(percent_encode "$(sed 's/%/%25/g' "$settings_file")" | sed 's/"/%22/g')
        model_system=" zosia.system=\"$settings_system\""
    fi
    [ -z "$model_append$model_system" ] || say "Ollama's settings for this model are taken:$model_append$model_system"
}

look_in_ollama() { # NAME STORE
    if [ -z "$ollama_blob" ] && [ -f "$2/manifests/$1" ]; then
        ollama_store=$2
        read_manifest "$2" "$2/manifests/$1" || :
    fi
}

# read_manifest STORE MANIFEST sets ollama_layers, lines of kind and digest, and of
# the model's layer ollama_blob and ollama_sha256; fails where it is not whole.
read_manifest() {
    ollama_blob='' ollama_sha256=''
    ollama_layers=$(json "$2" | LC_ALL=C awk -F "$tab" '
        $1 == ".config.digest" { print "config " $2 }
        split($1, part, ".") == 4 && part[2] == "layers" { layer[part[3], part[4]] = $2; last = part[3] }
        END {
            for (i = 0; i <= last; i++) {
                sub(/^application\/vnd\.ollama\.image\./, "", layer[i, "mediaType"])
                print layer[i, "mediaType"], layer[i, "digest"]
            }
        }')
    ollama_sha256=$(layer_digest model)
    is_sha256 "$ollama_sha256" || return 1
    ollama_blob=$1/blobs/sha256-$ollama_sha256
    [ -f "$ollama_blob" ] || ollama_blob=$1/blobs/sha256:$ollama_sha256
    [ -f "$ollama_blob" ] || ollama_blob=''
    [ -n "$ollama_blob" ]
}

layer_digest() { printf '%s\n' "$ollama_layers" | sed -n "s/^$1 sha256://p" | head -n 1; }
has_layer() { [ -n "$(layer_digest "$1")" ]; }

# --- all of them ------------------------------------------------------------------

# each_owned COMMAND: runs COMMAND NAME FILE KIND for each model that others have here;
# KIND is its quantization, where a name tells it.
each_owned() {
    for each_folder in "$models_dir"/hf/*/*; do each_of_folder "$1" hf "$each_folder"; done
    each_snapshot "$1" "$(hub_cache)"
    [ "$(llama_cache)" = "$(hub_cache)" ] || each_snapshot "$1" "$(llama_cache)"
    for each_file in "$(llama_cache)"/*.gguf; do
        [ -f "$each_file" ] || continue
        each_name=${each_file##*/}
        ! is_later_part "$each_name" || continue
        quantization "$each_name"
        "$1" "llama.cpp:${each_name%.gguf}" "$each_file" "$quant"
    done
    lmstudio_shelves each_on_shelf "$1"
    on_ollama_stores each_in_ollama "$1"
}

each_snapshot() { # COMMAND CACHE
    for each_repo in "$2"/models--*--*; do
        [ -d "$each_repo/snapshots" ] || continue
        each_id=${each_repo##*/models--}
        each_id=${each_id%%--*}/${each_id#*--}
        each_main=
        read -r each_main 2>/dev/null <"$each_repo/refs/main" || :
        for each_folder in "$each_repo"/snapshots/*; do
            each_revision=${each_folder##*/}
            each_of_files "$1" "hf:$each_id" "$each_folder" "$each_repo/snapshots/${each_main:-$each_revision}"
        done
    done
}

each_of_folder() { # COMMAND OWNER FOLDER, whose path ends in PUBLISHER/REPOSITORY
    each_publisher=${3%/*}
    each_of_files "$1" "$2:${each_publisher##*/}/${3##*/}" "$3" "$3"
}

# The models in FOLDER, a revision; not those that MAIN, another, has as well.
each_of_files() { # COMMAND REPOSITORY FOLDER MAIN
    for each_file in "$3"/*.gguf "$3"/*/*.gguf; do
        [ -f "$each_file" ] || continue
        each_path=${each_file#"$3"/}
        each_name=$2
        if [ "$3" != "$4" ]; then
            [ ! -f "$4/$each_path" ] || continue
            each_name=$2@$(printf '%.12s' "${3##*/}")
        fi
        ! is_later_part "${each_path##*/}" || continue
        if is_companion "${each_path##*/}"; then
            "$1" "$each_name:${each_path##*/}" "$each_file" -
            continue
        fi
        quantization "$each_path"
        # By its quantization where that names this one alone.
        if [ -n "$quant" ] && each_quant=$quant && choose_file "$quant" "$3" &&
            [ "$choice" = "$each_file" ] && [ "$choice_ties" = "${each_path##*/}" ]; then
            "$1" "$each_name:$each_quant" "$each_file" "$each_quant"
        else
            each_path=${each_path##*/}
            "$1" "$each_name:${each_path%.gguf}" "$each_file" "${quant:-}"
        fi
    done
}

each_on_shelf() { # COMMAND SHELF
    for each_folder in "$2"/*/*; do each_of_folder "$1" lms "$each_folder"; done
}

each_in_ollama() { # COMMAND STORE
    for each_manifest in "$2"/manifests/*/*/*/*; do
        [ -f "$each_manifest" ] || continue
        read_manifest "$2" "$each_manifest" || continue
        each_name=${each_manifest#"$2"/manifests/}
        each_name=${each_name#registry.ollama.ai/}
        each_name=${each_name#library/}
        "$1" "ollama:${each_name%/*}:${each_name##*/}" "$ollama_blob" "$(ollama_quantization "$2")"
    done
}

# As the manifest's configuration tells it.
ollama_quantization() { # STORE
    ollama_config=$1/blobs/sha256-$(layer_digest config)
    [ ! -f "$ollama_config" ] || json "$ollama_config" | sed -n "s/^\.file_type$tab//p"
}

# The kind of model, as its header begins with it in nearly every file.
architecture() {
    head -c 4096 "$1" | od -An -v -tx1 | LC_ALL=C awk '
        function value(hex) { return index("0123456789abcdef", substr(hex, 1, 1)) * 16 + index("0123456789abcdef", substr(hex, 2)) - 17 }
        { for (i = 1; i <= NF; i++) text = text sprintf("%c", value($i) == 0 ? 10 : value($i)) }
        END {
            # A type of four bytes and a length of eight lie between key and value.
            if (substr(text, 1, 4) != "GGUF" || !(start = index(text, "general.architecture"))) exit
            text = substr(text, start + 32)
            match(text, /^[a-z0-9_.-]*/)
            print substr(text, 1, RLENGTH)
        }'
}
