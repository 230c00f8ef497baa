#!/bin/sh
# Proves that this tree is what it claims to be.
#
# Usage: tools/test.sh [--arch all] [PART]...
#
#   lint   formatting, clippy, shellcheck, licences and sources of crates
#   unit   the Rust tests that need no machine, and the scripts' own tests
#   fuzz   what takes bytes from outside, 20,000 inputs each
#   build  out/zosia.efi and out/init, for AArch64 and for x86_64
#   levels the kernels of every processor level, on processors that QEMU
#          emulates where this machine's is another
#   vm     boots what was built in QEMU, through firmware, and uses it; the
#          same program as a plain command; what is inside the artefacts;
#          that docs/reliability.md tells what was seen
#   docs   the documentation builds, explains every error, and names files
#          that exist
#
#   --arch all   the vm part boots everything on x86_64, too: without it, all of it
#                on AArch64, and on x86_64 what differs there
#
# Without PART: all of them, in this order. What is missing on a Debian machine
# is installed. Everything that can be made again is kept in ZOSIA_CACHE
# (default ~/.cache/zosia). ZOSIA_TEST_MODEL=FILE takes that SmolLM2-135M
# instead of fetching it; ZOSIA_FAULTS=FILE keeps the records of faults there;
# ZOSIA_TEST_LOG=FILE shows the terminal under test live to who reads FILE.
set -eu

# Who starts this in the background or with nohup has signals ignored that the
# tests send, and what is ignored at the start no shell can trap.
if [ -z "${ZOSIA_SIGNALS:-}" ] && env --default-signal true 2>/dev/null; then
    ZOSIA_SIGNALS=default exec env --default-signal "$0" "$@"
fi

