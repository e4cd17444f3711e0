/*
 * sort.h
 *		--sort-by
 */
#ifndef KUBECTL_SORT_H
#define KUBECTL_SORT_H

#include "nodes/pg_list.h"

extern List *kubectl_sort(List *objects, const char *path, char **error);

#endif							/* KUBECTL_SORT_H */
