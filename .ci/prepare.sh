# Sourced by ./demo and ./test: what the machine must have, asked for once and said plainly. Not a program of its own.

say() { printf '%s\n' "$*" >&2; }
fail() { say "error: $1"; [ -z "${2:-}" ] || say "  next: $2"; exit 1; }

# Installs Debian packages, when at least one of them is missing.
need_packages() {
    local missing=() package
    for package in "$@"; do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
    done
    [ "${#missing[@]}" -gt 0 ] || return 0
    local as_root=()
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null || fail "the packages ${missing[*]} are missing" "as root: apt-get install ${missing[*]}"
        as_root=(sudo)
    fi
    say "installing ${missing[*]} (Debian packages)"
    "${as_root[@]}" apt-get update -q >/dev/null || fail "the package lists could not be updated" "apt-get update"
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}" >/dev/null \
        || fail "the packages could not be installed" "apt-get install ${missing[*]}"
}

# A C compiler, for the C in SQLite, zstd, aws-lc and ring. No cmake, no protoc, no OpenSSL.
need_compiler() {
    if command -v cc >/dev/null && printf '#include <stdlib.h>\n' | cc -x c -S -o - - >/dev/null 2>&1; then
        return 0
    fi
    command -v dpkg-query >/dev/null || fail "there is no C compiler" "install gcc and the C library's headers"
    need_packages gcc libc6-dev
}

need_rust() {
    if ! command -v cargo >/dev/null && [ -r "${CARGO_HOME:-$HOME/.cargo}/env" ]; then
        . "${CARGO_HOME:-$HOME/.cargo}/env"
    fi
    command -v cargo >/dev/null || fail "there is no cargo" "install Rust with rustup (https://rustup.rs); the version is in rust-toolchain.toml"
}
