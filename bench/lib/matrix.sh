# shellcheck shell=sh
# One measurement for each line of a CSV file. Sourced after measure.sh; uses the caller's
# variables.
# shellcheck disable=SC2154,SC2034 # the caller assigns and reads them

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
    cp "$scratch/matrix.csv" "$(new_record "matrix-$where.csv")"
}
