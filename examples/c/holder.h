/*
 * holder.h
 *		Holds leases: acquires, renews and releases them over one connection.
 *
 * For a program with one thread that works in small pieces and calls
 * holder_keep() between them.  It does nothing else while it waits for an
 * answer, so it cannot work on under a lease that has ended meanwhile.
 *
 * Where to connect: libpq's environment, PGHOST and so on.
 */
#ifndef HOLDER_H
#define HOLDER_H

#include <signal.h>
#include <stdbool.h>

#include <libpq-fe.h>

#define MAX_LEASES 64

/* What I believe to hold, and until when */
typedef struct Lease
{
	char		name[254];
	char		token[21];		/* fencing token */
	double		until;
} Lease;

typedef struct Holder
{
	char		identity[300];
	const char *namespace;
	double		duration;		/* of the leases; times are in seconds */
	double		third;			/* of the duration */
	int			nleases;
	Lease		leases[MAX_LEASES];
	double		retry;			/* not before that, when a renewal failed */
	bool		unsure;			/* it did */
	PGconn	   *conn;			/* NULL: connect */
	bool		doubt;			/* the answer is not to be relied on */
	bool		refused;		/* the server said no: SQLSTATE LS001 */
} Holder;

/* Set by SIGTERM and SIGINT */
extern volatile sig_atomic_t stopping;

extern double now(void);
extern void nap(double seconds);
extern void say(const char *format,...) __attribute__((format(printf, 1, 2)));

extern void holder_init(Holder *h, const char *namespace);
extern const char *holder_acquire(Holder *h, const char *name, double wait, double hold_at_least);
extern const char *holder_token(const Holder *h, const char *name);
extern void holder_keep(Holder *h);
extern void holder_forget(Holder *h, const char *name);
extern void holder_release(Holder *h, const char *name);
extern PGresult *holder_ask(Holder *h, double limit, const char *sql,
							int nparams, const char *const *params);

#endif
