/*
 * resolve.h
 *		What a plain YAML scalar means.  For yaml.c and read_yaml.c.
 */
#ifndef KUBECTL_RESOLVE_H
#define KUBECTL_RESOLVE_H

typedef enum KubectlYamlType
{
	YAML_STRING,
	YAML_NULL,
	YAML_TRUE,
	YAML_FALSE,
	YAML_INTEGER,
	YAML_REAL,
	YAML_INFINITY,
	YAML_MINUS_INFINITY,
	YAML_NAN,
	YAML_TIMESTAMP				/* read as a string, but written with quotes */
} KubectlYamlType;

typedef struct KubectlYamlScalar
{
	KubectlYamlType type;
	bool		negative;		/* of an integer */
	uint64		integer;		/* its absolute value */
	double		real;
} KubectlYamlScalar;

extern KubectlYamlScalar kubectl_resolve_yaml(const char *s, int length);
extern bool kubectl_is_yaml_base_60(const char *s);

#endif							/* KUBECTL_RESOLVE_H */
