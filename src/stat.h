/*
 * stat.h
 *		What the files that keep, store and show numbers share: copies of them.
 *		For stat*.c only.
 */
#ifndef LEASE_STAT_H
#define LEASE_STAT_H

#include "lease.h"

/* Of more databases nothing is counted. */
#define LEASE_STAT_DATABASES 256

/* lease.stat_namespaces cannot be greater. */
#define LEASE_STAT_MAX_NAMESPACES 100000

/* What is counted for a namespace; or, without a name, for those that found no room. */
typedef struct LeaseStatNamespace
{
	Oid			database;
	char		namespace[LEASE_MAX_LABEL + 1];
	uint64		counts[LEASE_STAT_COUNTERS];
} LeaseStatNamespace;

/* What is known of a database besides. */
typedef struct LeaseStatDatabase
{
	Oid			database;
	int			encoding;		/* of last_error */
	int64		gc_runs;
	int64		gc_time;		/* microseconds, as the next but one */
	TimestampTz gc_last_time;	/* when it ended; LEASE_NO_TIME: never */
	int64		gc_last_duration;
	TimestampTz last_error_time;	/* LEASE_NO_TIME: there was none */
	TimestampTz stats_reset;	/* counted since then */
	char		last_error[256];
} LeaseStatDatabase;

typedef struct LeaseStatNumbers
{
	int			namespace_count;
	int			database_count;
	LeaseStatNamespace *namespaces;
	LeaseStatDatabase *databases;
} LeaseStatNumbers;

/* stat.c */
extern LeaseStatNumbers lease_stat_copy(void);

/* stat_file.c */
extern void lease_stat_write_file(const LeaseStatNumbers *numbers);
extern bool lease_stat_read_file(LeaseStatNumbers *numbers);

#endif							/* LEASE_STAT_H */
