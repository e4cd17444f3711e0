/*
 * stat_file.c
 *		The file that numbers are in while the server is down.
 *
 * It is removed as soon as it has been read, so that after a crash, and in a base
 * backup, there is none.
 */
#include "postgres.h"

#include <sys/stat.h>
#include <unistd.h>

#include "pgstat.h"
#include "port/pg_crc32c.h"
#include "storage/fd.h"

#include "stat.h"

#define FILE_NAME PGSTAT_STAT_PERMANENT_DIRECTORY "/lease.stat"
#define TEMPORARY_NAME FILE_NAME ".tmp"

/* Change it with what is written. */
#define MAGIC 0x4C530001

typedef struct FileHeader
{
	uint32		magic;
	uint32		server_version;
	uint32		namespace_size;
	uint32		database_size;
	int32		namespace_count;
	int32		database_count;
} FileHeader;

typedef struct NumbersFile
{
	FILE	   *file;
	pg_crc32c	crc;			/* of what was written or read so far */
} NumbersFile;

static bool
put(NumbersFile *f, const void *data, Size size)
{
	COMP_CRC32C(f->crc, data, size);
	return size == 0 || fwrite(data, size, 1, f->file) == 1;
}

static bool
get(NumbersFile *f, void *data, Size size)
{
	if (size != 0 && fread(data, size, 1, f->file) != 1)
		return false;
	COMP_CRC32C(f->crc, data, size);
	return true;
}

static bool
put_all(NumbersFile *f, const LeaseStatNumbers *numbers)
{
	FileHeader	header = {
		.magic = MAGIC,
		.server_version = PG_MAJORVERSION_NUM,
		.namespace_size = sizeof(LeaseStatNamespace),
		.database_size = sizeof(LeaseStatDatabase),
		.namespace_count = numbers->namespace_count,
		.database_count = numbers->database_count,
	};
	pg_crc32c	crc;

	INIT_CRC32C(f->crc);
	if (!put(f, &header, sizeof(header)) ||
		!put(f, numbers->namespaces, header.namespace_count * sizeof(LeaseStatNamespace)) ||
		!put(f, numbers->databases, header.database_count * sizeof(LeaseStatDatabase)))
		return false;
	crc = f->crc;
	FIN_CRC32C(crc);
	return put(f, &crc, sizeof(crc));
}

/*
 * Writes the file.  What goes wrong is logged.
 */
void
lease_stat_write_file(const LeaseStatNumbers *numbers)
{
	NumbersFile f = {.file = AllocateFile(TEMPORARY_NAME, PG_BINARY_W)};
	bool		written = f.file != NULL && put_all(&f, numbers);

	if (f.file != NULL && FreeFile(f.file) != 0)
		written = false;
	if (!written)
		ereport(LOG,
				(errcode_for_file_access(),
				 errmsg("could not write file \"%s\": %m", TEMPORARY_NAME)));
	if (!written || durable_rename(TEMPORARY_NAME, FILE_NAME, LOG) != 0)
		unlink(TEMPORARY_NAME);
}

/*
 * Is this the header of a file with nothing but what it says?
 */
static bool
is_ours(const NumbersFile *f, const FileHeader *header)
{
	struct stat st;

	return header->magic == MAGIC && header->server_version == PG_MAJORVERSION_NUM &&
		header->namespace_size == sizeof(LeaseStatNamespace) &&
		header->database_size == sizeof(LeaseStatDatabase) &&
		header->namespace_count >= 0 &&
		header->namespace_count <= LEASE_STAT_MAX_NAMESPACES + LEASE_STAT_DATABASES &&
		header->database_count >= 0 && header->database_count <= LEASE_STAT_DATABASES &&
		fstat(fileno(f->file), &st) == 0 &&
		st.st_size == sizeof(FileHeader) + sizeof(pg_crc32c) +
		header->namespace_count * sizeof(LeaseStatNamespace) +
		header->database_count * sizeof(LeaseStatDatabase);
}

static bool
get_all(NumbersFile *f, LeaseStatNumbers *numbers)
{
	FileHeader	header;
	pg_crc32c	computed;
	pg_crc32c	crc;

	INIT_CRC32C(f->crc);
	if (!get(f, &header, sizeof(header)) || !is_ours(f, &header))
		return false;
	numbers->namespace_count = header.namespace_count;
	numbers->database_count = header.database_count;
	numbers->namespaces = palloc0((header.namespace_count + 1) * sizeof(LeaseStatNamespace));
	numbers->databases = palloc0((header.database_count + 1) * sizeof(LeaseStatDatabase));
	if (!get(f, numbers->namespaces, header.namespace_count * sizeof(LeaseStatNamespace)) ||
		!get(f, numbers->databases, header.database_count * sizeof(LeaseStatDatabase)))
		return false;
	computed = f->crc;
	FIN_CRC32C(computed);
	return get(f, &crc, sizeof(crc)) && EQ_CRC32C(computed, crc);
}

/*
 * Reads the file and removes it.  False if there is none, or it is not as it was
 * written; that is logged.
 */
bool
lease_stat_read_file(LeaseStatNumbers *numbers)
{
	NumbersFile f = {.file = AllocateFile(FILE_NAME, PG_BINARY_R)};
	bool		result;

	if (f.file == NULL)
	{
		if (errno != ENOENT)
			ereport(LOG,
					(errcode_for_file_access(),
					 errmsg("could not read file \"%s\": %m", FILE_NAME)));
		return false;
	}
	result = get_all(&f, numbers);
	FreeFile(f.file);
	if (!result)
		ereport(LOG,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("ignoring invalid data in file \"%s\"", FILE_NAME)));
	unlink(FILE_NAME);
	return result;
}
