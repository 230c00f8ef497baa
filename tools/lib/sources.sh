# shellcheck shell=sh
# What the EFI file is made from, and where one that was made from the same is kept,
# whichever checkout made it. Sourced after script.sh; uses the caller's $top.
# shellcheck disable=SC2034,SC2154 # it is assigned there, and efi used

efi_store=${ZOSIA_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/zosia}/efi

# Prints a name for the content of all that goes into the EFI file.
sources_key() {
    if have sha256sum; then set -- sha256sum; else set -- shasum -a 256; fi
    (cd "$top" && find init kernel Cargo.toml Cargo.lock -type f -exec "$@" {} + | LC_ALL=C sort | "$@" | cut -c 1-16)
}

# keep_efi KEY FILE: as made from these sources, here and in the store, where the
# last few are kept.
keep_efi() {
    printf '%s\n' "$1" >"$2.sources"
    mkdir -p "$efi_store/$1"
    cp "$2" "$efi_store/$1/${2##*/}.new"
    mv "$efi_store/$1/${2##*/}.new" "$efi_store/$1/${2##*/}"
    touch "$efi_store/$1"
    # shellcheck disable=SC2012 # the names are hexadecimal
    (cd "$efi_store" && ls -t | sed 1,4d | while read -r keep_old; do rm -rf "$keep_old"; done)
}

# find_made_efi KEY FILE sets efi: FILE, if it was made from these sources, or the
# one in the store that was.
find_made_efi() {
    efi=$2
    if [ -f "$2" ] && [ "$(cat "$2.sources" 2>/dev/null)" = "$1" ]; then return 0; fi
    if [ -f "$efi_store/$1/${2##*/}" ]; then
        efi=$efi_store/$1/${2##*/}
        return 0
    fi
    return 1
}
