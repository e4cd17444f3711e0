# Tables and targets from the lines that bench/run collects, one a run, and what is
# recorded of them, into the file records:
# round mode clients what calls/s renewed p50 p99 WAL-bytes WAL-records xids HOT CPU-us
{
	round = $1; group = $2 " " $3; run = group " " $4
	if (!(run in rounds)) { order[++runs] = run; group_of[run] = group; what[run] = $4 }
	rounds[run]++
	if (round > last_round) last_round = round
	# only calls that renewed something count, where something is to be renewed
	value[run, "rate", round] = $5 * (is_renewal($4) ? $6 : 1)
	for (i = 6; i <= NF; i++)
		value[run, i, round] = $i
}

function is_renewal(name) { return name ~ /^(update|plpgsql|lease_renew)$/ }

# Sorts v[1..n], which is short.
function sort_values(v, n,    i, j, x) {
	for (i = 2; i <= n; i++) {
		x = v[i]
		for (j = i - 1; j > 0 && v[j] > x; j--) v[j + 1] = v[j]
		v[j + 1] = x
	}
}

# Median over the rounds; sets low and high as well.
function median(run, field,    v, n, r) {
	for (r = 1; r <= last_round; r++)
		if ((run, field, r) in value) v[++n] = value[run, field, r]
	if (n == 0) return 0
	sort_values(v, n)
	low = v[1]; high = v[n]
	return n % 2 ? v[(n + 1) / 2] : (v[n / 2] + v[n / 2 + 1]) / 2
}

# Median of the ratios to another run of the same round.
function ratio(run, base) { return ratio_of(run, base, "rate") }

function ratio_of(run, base, field,    r, name) {
	name = run " / " base " " field
	for (r = 1; r <= last_round; r++)
		if ((run, field, r) in value && (base, field, r) in value && value[base, field, r] > 0)
			value[name, "ratio", r] = value[run, field, r] / value[base, field, r]
	return median(name, "ratio")
}

function label(name) {
	if (name == "lease_renew") return "`lease_renew()`"
	if (name == "update") return "prepared UPDATE"
	if (name == "plpgsql") return "UPDATE in PL/pgSQL"
	if (name == "advisory") return "advisory lock and unlock"
	if (name == "memory") return "`lease_renew()` in memory"
	if (name == "select_1") return "`SELECT 1`"
	if (name == "lease_acquire") return "`lease_acquire()`"
	if (name == "for_update") return "SELECT FOR UPDATE"
	return name
}

function table(pattern, base, title,    i, run, part, mode, compare, x) {
	printf "\n%s\n\n", title
	print "| synchronous_commit | clients | call | calls/s (min–max) | ratio (min–max) | p50 µs | p99 µs | server CPU µs | WAL B | WAL records | xids | HOT % | renewed % |"
	print "|---|---|---|---|---|---|---|---|---|---|---|---|---|"
	for (i = 1; i <= runs; i++) {
		run = order[i]
		if (what[run] !~ pattern) continue
		split(run, part, " ")
		mode = part[1]
		compare = (mode == "-" ? "on" : mode) " " part[2] " " base
		x = median(run, "rate")
		printf "%s clients, synchronous_commit %s, %s: calls/s\t%.0f\n", part[2], mode, label(what[run]), x > records
		printf "| %s | %d | %s | %.0f (%.0f–%.0f) ", mode, part[2], label(what[run]), x, low, high
		x = ratio(run, compare)
		printf "| %.2f (%.2f–%.2f) ", x, low, high
		printf "%s clients, synchronous_commit %s, %s: server CPU us\t%.1f\n", part[2], mode, label(what[run]), median(run, 13) > records
		printf "| %d | %d | %.1f ", median(run, 7), median(run, 8), median(run, 13)
		printf "| %.0f | %.2f | %.2f ", median(run, 9), median(run, 10), median(run, 11)
		if (is_renewal(what[run]))
			printf "| %.1f | %.1f |\n", median(run, 12) * 100, median(run, 6) * 100
		else
			print "| | |"
	}
}

function target(text, measured, reached) {
	printf "target %s: %s, %s\n", text, measured, reached ? "reached" : "missed"
	if (!reached) missed++
}

END {
	table("^(update|plpgsql|lease_renew|memory|advisory|select_1)$", "update",
		"Renewals of random leases. Ratio: to the prepared UPDATE of the same round, clients and synchronous_commit (`-`: to the durable one).")
	table("^(for_update|lease_acquire)$", "for_update",
		"Acquiring one lease that somebody else holds.")
	print ""

	if ("on 32 lease_renew" in rounds) {
		x = ratio("on 32 lease_renew", "on 32 update")
		target("lease_renew >= 1.10 of the prepared UPDATE, durable, 32 clients", sprintf("%.2f", x), x >= 1.10)
		x = ratio("off 32 lease_renew", "off 32 update")
		target("lease_renew >= 1.20 of the prepared UPDATE, synchronous_commit off, 32 clients", sprintf("%.2f", x), x >= 1.20)
		x = ratio_of("off 32 lease_renew", "off 32 update", 13)
		target("lease_renew <= 0.80 of the server CPU of the prepared UPDATE, synchronous_commit off, 32 clients", sprintf("%.2f", x), x <= 0.80)
	} else
		print "targets of lease_renew, 32 clients: not measured"
	if ("- 32 memory" in rounds) {
		x = ratio("- 32 memory", "- 32 select_1")
		target("lease_renew in memory >= 0.6 of SELECT 1, 32 clients", sprintf("%.2f", x), x >= 0.6)
		x = ratio("- 32 memory", "on 32 update")
		target("lease_renew in memory >= 5 x the durable prepared UPDATE, 32 clients", sprintf("%.1f", x), x >= 5)
	}

	# All that the server does meanwhile is in the counters; one real WAL record
	# a call would be 30 bytes at least.
	lose = "on 32 lease_acquire"; lock = "on 32 for_update"
	x = ratio(lose, lock)
	target("losing lease_acquire >= 10 of SELECT FOR UPDATE, 32 clients", sprintf("%.1f", x), x >= 10)
	x = median(lose, 9); y = median(lose, 11)
	target("losing lease_acquire: 0 WAL bytes, 0 xids a call", sprintf("%.3f, %.5f", x, y), x < 1 && y < 0.01)
	exit (strict && missed) ? 1 : 0
}
