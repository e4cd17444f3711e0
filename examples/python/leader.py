#!/usr/bin/python3
"""Leads as long as it holds a lease, and stands by otherwise."""
import time

from holder import Holder, arguments, say, stopping

name, = arguments(1, "NAME")
holder = Holder()


def work():
    time.sleep(0.1)             # a piece of what only the leader may do


while not stopping():
    holder.acquire(name, wait=holder.third)
    if holder.has(name):
        say(f"leader token={holder.tokens[name]}")
    while holder.has(name) and not stopping():
        work()
        holder.keep()

holder.release(name)
say("done")
