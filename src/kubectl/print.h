/*
 * print.h
 *		JSON and YAML as kubectl prints them.
 */
#ifndef KUBECTL_PRINT_H
#define KUBECTL_PRINT_H

#include "lib/stringinfo.h"
#include "nodes/pg_list.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"

/* json.c */
extern void kubectl_print_json(StringInfo out, const Jsonb *value);
extern void kubectl_print_compact_json(StringInfo out, const JsonbValue *value);
extern List *kubectl_members(JsonbContainer *object);
extern char *kubectl_number_text(Numeric number);

/* yaml.c */
typedef enum KubectlScalar
{
	KUBECTL_STRING,
	KUBECTL_NULL,
	KUBECTL_TRUE,
	KUBECTL_FALSE,
	KUBECTL_INTEGER,
	KUBECTL_FLOAT,
	KUBECTL_NOT_FINITE
} KubectlScalar;

extern void kubectl_print_yaml(StringInfo out, const Jsonb *value);
extern KubectlScalar kubectl_resolve_scalar(const char *s);
extern char *kubectl_scalar_number(const char *s);

/* A member of an object; key and value point into it. */
typedef struct KubectlMember
{
	JsonbValue	key;
	JsonbValue	value;
} KubectlMember;

#endif							/* KUBECTL_PRINT_H */
