# shellcheck shell=sh
# Rounds of zosia and of llama-bench. Sourced after measure.sh; uses the caller's variables.
# shellcheck disable=SC2154,SC2034 # the caller assigns and reads them

# A table of each kind of work; row(kind, tokens, who) and what stands above are the caller's.
# shellcheck disable=SC2016 # awk's own variables
awk_tables='
    function table(kind, tokens) {
        row(kind, tokens, "zosia"); row(kind, tokens, "llama-default"); row(kind, tokens, "llama-flags")
    }
    END {
        print what
        if (pp > 0) table("pp", pp)
        if (tg > 0) table("tg", tg)
    }
'

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

# add_round WHAT COMMAND...: its lines of JSON are appended to $scratch/rounds, each behind
# WHAT and a tab.
add_round() {
    round_of=$1
    shift
    with_deadline "$@" </dev/null 2>"$scratch/peer.err" >"$scratch/peer.out" ||
        die 1 "${round_of%%"$tab"*} failed: $(tail -n 1 "$scratch/peer.err")"
    grep '^{' "$scratch/peer.out" | sed "s/^/$round_of$tab/" >>"$scratch/rounds"
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
            add_round "$name" "$@"
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
    awk -F '\t' -v pp="$pp" -v tg="$tg" -v unit="$unit" "$awk_statistics$awk_tables"'
        $1 == "zosia" {
            array($2, "prefill_ns", v); add("pp", "zosia", pp, v[1])
            array($2, "decode_ns", v); add("tg", "zosia", tg, v[1])
            what = scalar($2, "model") ", level " scalar($2, "cpu") (scalar($2, "repacked") == "true" ? ", repacked, " : ", mapped, ") scalar($2, "threads") " threads, after " scalar($2, "depth_tokens") " tokens"
            next
        }
        { add(scalar($2, "n_gen") > 0 ? "tg" : "pp", $1, scalar($2, "n_gen") > 0 ? tg : pp, scalar($2, "avg_ns")) }
        function add(kind, who, tokens, ns) { if (tokens > 0 && ns > 0) rate[kind, who, ++count[kind, who]] = tokens * 1e9 / ns }
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
