#!/usr/bin/env node
// Writes lines that commit only while it holds a lease.
//
//	writer.js NAME
//
// The table: CREATE TABLE journal (writer text, line bigint, token bigint,
// PRIMARY KEY (writer, line))
'use strict';

const { Holder, Refused, say, sleep, stopping } = require('./holder');

// A pause here may outlast the lease.
const prepare = () => sleep(0.1);

async function main(name) {
  const holder = new Holder();
  let line = 1;

  while (!stopping()) {
    await holder.acquire(name, { wait: holder.third });
    let token = holder.token(name);
    if (token)
      say(`writer token=${token}`);

    // After an error the connection is gone, and the transaction with it.
    const write = async (client) => {
      await client.query('BEGIN');
      await client.query('SELECT lease_guard($1, $2)', [name, token]);
      // Idempotent: it is repeated when the answer to COMMIT was lost.
      await client.query(
        `INSERT INTO journal (writer, line, token) VALUES ($1, $2, $3)
         ON CONFLICT DO NOTHING`, [holder.identity, line, token]);
      await client.query('COMMIT');
    };

    // Whether the lease is still mine is for lease_guard() to say.
    while (token && !stopping()) {
      await prepare();
      try {
        await holder.run(write, holder.third);
        say(`wrote ${line} token=${token}`);
        line++;
      } catch (error) {
        if (error instanceof Refused) {
          say(`refused token=${token} ${error.message}`);
          holder.forget(name);
          token = null;
        } else {
          say('unknown', error.message);
        }
      }
      await holder.keep();
    }
  }

  await holder.release(name);
  say('done');
  process.exit(0);
}

main(...process.argv.slice(2));
