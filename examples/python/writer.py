#!/usr/bin/python3
"""Writes lines that commit only while it holds a lease.

The table: CREATE TABLE journal (writer text, line bigint, token bigint, PRIMARY KEY (writer, line))
"""
import time

from holder import Holder, Refused, Unknown, arguments, say, stopping

name, = arguments(1, "NAME")
holder = Holder()
line = 1


def prepare():
    time.sleep(0.1)             # a pause here may outlast the lease


def write(conn):
    with conn.transaction():
        conn.execute("SELECT lease_guard(%s, %s)", [name, token])
        # Idempotent: it is repeated when the answer to COMMIT was lost.
        conn.execute("""INSERT INTO journal (writer, line, token) VALUES (%s, %s, %s)
                        ON CONFLICT DO NOTHING""", [holder.identity, line, token])


while not stopping():
    holder.acquire(name, wait=holder.third)
    token = holder.tokens.get(name)
    if token is not None:
        say(f"writer token={token}")
    # No has(): whether the lease is mine is for lease_guard() to say.
    while token is not None and not stopping():
        prepare()
        try:
            holder.run(write, limit=holder.third)
            say(f"wrote {line} token={token}")
            line += 1
        except Refused as reason:
            say(f"refused token={token}", reason)
            holder.forget(name)
            token = None
        except Unknown as reason:
            say("unknown", reason)
        holder.keep()

holder.release(name)
say("done")
