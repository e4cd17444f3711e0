/*
 * store_row.c
 *		A row of the table as the code sees it, from its columns.
 */
#include "postgres.h"

#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

#include "store.h"

/*
 * Sets row from its columns; values and nulls are indexed by LeaseColumn.
 */
void
lease_row_set(LeaseRow *row, const Datum *values, const bool *nulls)
{
	row->holder_identity = nulls[COL_HOLDER_IDENTITY] ? NULL :
		DatumGetTextPCopy(values[COL_HOLDER_IDENTITY]);
	row->lease_duration_seconds = nulls[COL_LEASE_DURATION_SECONDS] ? LEASE_NO_DURATION :
		DatumGetInt32(values[COL_LEASE_DURATION_SECONDS]);
	row->acquire_time = nulls[COL_ACQUIRE_TIME] ? LEASE_NO_TIME :
		DatumGetTimestampTz(values[COL_ACQUIRE_TIME]);
	row->renew_time = nulls[COL_RENEW_TIME] ? LEASE_NO_TIME :
		DatumGetTimestampTz(values[COL_RENEW_TIME]);
	row->lease_transitions = nulls[COL_LEASE_TRANSITIONS] ? LEASE_NO_TRANSITIONS :
		DatumGetInt32(values[COL_LEASE_TRANSITIONS]);
	row->lock_delay_seconds = nulls[COL_LOCK_DELAY_SECONDS] ? 0 :
		DatumGetInt32(values[COL_LOCK_DELAY_SECONDS]);
	row->not_before = nulls[COL_NOT_BEFORE] ? LEASE_NO_TIME :
		DatumGetTimestampTz(values[COL_NOT_BEFORE]);
	row->reserved_for = nulls[COL_RESERVED_FOR] ? NULL :
		DatumGetTextPCopy(values[COL_RESERVED_FOR]);
	row->fencing_token = DatumGetInt64(values[COL_FENCING_TOKEN]);
	row->resource_version = DatumGetInt64(values[COL_RESOURCE_VERSION]);
}

/*
 * Sets labels and finalizers likewise.
 */
void
lease_metadata_set(LeaseFound *found, const Datum *values, const bool *nulls)
{
	found->labels = nulls[COL_LABELS] ? NULL : DatumGetJsonbP(values[COL_LABELS]);
	found->has_finalizers = !nulls[COL_FINALIZERS] &&
		ARR_NDIM(DatumGetArrayTypeP(values[COL_FINALIZERS])) > 0;
}
