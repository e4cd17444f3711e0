#!/usr/bin/env node
// Leads as long as it holds a lease, and stands by otherwise.
//
//	leader.js NAME
'use strict';

const { Holder, say, sleep, stopping } = require('./holder');

// A piece of what only the leader may do
const work = () => sleep(0.1);

async function main(name) {
  const holder = new Holder();

  while (!stopping()) {
    await holder.acquire(name, { wait: holder.third });
    if (holder.token(name))
      say(`leader token=${holder.token(name)}`);
    while (holder.token(name) && !stopping()) {
      await work();
      await holder.keep();
    }
  }

  await holder.release(name);
  say('done');
  process.exit(0);
}

main(...process.argv.slice(2));
