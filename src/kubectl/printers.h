/*
 * printers.h
 *		Objects as the JSON and the YAML that kubectl prints, and manifests as
 *		objects.
 */
#ifndef KUBECTL_PRINTERS_H
#define KUBECTL_PRINTERS_H

#include "lib/stringinfo.h"
#include "nodes/pg_list.h"
#include "utils/jsonb.h"

#include "compat.h"

/* A pair of a map; of a list only the value. */
typedef struct KubectlMember
{
	JsonbValue	key;
	JsonbValue	value;
} KubectlMember;

/* Digits of the largest double in Go's notation without exponent. */
#define KUBECTL_FLOAT_SIZE 400

/* json.c */
extern void kubectl_print_json(StringInfo out, const Jsonb *value);
extern void kubectl_print_compact_json(StringInfo out, const JsonbValue *value);
extern int	kubectl_members(const JsonbValue *value, KubectlMember **members);
extern List *kubectl_member_list(JsonbContainer *object);
extern int	kubectl_compare_keys(const void *a, const void *b);
extern void kubectl_root(const Jsonb *value, JsonbValue *root);
extern bool kubectl_integer(const JsonbValue *number, int64 *integer, double *real);
extern void kubectl_format_float(char *buffer, double value, char format);
extern const char *kubectl_to_utf8(const char *s, int *length);
extern void kubectl_from_utf8(StringInfo out, int start);

/* yaml.c */
extern void kubectl_print_yaml(StringInfo out, const Jsonb *value);

/* yaml_order.c */
extern void kubectl_sort_yaml_members(KubectlMember *members, int n);

/* manifest.c */
extern List *kubectl_read_manifest(const char *text);
pg_noreturn extern void kubectl_refuse_manifest(const char *problem);

/* read_json.c */
extern List *kubectl_read_json(const char *text, int length);

/* read_yaml.c */
extern Jsonb *kubectl_read_yaml(const char *text, int length);

#endif							/* KUBECTL_PRINTERS_H */
