/*
 * selector.c
 *		Field selectors, as the API server reads them:
 *		k8s.io/apimachinery/pkg/fields.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"

#include "kubectl.h"
#include "object.h"

typedef struct FieldTerm
{
	char	   *field;
	bool		equal;
	char	   *value;
} FieldTerm;

struct KubectlFieldSelector
{
	List	   *terms;
};

/* Without its escapes.  NULL and *error if they are wrong. */
static char *
unescape(const char *s, char **error)
{
	StringInfoData value;

	initStringInfo(&value);
	for (; *s != '\0'; s++)
	{
		if (*s == '=' || *s == ',')
		{
			*error = psprintf("invalid field selector: unescaped character in value: %d", *s);
			return NULL;
		}
		if (*s == '\\' && (*++s == '\0' || strchr("\\,=", *s) == NULL))
		{
			*error = psprintf("invalid field selector: invalid escape sequence: \\%.*s",
							  *s == '\0' ? 0 : pg_mblen(s), s);
			return NULL;
		}
		appendStringInfoChar(&value, *s);
	}
	return value.data;
}

static bool
is_known_field(const char *field, bool of_nodes)
{
	return strcmp(field, "metadata.name") == 0 ||
		strcmp(field, of_nodes ? "spec.unschedulable" : "metadata.namespace") == 0;
}

static FieldTerm *
parse_term(const char *text, char *part, bool of_nodes, char **error)
{
	FieldTerm  *term = palloc(sizeof(FieldTerm));
	char	   *p = part;

	while (*p != '\0' && *p != '=' && !(*p == '!' && p[1] == '='))
		p++;
	if (*p == '\0')
	{
		*error = psprintf("invalid selector: '%s'; can't understand '%s'", text, part);
		return NULL;
	}
	term->field = pnstrdup(part, p - part);
	term->equal = *p == '=';
	p += *p == '!' || p[1] == '=' ? 2 : 1;
	term->value = unescape(p, error);
	return term->value == NULL ? NULL : term;
}

/*
 * Returns NULL and sets *error if the API server would refuse it.
 */
KubectlFieldSelector *
kubectl_parse_field_selector(const char *text, bool of_nodes, char **error)
{
	KubectlFieldSelector *selector = palloc0(sizeof(KubectlFieldSelector));
	const char *start = text;
	ListCell   *lc;

	*error = NULL;
	for (const char *p = text;; p++)
	{
		FieldTerm  *term;

		if (*p == '\\' && p[1] != '\0')
		{
			p++;
			continue;
		}
		if (*p != ',' && *p != '\0')
			continue;
		if (p > start)
		{
			term = parse_term(text, pnstrdup(start, p - start), of_nodes, error);
			if (term == NULL)
				return NULL;
			selector->terms = lappend(selector->terms, term);
		}
		if (*p == '\0')
			break;
		start = p + 1;
	}
	foreach(lc, selector->terms)
	{
		FieldTerm  *term = lfirst(lc);

		if (is_known_field(term->field, of_nodes))
			continue;
		*error = of_nodes ? psprintf("field label not supported: %s", term->field) :
			psprintf("%s is not a known field selector: only \"metadata.name\", \"metadata.namespace\"",
					 lease_go_quote(term->field, strlen(term->field)));
		return NULL;
	}
	return selector;
}

/*
 * Does the object with these fields match?  namespace is that of a lease, unschedulable
 * of a node.
 */
bool
kubectl_field_selector_matches(const KubectlFieldSelector *selector, const char *name,
							   const char *namespace, bool unschedulable)
{
	ListCell   *lc;

	foreach(lc, selector->terms)
	{
		const FieldTerm *term = lfirst(lc);
		const char *value = strcmp(term->field, "metadata.name") == 0 ? name :
			strcmp(term->field, "metadata.namespace") == 0 ? namespace :
			unschedulable ? "true" : "false";

		if ((strcmp(term->value, value) == 0) != term->equal)
			return false;
	}
	return true;
}
