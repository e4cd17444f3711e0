// Holds leases: acquires, renews and releases them over one connection.
//
// For a program that works in small pieces and awaits keep() between them.  It
// does nothing else while it waits for an answer, so it cannot work on under a
// lease that has ended meanwhile.
//
// Where to connect: libpq's environment, PGHOST and so on.
'use strict';

const crypto = require('crypto');
const os = require('os');
const { Client } = require('pg');

let stopRequested = false;
for (const signal of ['SIGTERM', 'SIGINT'])
  process.on(signal, () => { stopRequested = true; });
const stopping = () => stopRequested;

// Seconds of a clock that nobody sets.  It stands still while the machine is
// suspended; Node has no better one.
const now = () => performance.now() / 1000;
const sleep = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));
const say = (...words) => console.log(...words);

// The server says no: the token is not current, or the lease not valid.  Every
// other error means: could not tell.
class Refused extends Error {}

class Holder {
  constructor(namespace = 'default') {
    // One for each process: two with the same would both hear "renewed".
    this.identity = process.env.LEASE_HOLDER ||
      `${os.hostname().toLowerCase()}-${process.pid}-${crypto.randomBytes(4).toString('hex')}`;
    this.duration = Number(process.env.LEASE_DURATION || 15);
    this.third = this.duration / 3;
    this.namespace = namespace;
    this.leases = new Map();    // what I believe to hold: name -> { token, until }
    this.retry = 0;             // not before that, when a renewal failed
    this.unsure = false;        // it did
    this.client = null;
    this.doubt = false;
  }

  // Tries to acquire a lease; returns lease_acquire()'s status, or "unknown".
  //
  // wait: at most a third of the duration, because what I may believe counts
  // from before the request was sent.
  async acquire(name, { wait = 0, holdAtLeast = 0 } = {}) {
    const sent = now();
    let rows;
    try {
      rows = await this.ask(
        `SELECT status, fencing_token FROM lease_acquire($1, $2,
         duration => make_interval(secs => $3), namespace => $4,
         wait => make_interval(secs => $5),
         hold_at_least => make_interval(secs => $6))`,
        [name, this.identity, this.duration, this.namespace, wait, holdAtLeast],
        wait + this.third);
    } catch (error) {
      say('unknown', error.message);
      await sleep(this.duration / 10);
      return 'unknown';
    }
    const [{ status, fencing_token: token }] = rows;
    if (token !== null)
      this.leases.set(name, { token, until: sent + this.duration });
    return status;
  }

  // The fencing token if it is mine.  The clock decides, nobody is asked.
  token(name) {
    const lease = this.leases.get(name);
    return lease && now() < lease.until ? lease.token : null;
  }

  // Renews after a third of the duration, and forgets what is lost.
  //
  // Call it between pieces of work that are much shorter than that.
  async keep() {
    if (this.leases.size > 0 && now() >= Math.max(this.retry, this.firstEnd() - 2 * this.third))
      await this.renew();
    for (const [name, { until }] of this.leases)
      if (now() >= until)
        this.lose(name, 'no renewal in time');
  }

  async renew() {
    const sent = now();
    this.retry = sent + this.duration / 10;
    let rows;
    try {
      // Only what I know of: without the names it would also keep alive what I
      // acquired without hearing of it, and do not work on.
      rows = await this.ask('SELECT status, leases, name FROM lease_renew_all($1, $2, $3)',
        [this.identity, [...this.leases.keys()], this.namespace],
        Math.min(this.third, this.firstEnd() - sent));
    } catch (error) {
      say('unknown', error.message);
      this.unsure = true;
      return;
    }
    const refused = new Map(rows.map((row) => [row.name, row.status]));
    for (const [name, lease] of this.leases) {
      const status = refused.get(name) || 'renewed';
      if (status === 'renewed')
        lease.until = sent + this.duration;
      else if (status === 'busy')
        say('unknown', name, 'is busy');
      else
        this.lose(name, status);
    }
    if (this.unsure)
      say('renewed');
    this.unsure = false;
  }

  // When the first of my leases ends
  firstEnd() {
    return Math.min(...[...this.leases.values()].map((lease) => lease.until));
  }

  lose(name, why) {
    say('lost', name, why);
    this.forget(name);
  }

  forget(name) {
    this.leases.delete(name);
  }

  // Also when I do not know of it: an answer may have been lost.
  async release(name) {
    this.forget(name);
    try {
      await this.ask('SELECT status FROM lease_release($1, $2, $3)',
        [name, this.identity, this.namespace], this.third);
    } catch (error) {
      say('unknown', error.message);    // then it expires
    }
  }

  // The rows that one statement returns.
  ask(sql, params, limit) {
    return this.run(async (client) => (await client.query(sql, params)).rows, limit);
  }

  // Calls the function with a connection, for so many seconds at most.
  //
  // After an error the next call connects anew, perhaps to another server.
  async run(func, limit) {
    let timer;
    const timeout = new Promise((resolve, reject) => {
      timer = setTimeout(() => reject(new Error('no answer in time')), limit * 1000);
    });
    try {
      return await Promise.race([this.runOn(func), timeout]);
    } catch (error) {
      this.disconnect();
      throw error.code === 'LS001' ? new Refused(error.message) : new Error(error.message);
    } finally {
      clearTimeout(timer);
    }
  }

  async runOn(func) {
    const client = this.client ?? await this.connect();
    this.doubt = false;
    const result = await func(client);
    if (this.doubt)
      throw new Error('committed here, but perhaps not on the synchronous standby');
    return result;
  }

  async connect() {
    const client = new Client({ connectionTimeoutMillis: this.third * 1000 });
    this.client = client;
    // Who waits for an answer hears of it, too.
    client.on('error', () => { if (this.client === client) this.disconnect(); });
    // The wait for the synchronous standby was cancelled.
    client.on('notice', (notice) => { if (notice.code === '01000') this.doubt = true; });
    await client.connect();
    return client;
  }

  disconnect() {
    const client = this.client;
    this.client = null;
    if (client !== null)
      client.end().catch(() => {});
  }
}

module.exports = { Holder, Refused, now, say, sleep, stopping };
