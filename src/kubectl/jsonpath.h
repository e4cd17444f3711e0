/*
 * jsonpath.h
 *		Kubernetes' JSONPath templates.
 */
#ifndef KUBECTL_JSONPATH_H
#define KUBECTL_JSONPATH_H

#include "lib/stringinfo.h"
#include "nodes/pg_list.h"
#include "utils/jsonb.h"

typedef struct KubectlPath KubectlPath;

/* jsonpath_parse.c */
extern KubectlPath *kubectl_parse_path(const char *template);
extern char *kubectl_relaxed_path(const char *path);

/* jsonpath.c */
extern bool kubectl_print_path(StringInfo out, KubectlPath *path, const JsonbValue *data,
							   bool allow_missing, char **error);
extern List *kubectl_find_path(KubectlPath *path, const JsonbValue *data);
extern void kubectl_print_go_value(StringInfo out, const JsonbValue *value);

#endif							/* KUBECTL_JSONPATH_H */
