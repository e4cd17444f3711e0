/*
 * leader.c
 *		Leads as long as it holds a lease, and stands by otherwise.
 *
 *		leader NAME
 */
#include <stdio.h>

#include "holder.h"

/* A piece of what only the leader may do */
static void
work(void)
{
	nap(0.1);
}

int
main(int argc, char **argv)
{
	Holder		h;
	const char *name = argv[1];

	if (argc != 2)
	{
		fprintf(stderr, "usage: leader NAME\n");
		return 2;
	}
	holder_init(&h, "default");

	while (!stopping)
	{
		const char *token;

		holder_acquire(&h, name, h.third, 0);
		token = holder_token(&h, name);
		if (token != NULL)
			say("leader token=%s", token);
		while (holder_token(&h, name) != NULL && !stopping)
		{
			work();
			holder_keep(&h);
		}
	}

	holder_release(&h, name);
	say("done");
	return 0;
}
