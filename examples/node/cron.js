#!/usr/bin/env node
// Runs a command unless another host does, or did a moment ago.
//
//	cron.js NAME HOLD_AT_LEAST_SECONDS COMMAND [ARGUMENT ...]
'use strict';

const { spawn } = require('child_process');
const { Holder, say, sleep, stopping } = require('./holder');

async function main(name, holdAtLeast, command, ...args) {
  const holder = new Holder();
  let status;

  // Could not tell?  Ask again for a while.
  for (let attempt = 0; attempt < 10 && !stopping(); attempt++) {
    status = await holder.acquire(name, { holdAtLeast: Number(holdAtLeast) });
    if (status !== 'busy' && status !== 'unknown')
      break;
    await sleep(0.1);
  }
  if (!holder.token(name)) {
    say('skipped', status);
    if (status === 'held' || status === 'reserved')
      process.exit(0);                  // by design
    await holder.release(name);         // perhaps only the answer was lost
    process.exit(75);
  }

  say(`running token=${holder.token(name)}`);
  // In a process group of its own, to be stopped with all that it starts.
  const job = spawn(command, args, { detached: true, stdio: 'inherit' });
  let result = null;
  let terminated = false;
  job.on('error', (error) => { result = error.code; });
  job.on('exit', (code, signal) => { result = code ?? signal; });
  while (result === null) {
    await holder.keep();
    if (result !== null)
      break;
    if (!holder.token(name)) {
      process.kill(-job.pid, 'SIGKILL');        // not a moment longer
    } else if (stopping() && !terminated) {
      process.kill(-job.pid, 'SIGTERM');
      terminated = true;
    }
    await sleep(0.05);
  }

  await holder.release(name);           // it stays reserved for HOLD_AT_LEAST_SECONDS
  say(`done status=${result}`);
  process.exit(result === 0 ? 0 : 1);
}

main(...process.argv.slice(2));
