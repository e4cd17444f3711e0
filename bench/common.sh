# shellcheck shell=bash disable=SC2034
# What the benchmarks share: sourced by them, after "set -euo pipefail".
#
# They expect the programs of a PostgreSQL into which the extension is installed in
# PATH, and not to be root; test/private --no-server sees to both.  Each makes a
# cluster of its own below TMPDIR and removes it, prints markdown to stdout and its
# progress to stderr, and takes BENCH_STRICT (0; 1: a missed target is a failure).
#
# BENCH_RECORD (none) is the number of an open file descriptor, to which go the
# results for bench/compare and bench/plot, one a line:
#	machine <tab> benchmark <tab> what <tab> value
#	result <tab> benchmark <tab> what <tab> value

here=$(cd "$(dirname "$0")" && pwd)
benchmark=$(basename "$0")
work=$(mktemp -d "${TMPDIR:-/tmp}/lease-bench-XXXXXX")
unset "${!PG@}"
export PGHOST=$work PGPORT=5432 PGUSER=postgres PGDATABASE=postgres LC_ALL=C
missed=0

finish() {
	local status=$?
	if [ -e "$work/data/postmaster.pid" ]; then
		pg_ctl -D "$work/data" -m immediate -w stop > /dev/null || true
	fi
	rm -rf "$work"
	exit "$status"
}
trap finish EXIT
trap 'exit 1' HUP INT TERM

say() { printf '%s\n' "$*" >&2; }
die() { say "bench/$benchmark: $*"; exit 2; }
sql() { psql -X -q -At -v ON_ERROR_STOP=1 "$@"; }
median() { sort -n | awk '{ v[NR] = $1 } END { print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'; }

# least A B: A >= B
least() { awk -v a="$1" -v b="$2" 'BEGIN { exit !(a >= b) }'; }
divide() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.4f\n", (b > 0 ? a / b : 0) }'; }

# target TEXT MEASURED yes|no: a line, and what finish_targets has to say
target() {
	local result=reached
	[ "$3" = yes ] || { result=missed; missed=$((missed + 1)); }
	echo "target $1: $2, $result"
}

# target_unless TEXT FAILURES: the same; each failure has a "; " before it
target_unless() {
	[ -z "$2" ] || missed=$((missed + 1))
	echo "target $1: $([ -z "$2" ] && echo reached || echo "missed$2")"
}

# at_least VALUE LIMIT: yes or no
at_least() { if least "$1" "$2"; then echo yes; else echo no; fi; }

finish_targets() { [ "$missed" -eq 0 ] || [ "${BENCH_STRICT:-0}" != 1 ]; }

record() {
	[ -z "${BENCH_RECORD:-}" ] || printf '%s\t%s\t%s\t%s\n' "$1" "$benchmark" "$2" "$3" >&"$BENCH_RECORD"
}
result() { record result "$1" "$2"; }

# More settings come from stdin.
start_server() {
	command -v pgbench > /dev/null || die 'pgbench is not in PATH'
	initdb -U postgres --no-sync --auth=trust --encoding=UTF8 --locale=C.UTF-8 \
		-D "$work/data" > "$work/initdb.out" 2>&1 ||
		{ cat "$work/initdb.out" >&2; die 'initdb failed'; }
	cat "$here/postgresql.conf" - >> "$work/data/postgresql.conf" <<-CONF
		listen_addresses = ''
		unix_socket_directories = '$work'
		$(cat)
	CONF
	pg_ctl -w -D "$work/data" -l "$work/log" start > /dev/null ||
		{ cat "$work/log" >&2; die 'the server did not start'; }
	postmaster=$(head -n 1 "$work/data/postmaster.pid")
}

restart_server() {
	pg_ctl -w -D "$work/data" -l "$work/log" -m fast restart > /dev/null
	postmaster=$(head -n 1 "$work/data/postmaster.pid")
}

# Is there a way to keep heartbeats in memory?  What it takes is done then.
preload_for_memory() {
	[ "$(sql -c "LOAD 'lease'" -c "SELECT count(*) FROM pg_settings WHERE name = 'lease.heartbeat_storage'")" = 1 ] || return 1
	sql -c "ALTER SYSTEM SET shared_preload_libraries = 'lease'"
	restart_server
}

# WAL segments to recycle: making new ones would fall to whoever needs one.
make_wal() {
	sql > /dev/null -c "
		SELECT count(pg_logical_emit_message(false, 'bench', repeat('x', 16000000)))
		FROM generate_series(1, 64)"
}

# CPU time of all server processes that have ended, in clock ticks.
server_ticks() {
	if [ -r "/proc/$postmaster/stat" ]; then
		sed 's/.*) //' "/proc/$postmaster/stat" | awk '{ print $14 + $15 }'
	else
		echo 0
	fi
}

# Processes report their statistics before they disappear from pg_stat_activity.
wait_for_pgbench() {
	sql <<-'SQL'
		DO $$
		BEGIN
			WHILE EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'pgbench') LOOP
				PERFORM pg_sleep(0.01), pg_stat_clear_snapshot();
			END LOOP;
		END
		$$;
	SQL
}

# describe HOW: the machine, the server and, in the caller's words, the load.  What
# is recorded is what has to be the same for two runs to be compared.
describe() {
	local cpu cpus memory kernel filesystem version settings
	cpu=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo 2> /dev/null | sed -n 1p)
	cpus=$(nproc)
	memory=$(awk '/^MemTotal/ { printf "%.0f GB", $2 / 1048576 }' /proc/meminfo 2> /dev/null)
	kernel=$(uname -sr)
	grep -q '^flags.* hypervisor' /proc/cpuinfo 2> /dev/null && kernel="$kernel in a virtual machine"
	filesystem=$(df --output=fstype "$work/data" 2> /dev/null | tail -n 1)
	version=$(sql -c 'SHOW server_version')
	settings=$(sql -c "
		SELECT string_agg(name || ' = ' || current_setting(name), ', ' ORDER BY name)
		FROM pg_settings
		WHERE name IN ('shared_buffers', 'max_connections', 'fsync', 'full_page_writes',
			'wal_level', 'wal_sync_method', 'max_wal_size', 'autovacuum', 'jit', 'data_checksums')
			OR name = 'shared_preload_libraries' AND setting <> ''")
	record machine CPU "$cpu"
	record machine 'number of CPUs' "$cpus"
	record machine memory "$memory"
	record machine kernel "$kernel"
	record machine 'file system' "${filesystem:-unknown}"
	record machine PostgreSQL "$version"
	record machine settings "$settings"
	record machine load "$1"
	cat <<-TEXT
		$cpus CPUs ($cpu), $memory, ${filesystem:-unknown file system}, $kernel; server and clients on the same machine.
		PostgreSQL $version; $settings.
		$1; $(date -u +%Y-%m-%d).

	TEXT
}
