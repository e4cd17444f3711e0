"""Holds leases: acquires, renews and releases them over one connection.

For a program with one thread that works in small pieces and calls keep()
between them.  It does nothing else while it waits for an answer, so it cannot
work on under a lease that has ended meanwhile.

Where to connect: libpq's environment, PGHOST and so on.
"""
import os
import secrets
import signal
import socket
import sys
import time

import psycopg

# Linux' CLOCK_MONOTONIC stands still while the machine is suspended.
CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)

stop_requested = False


def request_stop(signum, frame):
    global stop_requested
    stop_requested = True


def stopping():
    return stop_requested


def give_up(signum, frame):
    raise Unknown("no answer in time")


signal.signal(signal.SIGTERM, request_stop)
signal.signal(signal.SIGINT, request_stop)
signal.signal(signal.SIGALRM, give_up)


def now():
    return time.clock_gettime(CLOCK)


def say(*words):
    print(*words, flush=True)


class Unknown(Exception):
    """Could not tell: an error, no answer, or one that is not to be relied on."""


class Refused(Exception):
    """The server says no: the token is not current, or the lease not valid."""


class Holder:
    def __init__(self, namespace="default"):
        # One for each process: two with the same would both hear "renewed".
        self.identity = os.environ.get("LEASE_HOLDER") or "-".join(
            [socket.gethostname().lower(), str(os.getpid()), secrets.token_hex(4)])
        self.duration = int(os.environ.get("LEASE_DURATION", "15"))
        self.third = self.duration / 3
        self.namespace = namespace
        self.tokens = {}        # what I believe to hold: name -> fencing token,
        self.until = {}         # and until when
        self.retry = 0          # not before that, when a renewal failed
        self.unsure = False     # it did
        self.conn = None
        self.doubt = False

    def acquire(self, name, wait=0, hold_at_least=0):
        """Tries to acquire a lease; returns lease_acquire()'s status, or "unknown".

        wait: at most a third of the duration, because what I may believe counts
        from before the request was sent.
        """
        sent = now()
        try:
            status, token = self.ask(
                """SELECT status, fencing_token FROM lease_acquire(%s, %s,
                   duration => make_interval(secs => %s), namespace => %s,
                   wait => make_interval(secs => %s),
                   hold_at_least => make_interval(secs => %s))""",
                [name, self.identity, self.duration, self.namespace, wait, hold_at_least],
                limit=wait + self.third)[0]
        except Unknown as reason:
            say("unknown", reason)
            time.sleep(self.duration / 10)
            return "unknown"
        if token is not None:
            self.tokens[name] = token
            self.until[name] = sent + self.duration
        return status

    def has(self, name):
        """Is it mine?  The clock decides, nobody is asked."""
        return now() < self.until.get(name, 0)

    def keep(self):
        """Renews after a third of the duration, and forgets what is lost.

        Call it between pieces of work that are much shorter than that.
        """
        if self.until and now() >= max(self.retry, min(self.until.values()) - 2 * self.third):
            self._renew()
        for name in [name for name in self.until if not self.has(name)]:
            self._lose(name, "no renewal in time")

    def _renew(self):
        sent = now()
        self.retry = sent + self.duration / 10
        try:
            # Only what I know of: without the names it would also keep alive what
            # I acquired without hearing of it, and do not work on.
            rows = self.ask("SELECT status, leases, name FROM lease_renew_all(%s, %s, %s)",
                            [self.identity, list(self.until), self.namespace],
                            limit=min(self.third, min(self.until.values()) - sent))
        except Unknown as reason:
            say("unknown", reason)
            self.unsure = True
            return
        refused = {name: status for status, _, name in rows if name}
        for name in list(self.until):
            status = refused.get(name, "renewed")
            if status == "renewed":
                self.until[name] = sent + self.duration
            elif status == "busy":
                say("unknown", name, "is busy")
            else:
                self._lose(name, status)
        if self.unsure:
            say("renewed")
            self.unsure = False

    def _lose(self, name, why):
        say("lost", name, why)
        self.forget(name)

    def forget(self, name):
        self.tokens.pop(name, None)
        self.until.pop(name, None)

    def release(self, name):
        """Also when I do not know of it: an answer may have been lost."""
        self.forget(name)
        try:
            self.ask("SELECT status FROM lease_release(%s, %s, %s)",
                     [name, self.identity, self.namespace], limit=self.third)
        except Unknown as reason:
            say("unknown", reason)      # then it expires

    def ask(self, sql, params, limit):
        """The rows that one statement returns."""
        return self.run(lambda conn: conn.execute(sql, params).fetchall(), limit)

    def run(self, function, limit):
        """Calls the function with a connection, for so many seconds at most.

        After an error the next call connects anew, perhaps to another server.
        """
        try:
            signal.setitimer(signal.ITIMER_REAL, max(limit, 0.001))
            if self.conn is None:
                self.conn = psycopg.connect("", autocommit=True)
                self.conn.add_notice_handler(self._notice)
            self.doubt = False
            result = function(self.conn)
            if self.doubt:
                raise Unknown("committed here, but perhaps not on the synchronous standby")
            return result
        except (psycopg.Error, Unknown) as error:
            signal.setitimer(signal.ITIMER_REAL, 0)
            self._disconnect()
            if getattr(error, "sqlstate", None) == "LS001":
                raise Refused(str(error).splitlines()[0]) from error
            raise Unknown(str(error).splitlines()[0]) from error
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)

    def _notice(self, diagnostic):
        # The wait for the synchronous standby was cancelled.
        if diagnostic.sqlstate == "01000":
            self.doubt = True

    def _disconnect(self):
        conn, self.conn = self.conn, None
        if conn is not None:
            conn.close()


def arguments(count, usage):
    if len(sys.argv) < count + 1:
        sys.exit(f"usage: {sys.argv[0]} {usage}")
    return sys.argv[1:]
