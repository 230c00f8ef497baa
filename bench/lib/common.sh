# shellcheck shell=sh
# How a benchmark runs, what is made of its figures, and how it is recorded.
# Sourced by the scripts of the folder above, which have set bench, that folder; uses
# their variables.
# shellcheck disable=SC2154,SC2034 # the caller assigns and reads them

top=${bench%/*}
tools=$top/tools
# shellcheck source=tools/lib/script.sh
. "$tools/lib/script.sh"
# shellcheck source=tools/lib/host.sh
. "$tools/lib/host.sh"
# shellcheck source=tools/lib/catalogue.sh
. "$tools/lib/catalogue.sh"

# Statistics of tokens a second, from JSON lines with nanoseconds in arrays.
# shellcheck disable=SC2016 # awk's own variables
awk_statistics='
    # The numbers of the array called key in the JSON object in line.
    function array(line, key, into,   at, rest) {
        at = index(line, "\"" key "\":[")
        if (!at) return 0
        rest = substr(line, at + length(key) + 4)
        rest = substr(rest, 1, index(rest, "]") - 1)
        return split(rest, into, ",")
    }
    function scalar(line, key,   at, rest) {
        at = index(line, "\"" key "\":")
        if (!at) return ""
        rest = substr(line, at + length(key) + 3)
        sub(/^ */, "", rest)
        if (substr(rest, 1, 1) == "\"") { rest = substr(rest, 2); sub(/".*/, "", rest); return rest }
        sub(/[,}].*/, "", rest)
        return rest
    }
    function sort(v, n,   i, j, t) {
        for (i = 2; i <= n; i++) {
            t = v[i]
            for (j = i - 1; j >= 1 && v[j] > t; j--) v[j + 1] = v[j]
            v[j + 1] = t
        }
    }
    function mean(v, n,   i, s) { for (i = 1; i <= n; i++) s += v[i]; return n ? s / n : 0 }
    function sd(v, n,   i, m, s) {
        m = mean(v, n)
        for (i = 1; i <= n; i++) s += (v[i] - m) ^ 2
        return n > 1 ? sqrt(s / (n - 1)) : 0
    }
    function median(v, n,   c, i) {
        for (i = 1; i <= n; i++) c[i] = v[i] + 0
        sort(c, n)
        return n % 2 ? c[(n + 1) / 2] : n ? (c[n / 2] + c[n / 2 + 1]) / 2 : 0
    }
'

scalar_of() { # LINE KEY
    printf '%s\n' "$1" | awk -v key="$2" "$awk_statistics"'{ print scalar($0, key) }'
}

# open_bench MODEL: one private directory, gone at the end; the model, fetched if it is not
# here; and how many threads: those that are given, or what the engine finds.
open_bench() {
    scratch=$(mktemp -d "${TMPDIR:-/tmp}/zosia-bench.XXXXXX")
    trap 'rm -rf "$scratch"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    find_model "${1:-smollm2-135m}"
    if [ -n "$model_source" ] && ! model_is_here; then
        "$tools/model.sh" get "$model_name" >/dev/null || die 4 "$model_name cannot be fetched; give a .gguf file"
    fi
    engine_threads=${threads:-auto}
    threads=${threads:-$(host_cores)}
}

# prepare_model OPTIONS ARGUMENT...: reads the arguments of a script that takes
# these options, and has its model ready on this machine.
prepare_model() {
    known_options=$1
    shift
    model='' threads='' settings='' timeout=3600 where=native json=''
    while [ $# -gt 0 ]; do
        case $1 in
            -h | --help) usage && exit 0 ;;
            -*)
                case " $known_options " in *" $1 "*) ;; *) die 2 "unknown option $1 (bench/$program --help)" ;; esac
                [ $# -ge 2 ] || die 2 "$1 needs a value"
                [ "$1" = --set ] || [ "$1" = --level ] || [ "$1" = --repack ] || are_counts "$2" || die 2 "$1 takes a whole number above 0, not $2"
                ;;
        esac
        case $1 in
            --runs) runs=$2 && shift ;;
            --ctx) ctx=$2 && shift ;;
            --tokens) tokens=$2 && shift ;;
            --pace) pace=$2 && shift ;;
            --parallel) parallel=$2 && shift ;;
            --threads) threads=$2 && shift ;;
            --level) level=$2 && shift ;;
            --repack) repack=$2 && shift ;;
            --set) settings="$settings $2" && shift ;;
            *) model=$1 ;;
        esac
        shift
    done
    detect_host
    open_bench "$model"
}

