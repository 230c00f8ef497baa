# shellcheck shell=sh
# Which Rust builds here, and for what: sourced, not run.

# The architecture of this machine, as artefacts are named by it.
own_arch() {
    case $(uname -m) in arm64 | aarch64) echo aarch64 ;; *) uname -m ;; esac
}

# Rust's names of the architectures that are wanted, which the caller says.
rust_targets=$(own_arch)-unknown-linux-gnu
# The workspace's rust-version is 1.this.
rust_needs=88

# rust_builds DIR: whether DIR/cargo and DIR/rustc are new enough and have the
# standard library of each target.
rust_builds() {
    [ -x "$1/cargo" ] && [ -x "$1/rustc" ] || return 1
    rust_minor=$("$1/rustc" --version 2>/dev/null | sed -n 's/^rustc 1\.\([0-9]*\)\..*/\1/p')
    [ "${rust_minor:-0}" -ge "$rust_needs" ] || return 1
    rust_sysroot=$("$1/rustc" --print sysroot) || return 1
    for rust_target in $rust_targets; do
        set -- "$rust_sysroot/lib/rustlib/$rust_target/lib"/libstd-*.rlib
        [ -f "$1" ] || return 1
    done
}

# find_rust sets rust_dir, where cargo and rustc are: those of the caller's
# PATH, else rustup's, else the distribution's.
find_rust() {
    rust_dir=$(command -v cargo) && rust_dir=$(dirname "$rust_dir") &&
        rust_builds "$rust_dir" && return 0
    for rust_dir in "${CARGO_HOME:-$HOME/.cargo}/bin" /usr/bin; do
        if rust_builds "$rust_dir"; then return 0; fi
    done
    rust_dir=
    return 1
}
