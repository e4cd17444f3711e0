#!/usr/bin/python3
"""Works on its share of some shards, each of which belongs to one process."""
import random
import time

from holder import Holder, Unknown, arguments, now, say, stopping

count, = arguments(1, "COUNT")
shards = [f"shard-{i}" for i in range(int(count))]
holder = Holder(namespace="shards")
member = f"worker-{holder.identity}"


def work(shard):
    time.sleep(0.1 / len(shards))       # a piece of what only its owner may do


def owned():
    return [shard for shard in shards if holder.has(shard)]


def balance():
    """Takes shards up to my share of them, and gives back what is beyond it."""
    # Who else is here?  Everybody has a lease as a member.
    if not holder.has(member) and holder.acquire(member) == "unknown":
        return
    try:
        members, = holder.ask(
            """SELECT count(*) FROM lease_status
               WHERE namespace = %s AND name LIKE 'worker-%%' AND status = 'held'""",
            [holder.namespace], limit=holder.third)[0]
    except Unknown as reason:
        say("unknown", reason)
        return
    share = -(-len(shards) // max(members, 1))

    for shard in owned()[share:]:
        holder.release(shard)
        say("gave", shard)
    for shard in random.sample(shards, len(shards)):
        holder.keep()
        if len(owned()) < share and not holder.has(shard):
            if holder.acquire(shard) == "unknown":
                return
            if holder.has(shard):
                say(f"own {shard} token={holder.tokens[shard]}")


balance_at = 0
while not stopping():
    if now() >= balance_at:
        balance()
        balance_at = now() + holder.third
    for shard in shards:
        if holder.has(shard):
            work(shard)
            holder.keep()
    if not owned():
        time.sleep(0.1)
        holder.keep()

for name in owned() + [member]:
    holder.release(name)
say("done")