# Where this file is, not a link to it.
self=$0
while link=$(readlink "$self"); do
    case $link in /*) self=$link ;; *) self=$(dirname "$self")/$link ;; esac
done
top=$(CDPATH='' cd -P "$(dirname "$self")/.." && pwd -P)
# shellcheck source=tools/lib/script.sh
. "$top/tools/lib/script.sh"
cache=${ZOSIA_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/zosia}
CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$cache/target}
ZOSIA_CACHE=$cache
export CARGO_TARGET_DIR ZOSIA_CACHE
# shellcheck source=tools/lib/rust.sh disable=SC2154
. "$top/tools/lib/rust.sh"
# shellcheck source=tools/lib/qemu.sh
. "$top/tools/lib/qemu.sh"

shell_scripts() {
    find . \( -name .git -o -name target -o -name out -o -name site \) -prune -o -type f -print |
        while read -r file; do
            case $file in
                *.sh) echo "$file" ;;
                *.rs | *.md | *.toml | *.json | *.txt | *.lock) ;;
                *) if head -n 1 "$file" | grep -q '^#!/bin/\(ba\)\{0,1\}sh'; then echo "$file"; fi ;;
            esac
        done
}

test_lint() {
    show cargo fmt --all -- --check
    show cargo fmt --manifest-path tools/fuzz/Cargo.toml -- --check
    shell_scripts >"$scratch/scripts"
    echo "+ shellcheck -x ($(wc -l <"$scratch/scripts" | tr -d ' ') scripts)" >&2
    tr '\n' '\0' <"$scratch/scripts" | xargs -0 shellcheck -x
    # The release profile, so that llama.cpp is built once for everything.
    show cargo clippy --release --workspace --all-targets --locked -- -D warnings
    show cargo clippy --release --manifest-path tools/fuzz/Cargo.toml --locked -- -D warnings
    # What may be linked, and from where. Known holes need the network:
    # .github/workflows/ci.yml looks for them.
    provide_cargo_deny
    # It also looks at crates that only other systems link, which no build here fetches.
    show cargo fetch --quiet --locked
    show "$cargo_deny/bin/cargo-deny" --locked --offline check licenses bans sources
}

# Compiled once, without optimization: it runs for a second.
provide_cargo_deny() {
    cargo_deny=$cache/cargo-deny-0.20.2
    [ ! -x "$cargo_deny/bin/cargo-deny" ] || return 0
    show cargo install --quiet --locked --debug --root "$cargo_deny" --target-dir "$scratch/cargo-deny" \
        cargo-deny@0.20.2
}

# Tests that need a real model find it here; cargo alone ignores them.
provide_model() {
    if [ -z "${ZOSIA_TEST_MODEL:-}" ]; then
        ZOSIA_TEST_MODEL=$(tools/model.sh get smollm2-135m) || die 1 "there is no model to test with"
    fi
    export ZOSIA_TEST_MODEL
}

# Of the tests that cargo ignores, those that say they need a model: the others
# are parts of a test, run by it, or never end.
names_with_model() {
    find init -name '*.rs' -exec awk '
        /#\[ignore = "needs a model/ { wanted = 1 }
        wanted && match($0, /fn [a-z0-9_]+/) {
            print substr($0, RSTART + 3, RLENGTH - 3)
            wanted = 0
        }' {} +
}

# Tests that render the chat templates in llama.cpp's source look for it themselves.
provide_templates() {
    tools/llama-source.sh >"$scratch/llama-source" || die 1 "there are no chat templates to test with"
}

test_unit() {
    provide_model
    provide_templates
    show cargo test --release --workspace --exclude vmtest --locked
    names=$(names_with_model)
    [ -n "$names" ] || die 1 "no test needs a model: the search looks for nothing"
    echo "+ cargo test --release --package engine --package gguf -- --ignored ($(echo "$names" | wc -l | tr -d ' ') tests)" >&2
    # shellcheck disable=SC2086 # words
    cargo test --release --package engine --package gguf --locked --lib -- --ignored $names
    show cargo test --package vmtest --lib --locked
    for script in tools/test-*.sh; do
        [ ! -f "$script" ] || show sh "$script"
    done
}

test_fuzz() {
    show tools/fuzz/run.sh --runs 20000
}

test_build() {
    show tools/build.sh --arch all
}

# Each level's kernels alone: what the level does not permit is then an illegal
# instruction. A processor that lacks the level fails the test.
test_levels() {
    show tools/build.sh --kernel-tests
    qemu=$(user_emulator aarch64) || die 1 "there is no qemu-aarch64, although deps.sh should have installed it"
    for level in v80 v82 v86; do
        show env ZOSIA_TEST_LEVEL="$level" "$qemu" -cpu "$(level_cpu "$level")" out/kernel-tests
    done
    if [ "$(uname -m)" != x86_64 ]; then
        say "levels x64, avx2 and avx512: SKIPPED; they are built on x86_64 only"
        return 0
    fi
    qemu=$(user_emulator x86_64) || die 1 "there is no qemu-x86_64, although deps.sh should have installed it"
    for level in x64 avx2 avx512; do
        if native_level "$level" env this_processor >"$scratch/level" 2>&1; then
            show native_level "$level" env
        elif native_level "$level" "$qemu -cpu max" this_processor >"$scratch/level" 2>&1; then
            show native_level "$level" "$qemu -cpu max"
        else
            lacking=$(sed -n 's/.*missing: "\([^"]*\)".*/\1/p' "$scratch/level")
            [ -n "$lacking" ] || {
                cat "$scratch/level" >&2
                die 1 "the kernels of level $level cannot be tested: see above"
            }
            say "level $level: SKIPPED; neither this processor nor QEMU's runs it: it lacks $lacking"
        fi
    done
}

native_level() { # LEVEL RUNNER [TEST]
    env ZOSIA_TEST_LEVEL="$1" CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER="$2" \
        cargo test --release --quiet --package ggml --lib --locked -- ${3:+"$3"}
}

test_vm() {
    # What is there may be of other sources; what is not is done in a moment.
    test_build
    provide_model
    # The plain command that is tested beside the machine, and the tool that
    # makes one of its disks.
    show cargo build --release --package init --package zosia-disk --locked
    faults=${ZOSIA_FAULTS:-$scratch/faults}
    : >"$faults"
    boot_tests aarch64 "$faults"
    show tools/reliability.py "$faults"
    if [ -n "$all_archs" ]; then
        boot_tests x86_64 "$scratch/faults-x86_64"
        return 0
    fi
    # shellcheck disable=SC2086 # words
    listed=$(cargo test --quiet --package vmtest --locked --test '*' -- --list --exact $pc_tests | grep -c ': test$')
    # shellcheck disable=SC2086 # words
    [ "$listed" = "$(printf '%s\n' $pc_tests | wc -l)" ] || die 1 "pc_tests in tools/test.sh names tests that are not there"
    # shellcheck disable=SC2086 # words
    boot_tests x86_64 "$scratch/faults-x86_64" --exact $pc_tests
}

