#!/usr/bin/python3
"""Runs a command unless another host does, or did a moment ago."""
import os
import signal
import subprocess
import sys
import time

from holder import Holder, arguments, say, stopping

name, hold_at_least, *command = arguments(3, "NAME HOLD_AT_LEAST_SECONDS COMMAND [ARGUMENT ...]")
holder = Holder()

# Could not tell?  Ask again for a while.
for attempt in range(10):
    status = holder.acquire(name, hold_at_least=int(hold_at_least))
    if status not in ("busy", "unknown") or stopping():
        break
    time.sleep(0.1)
if not holder.has(name):
    say("skipped", status)
    if status in ("held", "reserved"):
        sys.exit(0)             # by design
    holder.release(name)        # perhaps only the answer was lost
    sys.exit(75)

say(f"running token={holder.tokens[name]}")
# In a process group of its own, to be stopped with all that it starts.
job = subprocess.Popen(command, start_new_session=True)
signal_sent = None
while job.poll() is None:
    holder.keep()
    if not holder.has(name):
        signal_sent = signal.SIGKILL        # not a moment longer
        os.killpg(job.pid, signal_sent)
        job.wait()
    elif stopping() and signal_sent is None:
        signal_sent = signal.SIGTERM
        os.killpg(job.pid, signal_sent)
    time.sleep(0.05)

holder.release(name)            # it stays reserved for HOLD_AT_LEAST_SECONDS
say(f"done status={job.returncode}")
sys.exit(job.returncode != 0)
