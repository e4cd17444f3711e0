/*
 * columns.h
 *		-o custom-columns
 */
#ifndef KUBECTL_COLUMNS_H
#define KUBECTL_COLUMNS_H

#include "lib/stringinfo.h"
#include "nodes/pg_list.h"

extern void kubectl_print_columns(StringInfo out, const char *spec, bool no_headers,
								  List *objects);

#endif							/* KUBECTL_COLUMNS_H */
