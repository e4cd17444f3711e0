#!/usr/bin/env node
// Works on its share of some shards, each of which belongs to one process.
//
//	shards.js COUNT
'use strict';

const { Holder, now, say, sleep, stopping } = require('./holder');

const count = Number(process.argv[2]);
const shards = Array.from({ length: count }, (_, i) => `shard-${i}`);
const holder = new Holder('shards');
const member = `worker-${holder.identity}`;
const owned = () => shards.filter((shard) => holder.token(shard));

// A piece of what only the owner of the shard may do
const work = (shard) => sleep(0.1 / count);

// How many processes share the shards?  Each has a lease as a member.
async function countMembers() {
  const [{ members }] = await holder.ask(
    `SELECT count(*)::int AS members FROM lease_status
     WHERE namespace = $1 AND name LIKE 'worker-%' AND status = 'held'`,
    [holder.namespace], holder.third);
  return Math.max(members, 1);
}

// Takes shards up to my share of them, and gives back what is beyond it.
async function balance() {
  if (!holder.token(member) && await holder.acquire(member) === 'unknown')
    return;
  const share = Math.ceil(count / await countMembers());

  for (const shard of owned().slice(share)) {
    await holder.release(shard);
    say(`gave ${shard}`);
  }
  const start = Math.floor(Math.random() * count);
  for (const shard of [...shards.slice(start), ...shards.slice(0, start)]) {
    await holder.keep();
    if (owned().length >= share || holder.token(shard))
      continue;
    if (await holder.acquire(shard) === 'unknown')
      return;
    if (holder.token(shard))
      say(`own ${shard} token=${holder.token(shard)}`);
  }
}

async function main() {
  let balanceAt = 0;

  while (!stopping()) {
    if (now() >= balanceAt) {
      try {
        await balance();
      } catch (error) {
        say('unknown', error.message);
      }
      balanceAt = now() + holder.third;
    }
    for (const shard of shards) {
      if (holder.token(shard)) {
        await work(shard);
        await holder.keep();
      }
    }
    if (owned().length === 0) {
      await sleep(0.1);
      await holder.keep();
    }
  }

  for (const name of [...owned(), member])
    await holder.release(name);
  say('done');
  process.exit(0);
}

main();
