# shellcheck shell=sh
# Rounds without and beside endless loops. Sourced after peers.sh; uses the caller's variables.
# shellcheck disable=SC2154,SC2034 # the caller assigns and reads them

neighbour_ids=''

# Endless loops, each in a session of its own where there are any to share by.
start_neighbours() { # N
    trap 'end_neighbours; rm -rf "$scratch"' EXIT
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
        add_round "$one_peer$tab$1" "$scratch/$one_peer" -m "$model_file" $(peer_flags)
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
    awk -F '\t' -v pp="$pp" -v tg="$tg" -v neighbours="$neighbours" "$awk_statistics$awk_tables"'
        $1 == "zosia" {
            each("pp", pp, $2, "prefill_ns")
            each("tg", tg, $2, "decode_ns")
            what = scalar($3, "model") ", level " scalar($3, "cpu") ", up to " scalar($3, "threads") " threads, beside " neighbours
            next
        }
        { add(scalar($3, "n_gen") > 0 ? "tg" : "pp", $1, $2, scalar($3, "n_gen") > 0 ? tg : pp, scalar($3, "avg_ns")) }
        function each(kind, tokens, beside, key,   n, i, v) {
            n = array($3, key, v)
            for (i = 1; i <= n; i++) add(kind, "zosia", beside, tokens, v[i])
        }
        function add(kind, who, beside, tokens, ns) {
            if (tokens > 0 && ns > 0) rate[kind, who, beside, ++count[kind, who, beside]] = tokens * 1e9 / ns
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