# The same, and the plain command.
prepare_native() {
    prepare_model "$@"
    "$tools/build.sh" --native >&2
}

# with_deadline COMMAND...: ends it after $timeout seconds.
with_deadline() {
    "$@" &
    deadline_child=$!
    # Its own descriptors are closed: a pipe ends with what it is for.
    (
        trap 'kill $!' TERM
        sleep "$timeout" &
        wait $! && kill "$deadline_child"
    ) >/dev/null 2>&1 </dev/null &
    deadline_timer=$!
    # A background job of a script does not hear Ctrl-C.
    trap 'kill "$deadline_child" "$deadline_timer" 2>/dev/null; exit 130' INT
    trap 'kill "$deadline_child" "$deadline_timer" 2>/dev/null; exit 143' TERM
    deadline_status=0
    wait "$deadline_child" || deadline_status=$?
    trap 'exit 130' INT
    trap 'exit 143' TERM
    kill "$deadline_timer" 2>/dev/null || :
    wait "$deadline_timer" 2>/dev/null || :
    if [ "$deadline_status" = 143 ]; then
        say "ended after $timeout s (--timeout)"
    elif [ "$deadline_status" -gt 128 ]; then
        say "${1##*/} was ended by signal $((deadline_status - 128))"
    fi
    return "$deadline_status"
}

# zosia_flags: the parameters in $settings as flags of the plain command.
zosia_flags() {
    for setting in $settings; do
        printf -- '--%s\n%s\n' "$(printf '%s' "${setting%%=*}" | tr _ -)" "${setting#*=}"
    done
}

# What the figures depend on besides the model and the options, as JSON fields.
environment() {
    environment_commit=$(git -C "$top" rev-parse --short HEAD 2>/dev/null) || environment_commit=unknown
    git -C "$top" diff --quiet HEAD -- init kernel tools Cargo.lock 2>/dev/null || environment_commit=$environment_commit+changes
    if [ "$host_os" = Darwin ]; then
        environment_cpu=$(sysctl -n machdep.cpu.brand_string)
    else
        environment_cpu=$(sed -n 's/^model name[^:]*: *//p' /proc/cpuinfo | head -n 1)
    fi
    printf '"date":"%s","commit":"%s","host":"%s","host_cpu":"%s","host_cores":%s,"host_kernel":"%s","where":"%s","model_file":"%s","model_sha256":"%s"' \
        "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$environment_commit" "$(bench_host)" "${environment_cpu:-$host_arch}" \
        "$(host_cores)" "$(uname -sr)" "$where" "${model_file##*/}" "$(model_hash)"
    [ "$where" = native ] || guest_environment
}

bench_host() { printf '%s\n' "${ZOSIA_BENCH_HOST:-$(uname -n)}" | tr -c 'A-Za-z0-9.\n-' _; }

# Hashing gigabytes takes seconds: once a run.
model_hash() {
    [ -s "$scratch/sha256" ] || file_sha256 "$model_file" >"$scratch/sha256"
    cat "$scratch/sha256"
}

# new_record NAME: the file in bench/runs, whose folder is there then.
new_record() {
    record_folder=$bench/runs/$(date -u +%Y-%m-%d)-$(bench_host)
    mkdir -p "$record_folder"
    printf '%s\n' "$record_folder/$(date -u +%H%M%S)-$1"
}

# record NAME: standard input becomes bench/runs/DATE-HOST/TIME-NAME.json.
record() {
    record_file=$(new_record "$1.json")
    cat >"$record_file"
    # What writes it is a pipe away, and a figure that it asks for may fail: both show here.
    if [ "$(tail -c 2 "$record_file" | tr -d '\n')" != '}' ] || grep -q '":[],}]' "$record_file"; then
        rm -f "$record_file"
        die 1 "the record $1 is not whole"
    fi
    say "recorded in ${record_file#"$top/"}"
    [ -z "$json" ] || cat "$record_file"
}
