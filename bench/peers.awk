# Table and targets from the lines that bench/peers collects, one a run:
# round clients what calls/s p50 p99 server-CPU-us client-CPU-us
{
	round = $1; run = $2 " " $3
	if (!(run in seen)) { order[++runs] = run; seen[run] = 1 }
	if (round > last_round) last_round = round
	for (i = 4; i <= NF; i++)
		value[run, i, round] = $i
}

# Median over the rounds; sets low and high as well.
function median(run, field,    v, n, r, i, x) {
	for (r = 1; r <= last_round; r++)
		if ((run, field, r) in value) {
			x = value[run, field, r]
			for (i = n++; i > 0 && v[i] > x; i--) v[i + 1] = v[i]
			v[i + 1] = x
		}
	if (n == 0) return 0
	low = v[1]; high = v[n]
	return n % 2 ? v[(n + 1) / 2] : (v[n / 2] + v[n / 2 + 1]) / 2
}

# Median of the ratios to another run of the same round.
function ratio(run, base,    r) {
	for (r = 1; r <= last_round; r++)
		if ((run, 4, r) in value && (base, 4, r) in value)
			value[run " / " base, "ratio", r] = value[run, 4, r] / value[base, 4, r]
	return median(run " / " base, "ratio")
}

function row(what, label, durable) {
	names[++rows] = what
	labels[what] = label
	survives[what] = durable
}

# least = 0: no target, but good to know.  Nothing about what was not measured.
function target(c, what, base, least,    run, other, x, text) {
	run = c " " what; other = c " " base
	text = (survives[what] == "yes" ? "durable " : "") labels[what] (least ? sprintf(" >= %.1f of ", least) : " of ") \
		labels[base] ", " c (c == 1 ? " client" : " clients")
	if (!(run in seen) || !(other in seen)) {
		if (least) printf "target %s: not measured\n", text
		return
	}
	x = ratio(run, other)
	printf "%s %s: %.2f (%.2f–%.2f)", (least ? "target" : "no target:"), text, x, low, high
	if (least) {
		printf ", %s", (x >= least ? "reached" : "missed")
		if (x < least) missed++
	}
	print ""
}

END {
	row("renew", "lease_renew()", "yes")
	row("memory", "lease_renew() in memory", "no")
	row("select_1", "SELECT 1", "")
	row("etcd_txn", "etcd's transaction", "yes")
	row("etcd_keepalive", "etcd's keepalive", "no")
	row("etcd_get", "etcd's get", "")
	row("redis_always", "Redis, appendfsync always", "yes")
	row("redis_everysec", "Redis, appendfsync everysec", "but for a second")
	row("redis_ping", "Redis' PING", "")

	print "\n| clients | call | survives a crash | calls/s (min–max) | p50 µs | p99 µs | server CPU µs | client CPU µs |"
	print "|---|---|---|---|---|---|---|---|"
	for (i = 1; i <= runs; i++) {
		split(order[i], part, " ")
		if (!(part[1] in counted)) { counted[part[1]] = 1; counts[++n_counts] = part[1] }
	}
	for (i = 1; i <= n_counts; i++)
		for (j = 1; j <= rows; j++) {
			run = counts[i] " " names[j]
			if (!(run in seen)) continue
			x = median(run, 4)
			printf "| %d | %s | %s | %.0f (%.0f–%.0f) ", counts[i], labels[names[j]], survives[names[j]], x, low, high
			printf "| %d | %d | %.1f | %.1f |\n", median(run, 5), median(run, 6), median(run, 7), median(run, 8)
		}
	print ""
	for (i = 1; i <= n_counts; i++) target(counts[i], "renew", "etcd_txn", 3)
	for (i = 1; i <= n_counts; i++) target(counts[i], "memory", "etcd_keepalive", 4)
	for (i = 1; i <= n_counts; i++) target(counts[i], "renew", "redis_always", counts[i] <= 8 ? 1 : 0)
	for (i = 1; i <= n_counts; i++) target(counts[i], "memory", "redis_everysec", counts[i] == 32 ? 1 : 0)
	exit (strict && missed) ? 1 : 0
}
