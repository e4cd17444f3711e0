/*
 * cron.c
 *		Runs a command unless another host does, or did a moment ago.
 *
 *		cron NAME HOLD_AT_LEAST_SECONDS COMMAND [ARGUMENT ...]
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "holder.h"

/* In a process group of its own, to be stopped with all that it starts. */
static pid_t
start(char **command)
{
	pid_t		pid = fork();

	if (pid == 0)
	{
		setpgid(0, 0);
		execvp(command[0], command);
		perror(command[0]);
		_exit(127);
	}
	if (pid < 0)
	{
		perror("fork");
		exit(1);
	}
	setpgid(pid, pid);
	return pid;
}

int
main(int argc, char **argv)
{
	Holder		h;
	const char *name = argv[1];
	const char *status = "unknown";
	bool		terminated = false;
	pid_t		job;
	int			exit_status;

	if (argc < 4)
	{
		fprintf(stderr, "usage: cron NAME HOLD_AT_LEAST_SECONDS COMMAND [ARGUMENT ...]\n");
		return 2;
	}
	holder_init(&h, "default");

	/* Could not tell?  Ask again for a while. */
	for (int i = 0; i < 10 && !stopping; i++)
	{
		status = holder_acquire(&h, name, 0, atof(argv[2]));
		if (strcmp(status, "busy") != 0 && strcmp(status, "unknown") != 0)
			break;
		nap(0.1);
	}
	if (holder_token(&h, name) == NULL)
	{
		say("skipped %s", status);
		if (strcmp(status, "held") == 0 || strcmp(status, "reserved") == 0)
			return 0;			/* by design */
		holder_release(&h, name);	/* perhaps only the answer was lost */
		return 75;
	}

	say("running token=%s", holder_token(&h, name));
	job = start(&argv[3]);
	while (waitpid(job, &exit_status, WNOHANG) == 0)
	{
		holder_keep(&h);
		if (holder_token(&h, name) == NULL)
			kill(-job, SIGKILL);	/* not a moment longer */
		else if (stopping && !terminated)
		{
			kill(-job, SIGTERM);
			terminated = true;
		}
		nap(0.05);
	}

	holder_release(&h, name);	/* it stays reserved for HOLD_AT_LEAST_SECONDS */
	if (WIFEXITED(exit_status))
		say("done status=%d", WEXITSTATUS(exit_status));
	else
		say("done status=%d", -WTERMSIG(exit_status));
	return exit_status != 0;
}
