# shellcheck shell=sh
# What bench/tok-s.sh measures: zosia alone, natively or in its machine.
# Sourced after common.sh and tools/lib/qemu.sh; uses the caller's variables.
# shellcheck disable=SC2154,SC2034 # the caller assigns and reads them

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

# What else the figures of a guest depend on, as JSON fields.
guest_environment() {
    find_bench_qemu
    printf ',"guest_arch":"%s","qemu":"%s","accel":"%s","cpu":"%s","guest_kernel":"%s"' "$guest_arch" \
        "$("$bench_qemu" --version | sed -n '1s/^QEMU emulator version //p')" "${accel:-auto}" "${cpu:-auto}" \
        "$(sed -n 's/^kernel\.version=//p' "$top/out/manifest$suffix.txt" 2>/dev/null)"
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
