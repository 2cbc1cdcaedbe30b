#!/bin/sh
# Called by `make install`: a venv of its own, the configuration if there is none, the units.
#
#   tools/install.sh DESTDIR PREFIX SYSCONFDIR BINDIR LIBDIR PYTHON
set -eu
cd "$(dirname "$0")/.."
destdir=$1 prefix=$2 sysconfdir=$3 bindir=$4 libdir=$5 python=$6

if ! "$python" -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))'; then
    echo "make install: $python must be Python 3.11 or newer with venv (apt-get install python3-venv)" >&2
    exit 1
fi
if [ -z "$destdir" ] && [ "$(id -u)" -ne 0 ]; then
    echo "make install: must be root (or give DESTDIR=)" >&2
    exit 1
fi

venv=$destdir$prefix
echo "Installing recorderd into $venv"
# Every file of a service must be readable by its user, whatever root's umask is.
umask 022
"$python" -m venv --clear "$venv"
# From a copy: setuptools leaves build/ and egg-info in the tree that it builds from.
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
tar -c --exclude=./.venv --exclude=./.git --exclude=./build --exclude=./var . | tar -x -C "$copy"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-compile "$copy"
# Without DESTDIR in them, so that the tree can be moved to its place.
for script in "$venv"/bin/*; do
    [ -L "$script" ] || sed -i "s|$venv|$prefix|g" "$script"
done
sed -i "s|$venv|$prefix|g" "$venv/pyvenv.cfg"
"$python" -m compileall -q -f -s "$destdir" "$venv/lib" || true

install -d "$destdir$bindir" "$destdir$libdir/systemd/system" "$destdir$libdir/sysusers.d" \
    "$destdir$libdir/tmpfiles.d" "$destdir$sysconfdir"
ln -sf "$prefix/bin/recorderd" "$prefix/bin/recorderctl" "$destdir$bindir/"
for unit in systemd/*.service systemd/*.target; do
    sed -e "s|/opt/recorderd|$prefix|g" -e "s|/etc/recorderd|$sysconfdir|g" "$unit" \
        >"$destdir$libdir/systemd/system/$(basename "$unit")"
done
install -m 644 systemd/sysusers.d/recorderd.conf "$destdir$libdir/sysusers.d/"
install -m 644 systemd/tmpfiles.d/recorderd.conf "$destdir$libdir/tmpfiles.d/"
if [ ! -e "$destdir$sysconfdir/config.yaml" ]; then
    install -m 640 config/recorderd.yaml "$destdir$sysconfdir/config.yaml"
fi
[ -z "$destdir" ] || exit 0

systemd-sysusers "$libdir/sysusers.d/recorderd.conf"
systemd-tmpfiles --create "$libdir/tmpfiles.d/recorderd.conf"
chgrp recorderd "$sysconfdir/config.yaml"
if [ -d /run/systemd/system ]; then
    systemctl daemon-reload
fi
cat <<END

recorderd is installed. What is left to do:
  1. On another machine, make the keys:      recorderctl keygen -o vault
     and copy vault.pub, only that, to       $sysconfdir/vault.pub
     Whoever has the file vault can listen to every recording; this host never needs it.
  2. Look through                            $sysconfdir/config.yaml
     and check it:                           recorderd check-config -c $sysconfdir/config.yaml
  3. Start, now and at every boot:           systemctl enable --now recorderd.target
  4. See that all is well:                   recorderctl -c $sysconfdir/config.yaml doctor
END
