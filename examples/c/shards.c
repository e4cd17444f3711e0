/*
 * shards.c
 *		Works on its share of some shards, each of which belongs to one process.
 *
 *		shards COUNT
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "holder.h"

static Holder h;
static int	count;
static char shards[MAX_LEASES - 1][32];
static char member[320];

/* A piece of what only the owner of the shard may do */
static void
work(const char *shard)
{
	nap(0.1 / count);
}

static int
owned(void)
{
	int			n = 0;

	for (int i = 0; i < count; i++)
		n += holder_token(&h, shards[i]) != NULL;
	return n;
}

/* How many processes share the shards?  Each has a lease as a member. */
static int
count_members(void)
{
	const char *params[] = {h.namespace};
	PGresult   *result;
	int			members;

	if (holder_token(&h, member) == NULL &&
		strcmp(holder_acquire(&h, member, 0, 0), "unknown") == 0)
		return -1;
	result = holder_ask(&h, h.third,
						"SELECT count(*) FROM lease_status"
						" WHERE namespace = $1 AND name LIKE 'worker-%' AND status = 'held'",
						1, params);
	if (result == NULL)
		return -1;
	members = atoi(PQgetvalue(result, 0, 0));
	PQclear(result);
	return members > 0 ? members : 1;
}

/* Takes shards up to my share of them, and gives back what is beyond it. */
static void
balance(void)
{
	int			members = count_members();
	int			start = random() % count;
	int			share;

	if (members < 0)
		return;
	share = (count + members - 1) / members;
	for (int i = 0; i < count && owned() > share; i++)
	{
		if (holder_token(&h, shards[i]) != NULL)
		{
			holder_release(&h, shards[i]);
			say("gave %s", shards[i]);
		}
	}
	for (int i = 0; i < count && owned() < share; i++)
	{
		const char *shard = shards[(start + i) % count];

		holder_keep(&h);
		if (holder_token(&h, shard) != NULL)
			continue;
		if (strcmp(holder_acquire(&h, shard, 0, 0), "unknown") == 0)
			return;
		if (holder_token(&h, shard) != NULL)
			say("own %s token=%s", shard, holder_token(&h, shard));
	}
}

int
main(int argc, char **argv)
{
	double		balance_at = 0;

	count = argc == 2 ? atoi(argv[1]) : 0;
	if (count < 1 || count > MAX_LEASES - 1)
	{
		fprintf(stderr, "usage: shards COUNT\n");
		return 2;
	}
	holder_init(&h, "shards");
	snprintf(member, sizeof(member), "worker-%s", h.identity);
	for (int i = 0; i < count; i++)
		snprintf(shards[i], sizeof(shards[i]), "shard-%d", i);
	srandom(getpid());

	while (!stopping)
	{
		if (now() >= balance_at)
		{
			balance();
			balance_at = now() + h.third;
		}
		for (int i = 0; i < count; i++)
		{
			if (holder_token(&h, shards[i]) != NULL)
			{
				work(shards[i]);
				holder_keep(&h);
			}
		}
		if (owned() == 0)
		{
			nap(0.1);
			holder_keep(&h);
		}
	}

	for (int i = 0; i < count; i++)
	{
		if (holder_token(&h, shards[i]) != NULL)
			holder_release(&h, shards[i]);
	}
	holder_release(&h, member);
	say("done");
	return 0;
}
