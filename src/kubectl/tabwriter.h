/*
 * tabwriter.h
 *		Text in columns, as Go's text/tabwriter lays it out with blanks.
 */
#ifndef KUBECTL_TABWRITER_H
#define KUBECTL_TABWRITER_H

#include "lib/stringinfo.h"

typedef struct KubectlTable KubectlTable;

extern KubectlTable *kubectl_table_new(int minwidth, int padding);
extern void kubectl_table_write(KubectlTable *table, const char *text);
extern void kubectl_table_flush(KubectlTable *table, StringInfo out);

#endif							/* KUBECTL_TABWRITER_H */
