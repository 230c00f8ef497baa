# shellcheck shell=sh
# How a benchmark runs, what is made of its figures, and how it is recorded.
# Sourced by the scripts beside it, which have set bench, this folder; uses their
# variables.
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

# One private directory, gone at the end.
open_bench() {
    scratch=$(mktemp -d "${TMPDIR:-/tmp}/zosia-bench.XXXXXX")
    neighbour_ids=''
    trap 'end_neighbours; rm -rf "$scratch"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
}

# The model that find_model found, fetched if it is not here.
get_model() {
    [ -n "$model_source" ] && ! model_is_here || return 0
    "$tools/model.sh" get "$model_name" >/dev/null || die 4 "$model_name cannot be fetched; give a .gguf file"
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
    open_bench
    find_model "${model:-smollm2-135m}"
    get_model
    engine_threads=${threads:-auto}
    threads=${threads:-$(host_cores)}
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
    deadline_status=0
    wait "$deadline_child" || deadline_status=$?
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

zosia_parameters() {
    for setting in $settings; do printf ' zosia.%s' "$setting"; done
}

# measure WORKLOAD: one line of JSON from zosia on standard output.
measure() {
    if [ "$where" = native ]; then
        # shellcheck disable=SC2046 # one word a line, none with blanks
        with_deadline "$top/out/native/init" --mode bench --bench "$1" --threads "$engine_threads" \
            $(zosia_flags) "$model_file" </dev/null
        return
    fi
    measure_status=0
    run_guest "zosia.mode=bench zosia.bench=$1$(zosia_parameters)" || measure_status=$?
    # Firmware leaves the cursor in the middle of a line.
    tr -d '\r' <"$scratch/console" | grep -ao '{"zosia".*}' && return 0
    [ "$measure_status" = 0 ] || return "$measure_status"
    tail -n 5 "$scratch/console" >&2
    return 1
}

# run_guest PARAMETERS: the machine with the model, until it is switched off; what
# its console shows goes to $scratch/console.
run_guest() {
    qemu_for_bench
    set -- --arch "$guest_arch" --smp "$threads" --append "zosia.threads=$engine_threads $1" ${cpu:+--cpu "$cpu"} ${accel:+--accel "$accel"}
    [ -z "$instructions" ] || set -- "$@" --accel tcg --smp 1
    with_deadline env ZOSIA_QEMU="$scratch/qemu/bin/$qemu_name" "$tools/run.sh" "$@" "$model_file" \
        >"$scratch/console" </dev/null
}

find_bench_qemu() {
    bench_qemu=$(command -v "${ZOSIA_QEMU:-$qemu_name}") ||
        { "$tools/deps.sh" "run-$guest_arch" >&2 && bench_qemu=$(command -v "$qemu_name"); } ||
        die 3 "QEMU ($qemu_name) is not installed"
}

# QEMU with what a benchmark adds to tools/run.sh's own machine: $qemu_extra.
qemu_for_bench() {
    find_bench_qemu
    mkdir -p "$scratch/qemu/bin"
    # Firmware is looked for beside QEMU.
    ln -sfn "$(dirname "$(dirname "$bench_qemu")")/share" "$scratch/qemu/share"
    {
        echo '#!/bin/sh'
        # The probe of an accelerator and --version get nothing added.
        echo 'case " $* " in *" -name zosia "*) ;; *) exec '"$bench_qemu"' "$@" ;; esac'
        echo "exec $bench_qemu \"\$@\"${instructions:+ -icount shift=0}${qemu_extra:-}"
    } >"$scratch/qemu/bin/$qemu_name"
    chmod +x "$scratch/qemu/bin/$qemu_name"
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
    [ "$where" = vm ] || return 0
    find_bench_qemu
    printf ',"guest_arch":"%s","qemu":"%s","accel":"%s","cpu":"%s","guest_kernel":"%s"' "$guest_arch" \
        "$("$bench_qemu" --version | sed -n '1s/^QEMU emulator version //p')" "${accel:-auto}" "${cpu:-auto}" \
        "$(sed -n 's/^kernel\.version=//p' "$top/out/manifest$suffix.txt" 2>/dev/null)"
}

bench_host() { printf '%s\n' "${ZOSIA_BENCH_HOST:-$(uname -n)}" | tr -c 'A-Za-z0-9.\n-' _; }

# Hashing gigabytes takes seconds: once a run.
model_hash() {
    [ -s "$scratch/sha256" ] || file_sha256 "$model_file" >"$scratch/sha256"
    cat "$scratch/sha256"
}

# record NAME: standard input becomes bench/runs/DATE-HOST/TIME-NAME.json.
record() {
    record_folder=$bench/runs/$(date -u +%Y-%m-%d)-$(bench_host)
    mkdir -p "$record_folder"
    record_file=$record_folder/$(date -u +%H%M%S)-$1.json
    cat >"$record_file"
    # What writes it is a pipe away: its failure shows here.
    [ "$(tail -c 2 "$record_file" | tr -d '\n')" = '}' ] || { rm -f "$record_file" && die 1 "the record $1 is not whole"; }
    say "recorded in ${record_file#"$top/"}"
    [ -z "$json" ] || cat "$record_file"
}

# A line of zosia's JSON as a table.
print_zosia() {
    awk -v instructions="$instructions" "$awk_statistics"'
        {
            printf "%s, level %s, %s, %s threads, context %s, %s before\n", scalar($0, "model"), scalar($0, "cpu"), scalar($0, "repacked") == "true" ? "repacked" : "mapped", scalar($0, "threads"), scalar($0, "ctx_tokens"), scalar($0, "depth_tokens")
            printf "loaded in %.2f s, %.0f MiB of memory beside the file\n", scalar($0, "load_ms") / 1e3, scalar($0, "anonymous_bytes") / 1048576
            row("pp", scalar($0, "prefill_tokens"), "prefill_ns")
            row("tg", scalar($0, "decode_tokens"), "decode_ns")
            n = array($0, "sample_ns", s); m = array($0, "decode_ns", d)
            if (mean(d, m) > 0) printf "drawing takes %.2f %% of a token; ", 100 * mean(s, n) / mean(d, m)
            n = array($0, "decode_page_faults", f)
            printf "%d page faults a run while generating\n", median(f, n)
        }
        function row(name, tokens, key,   v, n, i) {
            n = array($0, key, v)
            if (!n || tokens + 0 == 0) return
            for (i = 1; i <= n; i++) v[i] = instructions ? v[i] / tokens / 1e6 : tokens * 1e9 / v[i]
            printf "%s %-5d %10.2f ± %.2f %s (median %.2f of %d)\n", name, tokens, mean(v, n), sd(v, n), instructions ? "million instructions a token" : "tok/s", median(v, n), n
        }'
}

run_plain() {
    line=$(measure "$pp,$tg,$runs,$depth") || return $?
    printf '{%s,"unit":"%s","zosia":%s}\n' "$(environment)" "${instructions:+instructions}" "$line" | record "${instructions:+instructions-}$where"
    [ -n "$json" ] || printf '%s\n' "$line" | print_zosia
    [ -z "$min" ] || printf '%s\n' "$line" | awk -v min="$min" "$awk_statistics"'
        {
            n = array($0, "decode_ns", v)
            for (i = 1; i <= n; i++) v[i] = scalar($0, "decode_tokens") * 1e9 / v[i]
            if (n && mean(v, n) >= min) exit 0
            printf "tok-s.sh: %.2f tokens a second, below the %s asked for\n", mean(v, n), min > "/dev/stderr"
            exit 1
        }'
}

# --- beside llama-bench ------------------------------------------------------------

# Rounds of zosia and its peers, every other one turned round, appended to $scratch/rounds:
# a name, a tab and a line of JSON.
run_versus() {
    line=$(measure 0,0,0) || return $?
    link_peers
    : >"$scratch/rounds"
    if [ "$where" = native ]; then native_rounds; else guest_rounds; fi || return $?
    {
        printf '{%s,"unit":"%s","peer":"llama-bench of llama-cpp-python %s","pp":%s,"tg":%s,"depth":%s,"threads":%s,"settings":"%s","rounds":[\n' \
            "$(environment)" "${instructions:+instructions}" "$("$bench/peer.sh" --version)" "$pp" "$tg" "$depth" "$threads" "${settings# }"
        awk -F '\t' '{ printf "%s{\"who\":\"%s\",\"result\":%s}", (NR > 1 ? ",\n" : ""), $1, $2 } END { print "\n]}" }' "$scratch/rounds"
    } | record "versus-${instructions:+instructions-}$where"
    [ -n "$json" ] || print_versus
}

# What llama-bench is asked for: the same work, and keys and values of the same type.
peer_flags() {
    kv=f16
    for setting in $settings; do
        case $setting in kv=*) kv=${setting#*=} ;; esac
    done
    printf '%s\n' -p "$pp" -n "$tg" -d "$depth" -r 1 -t "$threads" -ctk "$kv" -ctv "$kv" -o jsonl
}

# The peers' executables, as $scratch/NAME; $line is a line of zosia's.
link_peers() {
    level_flags=$(scalar_of "$line" cpu_flags)
    machine=native
    case $where/$guest_arch in
        vm/aarch64) machine=aarch64 ;;
        native/* | vm/"$own_arch") ;;
        *) die 2 "--vs: llama.cpp is built for a guest of this machine's own architecture, or for aarch64" ;;
    esac
    for one_peer in $peer; do
        case $one_peer in
            llama-default) peer_build=$("$bench/peer.sh" "$machine") ;;
            llama-flags) peer_build=$("$bench/peer.sh" "$machine" "$level_flags") ;;
        esac
        ln -sfn "$peer_build/bin/llama-bench" "$scratch/$one_peer"
    done
}

# The commands of one round, name first, words between tabs; every other ROUND
# is turned round. PEERS is the folder of the peers' executables.
round_commands() { # ROUND ZOSIA PEERS MODEL
    {
        # shellcheck disable=SC2046 # one word a line, none with blanks
        words zosia "$2" --mode bench --bench "$pp,$tg,1,$depth" --threads "$engine_threads" $(zosia_flags) "$4"
        for one_peer in $peer; do
            # shellcheck disable=SC2046 # one word a line, none with blanks
            words "$one_peer" "$3/$one_peer" -m "$4" $(peer_flags)
        done
    } >"$scratch/round"
    if [ $(($1 % 2)) -eq 1 ]; then sed '1!G;h;$!d' "$scratch/round"; else cat "$scratch/round"; fi
}

words() {
    words_line=$1
    shift
    for word in "$@"; do words_line="$words_line$tab$word"; done
    printf '%s\n' "$words_line"
}

native_rounds() {
    native_round=0
    while [ "$native_round" -lt "$runs" ]; do
        round_commands "$native_round" "$top/out/native/init" "$scratch" "$model_file" >"$scratch/commands"
        while IFS= read -r words_line; do
            saved_ifs=$IFS
            IFS=$tab
            set -f
            # shellcheck disable=SC2086 # tabs split it
            set -- $words_line
            set +f
            IFS=$saved_ifs
            name=$1
            shift
            with_deadline "$@" </dev/null 2>"$scratch/peer.err" >"$scratch/peer.out" ||
                die 1 "$name failed: $(tail -n 1 "$scratch/peer.err")"
            grep '^{' "$scratch/peer.out" | sed "s/^/$name$tab/" >>"$scratch/rounds"
        done <"$scratch/commands"
        native_round=$((native_round + 1))
    done
}

# One boot of zosia's own kernel, whose PID 1 is bench/guest: it has zosia in
# /init, as always, and the peers from a second initramfs.
guest_rounds() {
    "$tools/deps.sh" bench >&2
    guest_target=${ZOSIA_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/zosia}/artefacts
    show env CARGO_TARGET_DIR="$guest_target" cargo build --quiet --manifest-path "$top/Cargo.toml" --release --locked \
        --package bench-guest --target "$guest_arch-unknown-linux-gnu" >&2 || die 3 "bench/guest cannot be built"
    guest_root=$scratch/initramfs
    mkdir -p "$guest_root/peer"
    cp "$guest_target/$guest_arch-unknown-linux-gnu/release/bench-guest" "$guest_root/bench-guest"
    for one_peer in $peer; do cp "$scratch/$one_peer" "$guest_root/peer/$one_peer"; done
    guest_round=0
    while [ "$guest_round" -lt "$runs" ]; do
        round_commands "$guest_round" /init /peer /dev/vda
        guest_round=$((guest_round + 1))
    done >"$guest_root/plan"
    (cd "$guest_root" && find . | cpio --quiet -o -H newc) >"$scratch/bench.cpio"
    qemu_extra=" -initrd $scratch/bench.cpio"
    guest_status=0
    run_guest rdinit=/bench-guest || guest_status=$?
    qemu_extra=
    tr -d '\r' <"$scratch/console" | awk '/@@ /{ sub(/.*@@ /, ""); name = $1; next } /^\{/{ print name "\t" $0 }' >>"$scratch/rounds"
    [ "$(grep -c '^zosia' "$scratch/rounds")" -ge "$runs" ] && return 0
    tail -n 20 "$scratch/console" >&2
    [ "$guest_status" = 0 ] || return "$guest_status"
    die 1 "the guest did not do all rounds; the end of its console is above"
}

# Each kind of work: medians, and the ratio of zosia to each peer, pair by pair.
print_versus() {
    unit=tok/s
    [ -z "$instructions" ] || unit='tok a 10^9 instructions'
    awk -F '\t' -v pp="$pp" -v tg="$tg" -v unit="$unit" "$awk_statistics"'
        $1 == "zosia" {
            array($2, "prefill_ns", v); add("pp", "zosia", pp, v[1])
            array($2, "decode_ns", v); add("tg", "zosia", tg, v[1])
            what = scalar($2, "model") ", level " scalar($2, "cpu") (scalar($2, "repacked") == "true" ? ", repacked, " : ", mapped, ") scalar($2, "threads") " threads, after " scalar($2, "depth_tokens") " tokens"
            next
        }
        { add(scalar($2, "n_gen") > 0 ? "tg" : "pp", $1, scalar($2, "n_gen") > 0 ? tg : pp, scalar($2, "avg_ns")) }
        END {
            print what
            if (pp > 0) table("pp", pp)
            if (tg > 0) table("tg", tg)
        }
        function add(kind, who, tokens, ns) { if (tokens > 0 && ns > 0) rate[kind, who, ++count[kind, who]] = tokens * 1e9 / ns }
        function table(kind, tokens) {
            row(kind, tokens, "zosia"); row(kind, tokens, "llama-default"); row(kind, tokens, "llama-flags")
        }
        function row(kind, tokens, who,   i, n, v, r) {
            n = count[kind, who]
            if (!n) return
            for (i = 1; i <= n; i++) { v[i] = rate[kind, who, i]; r[i] = rate[kind, "zosia", i] / v[i] }
            sort(v, n); sort(r, n)
            printf "%s %-5d %-14s median %9.2f %s (%.2f to %.2f of %d)", kind, tokens, who, median(v, n), unit, v[1], v[n], n
            if (who != "zosia") printf "   zosia / this: median %.3f (%.3f to %.3f)", median(r, n), r[1], r[n]
            print ""
        }' "$scratch/rounds"
}

# --- beside neighbours -------------------------------------------------------------

# Endless loops, each in a session of its own where there are any to share by.
start_neighbours() { # N
    own_session=
    ! command -v setsid >/dev/null || own_session=setsid
    while [ "$(printf '%s' "$neighbour_ids" | wc -w)" -lt "$1" ]; do
        $own_session sh -c 'while :; do :; done' </dev/null >/dev/null 2>&1 &
        neighbour_ids="$neighbour_ids $!"
    done
}

end_neighbours() {
    for neighbour_id in $neighbour_ids; do
        kill "$neighbour_id" 2>/dev/null || :
        wait "$neighbour_id" 2>/dev/null || :
    done
    neighbour_ids=''
}

# One line of JSON for each kind of work, what is measured in front, appended to
# $scratch/rounds. zosia's first of three runs finds out who is here.
measure_beside() { # N
    start_neighbours "$1"
    line=$(measure "$pp,$tg,3,$depth") || return $?
    printf 'zosia\t%s\t%s\n' "$1" "$line" >>"$scratch/rounds"
    for one_peer in $peer; do
        # shellcheck disable=SC2046 # one word a line, none with blanks
        with_deadline "$scratch/$one_peer" -m "$model_file" $(peer_flags) \
            </dev/null 2>"$scratch/peer.err" >"$scratch/peer.out" ||
            die 1 "$one_peer failed: $(tail -n 1 "$scratch/peer.err")"
        grep '^{' "$scratch/peer.out" | sed "s/^/$one_peer$tab$1$tab/" >>"$scratch/rounds"
    done
    end_neighbours
}

run_beside() {
    line=$(measure 0,0,0) || return $?
    link_peers
    : >"$scratch/rounds"
    beside_round=0
    while [ "$beside_round" -lt "$runs" ]; do
        beside_round=$((beside_round + 1))
        measure_beside 0 || return $?
        measure_beside "$neighbours" || return $?
    done
    {
        printf '{%s,"unit":"","peer":"llama-bench of llama-cpp-python %s","pp":%s,"tg":%s,"depth":%s,"threads":"%s","neighbours":%s,"settings":"%s","rounds":[\n' \
            "$(environment)" "$("$bench/peer.sh" --version)" "$pp" "$tg" "$depth" "$engine_threads" "$neighbours" "${settings# }"
        awk -F '\t' '{ printf "%s{\"who\":\"%s\",\"neighbours\":%s,\"result\":%s}", (NR > 1 ? ",\n" : ""), $1, $2, $3 } END { print "\n]}" }' "$scratch/rounds"
    } | record "neighbours-$neighbours-$where"
    [ -n "$json" ] || print_beside
}

# Each kind of work: medians without and beside neighbours, their ratio, and beside
# them that of zosia to each peer.
print_beside() {
    awk -F '\t' -v pp="$pp" -v tg="$tg" -v neighbours="$neighbours" "$awk_statistics"'
        $1 == "zosia" {
            each("pp", pp, $2, "prefill_ns")
            each("tg", tg, $2, "decode_ns")
            what = scalar($3, "model") ", level " scalar($3, "cpu") ", up to " scalar($3, "threads") " threads, beside " neighbours
            next
        }
        { add(scalar($3, "n_gen") > 0 ? "tg" : "pp", $1, $2, scalar($3, "n_gen") > 0 ? tg : pp, scalar($3, "avg_ns")) }
        END {
            print what
            if (pp > 0) table("pp", pp)
            if (tg > 0) table("tg", tg)
        }
        function each(kind, tokens, beside, key,   n, i, v) {
            n = array($3, key, v)
            for (i = 1; i <= n; i++) add(kind, "zosia", beside, tokens, v[i])
        }
        function add(kind, who, beside, tokens, ns) {
            if (tokens > 0 && ns > 0) rate[kind, who, beside, ++count[kind, who, beside]] = tokens * 1e9 / ns
        }
        function table(kind, tokens) {
            row(kind, tokens, "zosia"); row(kind, tokens, "llama-default"); row(kind, tokens, "llama-flags")
        }
        function sorted(kind, who, beside, into,   i, n) {
            n = count[kind, who, beside]
            for (i = 1; i <= n; i++) into[i] = rate[kind, who, beside, i]
            sort(into, n)
            return n
        }
        function row(kind, tokens, who,   n, m, a, b) {
            n = sorted(kind, who, 0, a)
            m = sorted(kind, who, neighbours, b)
            if (!n || !m) return
            printf "%s %-5d %-14s without %9.2f (%.2f to %.2f of %d)   beside %9.2f (%.2f to %.2f of %d)   ratio %.3f", kind, tokens, who, median(a, n), a[1], a[n], n, median(b, m), b[1], b[m], m, median(b, m) / median(a, n)
            if (who == "zosia") ours[kind] = median(b, m)
            else printf "   zosia / this, beside: %.1f", ours[kind] / median(b, m)
            print ""
        }' "$scratch/rounds"
}

# --- sweeps ------------------------------------------------------------------------

gen_matrix() {
    echo "threads,batch_threads,repack,kv,poll"
    most=$(detect_host && host_cores)
    matrix_threads=1
    while :; do
        for matrix_repack in on off; do
            for matrix_kv in f16 q8_0; do
                echo "$matrix_threads,$matrix_threads,$matrix_repack,$matrix_kv,50"
            done
        done
        [ "$matrix_threads" -lt "$most" ] || break
        matrix_threads=$((matrix_threads * 2 < most ? matrix_threads * 2 : most))
    done
    echo "$most,$most,auto,f16,0"
    echo "$most,$most,auto,f16,100"
}

# Each line of $matrix measured; CSV on standard output and in the record.
run_matrix() {
    matrix_settings=$settings matrix_threads=$threads
    IFS= read -r matrix_names <"$matrix"
    echo "$matrix_names,level,repacked,pp_tok_s,pp_sd,tg_tok_s,tg_sd,load_ms,anonymous_mib" >"$scratch/matrix.csv"
    sed 1d "$matrix" | grep . >"$scratch/matrix.in" || die 2 "--matrix: $matrix has no line after its first"
    while IFS= read -r matrix_line; do
        settings=$matrix_settings threads=$matrix_threads
        # shellcheck disable=SC2013 # words are meant
        for matrix_setting in $(awk -v names="$matrix_names" -v values="$matrix_line" 'BEGIN {
            n = split(names, name, ","); split(values, value, ",")
            for (i = 1; i <= n; i++) print name[i] "=" value[i]
        }'); do
            case $matrix_setting in
                threads=*) threads=${matrix_setting#*=} engine_threads=${matrix_setting#*=} ;;
                *) settings="$settings $matrix_setting" ;;
            esac
        done
        line=$(measure "$pp,$tg,$runs,$depth") || return $?
        printf '%s\n' "$line" | awk -v values="$matrix_line" "$awk_statistics"'
            function rates(key, tokens, v,   n, i) {
                n = array($0, key, v)
                for (i = 1; i <= n; i++) v[i] = tokens * 1e9 / v[i]
                return n
            }
            {
                n = rates("prefill_ns", scalar($0, "prefill_tokens"), p)
                rates("decode_ns", scalar($0, "decode_tokens"), d)
                printf "%s,%s,%s,%.2f,%.2f,%.2f,%.2f,%s,%.0f\n", values, scalar($0, "cpu"), scalar($0, "repacked"), mean(p, n), sd(p, n), mean(d, n), sd(d, n), scalar($0, "load_ms"), scalar($0, "anonymous_bytes") / 1048576
            }' >>"$scratch/matrix.csv"
        tail -n 1 "$scratch/matrix.csv" >&2
    done <"$scratch/matrix.in"
    settings=$matrix_settings threads=$matrix_threads
    cat "$scratch/matrix.csv"
    mkdir -p "$bench/runs/$(date -u +%Y-%m-%d)-$(bench_host)"
    cp "$scratch/matrix.csv" "$bench/runs/$(date -u +%Y-%m-%d)-$(bench_host)/$(date -u +%H%M%S)-matrix-$where.csv"
}
