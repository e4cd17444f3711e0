# shellcheck shell=bash disable=SC2154  # dir, source and limit are set elsewhere
# Root file systems of Debian's suites, for test/matrix and test/package, which read
# this after setting
#
#	dir			the directory in which they are, and a log for each
#	source		this tree
#	limit		after how many seconds all must be over
#
# and which, called with --inside, have to call inside with what follows.
#
# debootstrap makes the roots.  What runs in one has namespaces for its mounts and
# processes, so nothing is left running or mounted, however this ends.

say() { echo "${0##*/}: $*"; }

# inside ROOT SECONDS COMMAND ...: the first process of new namespaces makes a
# directory the root, and runs a command there.  No chroot, in which tests could not
# have namespaces of their own.
inside() {
	local root=$1 seconds=$2 name status=0 environment
	shift 2
	mount --bind "$root" "$root"
	mount -t proc proc "$root/proc"
	mount --rbind /dev "$root/dev"
	mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
	environment=(PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8)
	for name in "${!LEASE_@}" ONLY COPT CC PG_CFLAGS SANITIZE KEEP PG_TEST_TIMEOUT_DEFAULT http_proxy https_proxy; do
		[ -z "${!name:-}" ] || environment+=("$name=${!name}")
	done
	cd "$root" || exit
	pivot_root . mnt
	PATH=/usr/sbin:/usr/bin:/sbin:/bin
	umount -l /mnt
	cd /
	timeout -k 5 "$seconds" env -i "${environment[@]}" "$@" || status=$?
	exit "$status"
}

running=
trap '[ -z "$running" ] || kill -KILL "$running" 2>/dev/null || true' EXIT
trap 'exit 1' HUP INT TERM

# How many seconds are left
left() {
	local seconds=$((limit - SECONDS))
	echo $((seconds > 0 ? seconds : 0))
}

# isolated SUITE COMMAND ...: in new namespaces; killing their first process kills
# all that is in them.  What it says goes to the suite's log.
isolated() {
	local suite=$1 status=0
	shift
	unshare --mount --pid --ipc --fork --kill-child "$@" >> "$dir/$suite.log" 2>&1 < /dev/null &
	running=$!
	wait "$running" || status=$?
	running=
	return "$status"
}

# in_root ROOT COMMAND ...: its status, or 124 if the time was over.  ROOT is SUITE,
# or SUITE.something, and the log the suite's.
in_root() {
	local root=$1
	shift
	[ "$(left)" -gt 0 ] || return 124
	isolated "${root%%.*}" "$0" --inside "$dir/$root" "$(($(left) + 1))" "$@"
}

# Where this machine gets Debian's packages from, if it does; else debootstrap
# knows one.
mirror() {
	# shellcheck disable=SC2016  # apt expands it
	apt-get indextargets --format '$(REPO_URI)' 2>/dev/null | grep -E '^https?://.*/debian/?$' | head -n 1 || true
}

# What a root needs to get packages the way this machine does
configure_network() {
	cp -L /etc/resolv.conf /etc/hosts "$1/etc/"
	apt-config dump 2>/dev/null |
		grep -iE '^Acquire::(https?::|ftp::|Retries|Check-|AllowRedirect)' > "$1/etc/apt/apt.conf.d/99lease-${0##*/}" || true
}

make_root() {
	local suite=$1 new=$dir/$1.new
	say "making the root of $suite"
	rm -rf "$new"
	# shellcheck disable=SC2046  # one word or none
	isolated "$suite" timeout -k 5 "$(($(left) + 1))" debootstrap --variant=minbase "$suite" "$new" $(mirror) || return
	# No package starts a service, and no disk has to be waited for.
	printf '#!/bin/sh\nexit 101\n' > "$new/usr/sbin/policy-rc.d"
	chmod +x "$new/usr/sbin/policy-rc.d"
	echo force-unsafe-io > "$new/etc/dpkg/dpkg.cfg.d/lease-${0##*/}"
	mv "$new" "$dir/$suite"
}

copy_source() {
	rm -rf "$1/lease" "$1"/tmp/lease-*
	mkdir "$1/lease"
	tar -C "$source" -cf - --exclude=.git --exclude='*.o' --exclude='*.so' --exclude='*.bc' \
		--exclude='tmp_check*' --exclude=output_iso . | tar -C "$1/lease" --no-same-owner -xf -
}

# Why nothing of this is possible here; nothing if it is
impossible() {
	if [ "$(id -u)" -ne 0 ]; then
		echo 'only root can make root file systems'
	elif ! unshare --mount --pid --ipc --fork mount -t tmpfs tmpfs /mnt 2>/dev/null; then
		echo 'namespaces are not permitted here'
	elif ! command -v debootstrap > /dev/null; then
		"$source/test/setup" roots > /dev/null 2>&1 || true
		command -v debootstrap > /dev/null || echo 'there is no debootstrap'
	fi
}

check_suites() {
	local suite
	for suite; do
		case $suite in
			bookworm | trixie | sid) ;;
			*) echo "test/${0##*/}: what is \"$suite\"? See the top of the file." >&2; exit 2 ;;
		esac
	done
}
