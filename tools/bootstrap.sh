#!/bin/sh
# Makes a machine ready: installs what is missing, and nothing that is there.
#
#   tools/bootstrap.sh WHAT...     WHAT: recorder, run, test, sbc, remotes, buckets, bench, system (what each needs
#                                  beyond the others), venv
#
# As root on Debian missing programs come from apt; otherwise they are named and the script stops. What is only
# wished for (sbc, remotes, buckets) stops nothing: the tests that want it are skipped without it.
set -eu
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}
# The programs of administrators are no part of a user's PATH.
PATH=$PATH:/usr/sbin:/sbin

missing=
wished=

# need PACKAGE COMMAND...: the apt package PACKAGE is missing if COMMAND fails.
need() {
    package=$1
    shift
    "$@" >/dev/null 2>&1 || missing="$missing $package"
}

# wish PACKAGE COMMAND...: the same, of one that can be done without.
wish() {
    package=$1
    shift
    "$@" >/dev/null 2>&1 || wished="$wished $package"
}

program() { command -v "$1"; }
library() { "$PYTHON" -c "import ctypes; ctypes.CDLL('$1')"; }

needs_of() {
    case $1 in
    recorder)
        need python3 program "$PYTHON"
        need python3-venv "$PYTHON" -c "import ensurepip, venv"
        need libopus0 library libopus.so.0
        ;;
    run)
        need baresip program baresip
        need espeak-ng program espeak-ng
        need sox program sox
        need iproute2 program ip
        ;;
    test)
        need sip-tester program sipp
        need tshark program tshark
        need tcpdump program tcpdump
        need ffmpeg program ffmpeg
        need opus-tools program opusenc
        need libbcg729-0 library libbcg729.so.0
        need libvo-amrwbenc0 library libvo-amrwbenc.so.0
        need rsyslog program rsyslogd
        need strace program strace
        need xfsprogs program mkfs.xfs
        need systemd program systemd-analyze
        ;;
    sbc)
        # Border controllers, for tests on their host. Sippy's comes with the venv.
        wish kamailio program kamailio
        wish kamailio-tls-modules ls /usr/lib/*/kamailio/modules/tls.so
        wish rtpengine-daemon program rtpengine
        ;;
    remotes)
        # Servers that keep copies, for tests against them.
        wish openssh-server program sshd
        wish nginx-light program nginx
        wish libnginx-mod-http-dav-ext ls /usr/lib/nginx/modules/ngx_http_dav_ext_module.so
        wish memcached program memcached
        wish swift-proxy program swift-proxy-server
        wish swift-account program swift-account-server
        wish swift-container program swift-container-server
        wish swift-object program swift-object-server
        ;;
    buckets)
        # Buckets that lock. 250 MB, so for `make test-faults` alone.
        wish ceph-mon program ceph-mon
        wish ceph-osd program ceph-osd
        wish radosgw program radosgw
        ;;
    bench)
        need iproute2 program ip
        ;;
    system)
        need mmdebstrap program mmdebstrap
        need systemd-container program systemd-nspawn
        ;;
    *)
        echo "bootstrap.sh: unknown: $1" >&2
        exit 2
        ;;
    esac
}

apt_install() {
    # What dpkg says of each package is noise; errors are on standard error.
    DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@" >/dev/null
}

may_install() { [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; }

install_missing() {
    if ! may_install; then
        echo "Some programs are missing. As root, run:" >&2
        echo "  apt-get install -y --no-install-recommends$missing" >&2
        exit 1
    fi
    echo "Installing:$missing"
    # The lists of packages may be absent or old; then the first try fails within a second.
    # shellcheck disable=SC2086 # names of packages, without spaces
    apt_install $missing 2>/dev/null && return
    for attempt in 1 2; do
        [ "$attempt" = 1 ] || sleep 5
        # shellcheck disable=SC2086
        apt-get update -q >/dev/null && apt_install $missing && return
    done
    echo "apt-get could not install:$missing" >&2
    exit 1
}

install_wished() {
    if may_install; then
        echo "Installing:$wished"
        # They are servers, and this host is not to become one: `systemctl unmask` makes them startable.
        if command -v systemctl >/dev/null; then
            for server in kamailio:kamailio rtpengine-daemon:rtpengine-daemon openssh-server:ssh nginx-light:nginx \
                memcached:memcached ceph-mon:ceph-crash swift-proxy:swift-proxy \
                swift-account:swift-account swift-account:swift-account-auditor swift-account:swift-account-reaper \
                swift-account:swift-account-replicator swift-container:swift-container \
                swift-container:swift-container-auditor swift-container:swift-container-reconciler \
                swift-container:swift-container-replicator swift-container:swift-container-sharder \
                swift-container:swift-container-sync swift-container:swift-container-updater \
                swift-object:swift-object swift-object:swift-object-auditor swift-object:swift-object-reconstructor \
                swift-object:swift-object-replicator swift-object:swift-object-updater; do
                case "$wished " in
                *" ${server%:*} "*) systemctl mask --quiet "${server#*:}.service" 2>/dev/null || : ;;
                esac
            done
        fi
        # shellcheck disable=SC2086
        apt_install $wished 2>/dev/null && return
        # shellcheck disable=SC2086
        apt-get update -q >/dev/null 2>&1 && apt_install $wished 2>/dev/null && return
    fi
    echo "Some tests are skipped without:$wished" >&2
}

make_venv() {
    if ! "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
        echo "$PYTHON is $("$PYTHON" -V); Python 3.11 or newer is needed (make PYTHON=...)" >&2
        exit 1
    fi
    # A venv whose Python is gone, or which was moved, is made anew.
    if ! .venv/bin/python -c "import sys; sys.exit(sys.prefix != '$PWD/.venv')" 2>/dev/null; then
        "$PYTHON" -m venv --clear .venv
    fi
    echo "Installing recorderd and its Python packages into .venv"
    pip_install || { sleep 5 && pip_install; }
}

pip_install() {
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
}

for what in "$@"; do
    [ "$what" = venv ] || needs_of "$what"
done
[ -z "$missing" ] || install_missing
[ -z "$wished" ] || install_wished
for what in "$@"; do
    [ "$what" != venv ] || make_venv
done
