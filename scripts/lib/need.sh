# Sourced by scripts that need Debian packages; keeps the time and tells how the script ended.
#
#   begin 'doing something'         says so, and what failed if the script then fails
#   need COMMAND:PACKAGE…           installs what is missing with apt-get, by root or by sudo without a password;
#                                   otherwise names it and ends the script

step='starting'
say() { printf '[%3dm%02ds] %s\n' $((SECONDS / 60)) $((SECONDS % 60)) "$*"; }
begin() { step=$1; say "$1"; }
finish() {
    local status=$?
    allow_services
    if ((status == 0)); then say "$1"; else say "failed while $step (status $status)" >&2; fi
}

# Debian keeps servers out of a plain user's PATH; the newest PostgreSQL comes first.
extend_path() {
    local dir
    for dir in /usr/sbin /usr/lib/postgresql/*/bin; do
        if [[ -d $dir && :$PATH: != *:$dir:* ]]; then PATH=$dir:$PATH; fi
    done
    export PATH
}

# Fills `missing` with the packages of those needs whose command, or file, is not there.
find_missing() {
    local need what
    extend_path
    missing=()
    for need in "$@"; do
        what=${need%%:*}
        if [[ $what == /* ]]; then [[ -e $what ]] && continue; fi
        command -v "$what" >/dev/null || missing+=("${need#*:}")
    done
}

# Freshly installed servers would start at once and take their ports; Debian asks this file first.
policy=/usr/sbin/policy-rc.d
policy_is_ours=
forbid_services() {
    if [[ -e $policy ]]; then return; fi
    policy_is_ours=yes
    printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" install -m 755 /dev/stdin "$policy"
}
allow_services() {
    if [[ $policy_is_ours ]]; then "${as_root[@]}" rm -f "$policy"; fi
    policy_is_ours=
}

as_root=()
install_missing() {
    command -v apt-get >/dev/null || return 1
    if ((EUID != 0)); then
        sudo -n true 2>/dev/null || return 1
        as_root=(sudo -n)
    fi
    begin "installing ${missing[*]}"
    "${as_root[@]}" apt-get -qq update || return 1
    forbid_services
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get -qq -y --no-install-recommends install "${missing[@]}" >/dev/null || return 1
    allow_services
}

need() {
    find_missing "$@"
    if ((${#missing[@]})); then
        install_missing || true
        find_missing "$@"
    fi
    if ((${#missing[@]})); then
        say "missing Debian packages: ${missing[*]}" >&2
        say "install them with: sudo apt-get install ${missing[*]}" >&2
        exit 1
    fi
}
