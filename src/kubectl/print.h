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
extern void kubectl_print_yaml(StringInfo out, const Jsonb *value);

/* A member of an object; key and value point into it. */
typedef struct KubectlMember
{
	JsonbValue	key;
	JsonbValue	value;
} KubectlMember;

#endif							/* KUBECTL_PRINT_H */
