#!/bin/bash
# The main job on a private cluster, for people to watch: make demo.
#
# Expects PGHOST, PGPORT and PGDATABASE of a running server in which the
# extension can be created, and psql in PATH; test/private provides both.
set -euo pipefail

lease=kube-scheduler namespace=kube-system duration=2
logs=$(mktemp -d)
declare -A candidates=()		# name -> pid of its psql

stop_candidates() {
	for pid in "${candidates[@]}"; do kill "$pid" 2>/dev/null || true; done
	rm -rf "$logs"
}
trap stop_candidates EXIT

title() { printf '\n--- %s\n' "$*"; }
sql() { psql -X -q -v ON_ERROR_STOP=1 "$@"; }
value() { sql -At -c "$1"; }
die() { echo "demo: $*" >&2; exit 1; }

# Polls until the query returns something; prints it.
wait_for() {
	local query=$1 what=$2 answer i
	for ((i = 0; i < 200; i++)); do
		answer=$(value "$query")
		[ -n "$answer" ] && { echo "$answer"; return; }
		sleep 0.05
	done
	die "gave up waiting for $what"
}

sql -c 'SET client_min_messages = warning' -c 'CREATE EXTENSION IF NOT EXISTS lease'

title 'Three API servers publish who they are (hostname -> name of the lease)'
for hostname in kind-control-plane kind-control-plane2 kind-control-plane3; do
	sql -At -v hostname="$hostname" <<-'SQL'
		SELECT :'hostname' || ' -> ' || lease_apiserver_name(:'hostname')
		FROM lease_apiserver_heartbeat(:'hostname', gen_random_uuid());
	SQL
done

title "Three psql processes compete for $namespace/$lease, for $duration s at a time"
for me in scheduler-a scheduler-b scheduler-c; do
	psql -X -q -At -v me="$me" -v lease="$lease" -v ns="$namespace" -v duration="$duration s" \
		> "$logs/$me" 2>&1 <<-'SQL' &
		SELECT acquired, status FROM lease_acquire(:'lease', :'me', :'duration', :'ns') \watch 0.2
	SQL
	candidates[$me]=$!
	disown			# no word from bash when it is killed
done
leader=$(wait_for "SELECT lease_holder('$lease', '$namespace')" 'a first leader')
# Every candidate has had its answer by then.
for me in "${!candidates[@]}"; do
	for ((i = 0; i < 200; i++)); do
		[ "$(grep -c '^[tf]|' "$logs/$me")" -ge 3 ] && break
		sleep 0.05
	done
	echo "$me was told: $(sed -n 's/^[tf]|//p' "$logs/$me" | sort | uniq -c | awk '{ printf "%s%s x %s", sep, $1, $2; sep = ", " }')"
done | sort
winners=$(grep -l '^t|' "$logs"/* | wc -l)
[ "$winners" -eq 1 ] || die "$winners processes were told that they lead"
echo "exactly one leads: $leader"

title 'The leader is killed'
kill -9 "${candidates[$leader]}"
killed=$(value 'SELECT clock_timestamp()')
unset "candidates[$leader]"
next=$(wait_for "SELECT holder_identity FROM lease_status WHERE (namespace, name) = ('$namespace', '$lease') AND status = 'held' AND holder_identity <> '$leader'" 'another leader')
took=$(value "SELECT round(extract(epoch FROM acquire_time - '$killed'), 2) FROM lease WHERE (namespace, name) = ('$namespace', '$lease')")
[ "$next" != "$leader" ] || die 'nobody took over'
echo "$next took over $took s after $leader was killed (lease duration $duration s, tried every 0.2 s)"

title 'A node sends heartbeats'
sql -At -c "SELECT lease_node_register('node-1', labels => '{\"node-role.kubernetes.io/worker\": \"\"}')"
for beat in 1 2 3; do
	sql -At -c "SELECT 'heartbeat $beat: ' || status || ', good for another ' || extract(epoch FROM expires_in)::int || ' s' FROM lease_node_heartbeat('node-1')"
done
sql -c 'SELECT name, status, last_heartbeat, schedulable FROM lease_nodes'

title 'What a person sees (as kubectl get leases -n kube-system)'
sql -c 'SELECT name AS "NAME", holder AS "HOLDER", age AS "AGE" FROM kubectl_get_leases WHERE namespace = '"'kube-system'"
echo 'and in SQL: SELECT namespace, name, holder_identity, status, expires_in FROM lease_status'
sql -c "SELECT namespace, name, regexp_replace(holder_identity, '^(.{24}).{4,}', '\1...') AS holder_identity, status, date_trunc('second', expires_in) AS expires_in FROM lease_status ORDER BY 1, 2"