# boot_tests ARCH FAULTS [OPTION]...: the harness itself only waits: no need to optimize it.
# One test after the other: two emulated machines at a time disturb each other.
boot_tests() {
    boot_arch=$1
    boot_faults=$2
    shift 2
    show env ZOSIA_TEST_ARCH="$boot_arch" ZOSIA_FAULTS="$boot_faults" \
        cargo test --package vmtest --locked --test '*' --no-fail-fast -- --test-threads=1 "$@"
}

# What differs on a PC: the firmware, how disks and slots are found, the serial port,
# the command line, ports, the end, a panic, and what an engine may do. (tests/boards.rs
# boots PCs whatever is under test.)
pc_tests='
    a_command_line_longer_than_the_kernels_is_told
    a_disk_that_is_pulled_out_is_told_and_used_again_when_it_is_back
    a_kernel_that_panics_ends_run_sh_with_the_consoles_tail
    a_machine_that_is_stopped_in_an_answer_goes_on
    a_machine_without_its_console_takes_the_one_that_there_is
    a_turn_is_kept_whenever_the_power_goes
    a_writable_disk_is_never_written
    an_encrypted_session_is_opened_at_the_prompt
    answers_from_a_gpt_disk_with_an_erofs_partition
    keys_pastes_and_sizes_on_the_serial_line
    refuses_a_gguf_one_byte_short_on_a_file_system
    run_sh_is_suspended_and_what_kills_it_leaves_nothing
    the_machine_reads_texts_from_their_disk_and_from_file_systems
    the_machine_shows_that_an_engine_can_do_nothing_but_compute
    what_the_key_has_signed_boots
    what_was_altered_or_never_signed_does_not_boot
'

# Files that the documentation names, in code quotes or as links.
named_files() {
    # shellcheck disable=SC2016 # the backquotes are Markdown's
    grep -hoE '`(init|kernel|tools|bench|docs|\.ci)/[A-Za-z0-9_./-]+`' README.md docs/*.md |
        tr -d '`' | sort -u
}

test_docs() {
    python=$cache/mkdocs-$(cksum <docs/requirements.txt | cut -d ' ' -f 1)
    if [ ! -x "$python/bin/mkdocs" ]; then
        rm -rf "$python"
        show python3 -m venv "$python"
        show "$python/bin/pip" install --quiet --disable-pip-version-check -r docs/requirements.txt
    fi
    show "$python/bin/mkdocs" build --strict --quiet --site-dir "$scratch/site"
    show "$python/bin/python" docs/check_messages.py
    show "$python/bin/python" docs/plots.py --check
    named_files >"$scratch/named"
    [ -s "$scratch/named" ] || die 1 "the documentation names no files: the check looks for nothing"
    while read -r named; do
        [ -e "$named" ] || die 1 "the documentation names $named, which is not there"
    done <"$scratch/named"
}

parts=
all_archs=
while [ $# -gt 0 ]; do
    part=$1
    shift
    case $part in
        --arch)
            [ "${1:-}" = all ] || die 2 "--arch takes all (tools/test.sh --help)"
            all_archs=1
            shift
            ;;
        lint | unit | fuzz | build | levels | vm | docs) parts="$parts $part" ;;
        -h | --help)
            usage
            exit 0
            ;;
        *) die 2 "unknown part $part; parts are lint, unit, fuzz, build, levels, vm and docs" ;;
    esac
done

cd "$top"
scratch=$(mktemp -d "${TMPDIR:-/tmp}/zosia-test.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

show tools/deps.sh test
rust_targets=' aarch64-unknown-linux-gnu x86_64-unknown-linux-gnu'
find_rust || die 1 "there is no Rust for$rust_targets, although deps.sh should have installed it"
PATH=$rust_dir:$PATH
for part in ${parts:-lint unit fuzz build levels vm docs}; do
    printf '\n== %s ==\n' "$part" >&2
    began=$(date +%s)
    "test_$part"
    printf '== %s: passed in %s s ==\n' "$part" "$(($(date +%s) - began))" >&2
done
