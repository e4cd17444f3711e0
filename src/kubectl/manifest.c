/*
 * manifest.c
 *		Manifests: the documents of a text in YAML, or in JSON, as kubectl reads
 *		them from a file.
 */
#include "postgres.h"

#include <ctype.h>

#include "fmgr.h"
#include "funcapi.h"
#include "utils/builtins.h"

#include "kubectl/printers.h"

PG_FUNCTION_INFO_V1(kubectl_manifest);

/* How far kubectl looks for the brace that tells JSON from YAML. */
#define GUESS_SIZE 4096

/*
 * Errors out, in the words of kubectl.
 */
void
kubectl_refuse_manifest(const char *problem)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_TEXT_REPRESENTATION),
			 errmsg("error: error parsing STDIN: %s", problem)));
}

/* "---" and a comment; the rest of the line, without white space around it. */
static void
check_separator(const char *rest, const char *end)
{
	while (rest < end && isspace((unsigned char) *rest))
		rest++;
	while (rest < end && isspace((unsigned char) end[-1]))
		end--;
	if (rest < end && *rest != '#')
		kubectl_refuse_manifest(psprintf("invalid Yaml document separator: %.*s", (int) (end - rest), rest));
}

static List *
add_yaml(List *documents, StringInfo text)
{
	Jsonb	   *document = kubectl_read_yaml(text->data, text->len);

	return document == NULL ? documents : lappend(documents, document);
}

/* A line that begins with "---" ends a document, if anything came before it. */
static List *
read_stream(const char *text, int length)
{
	List	   *documents = NIL;
	const char *end = text + length;
	StringInfoData document;

	initStringInfo(&document);
	while (text < end)
	{
		const char *newline = memchr(text, '\n', end - text);
		const char *line_end = newline ? newline : end;
		const char *next = newline ? newline + 1 : end;

		if (line_end - text >= 3 && strncmp(text, "---", 3) == 0)
		{
			check_separator(text + 3, line_end);
			if (document.len > 0)
			{
				documents = add_yaml(documents, &document);
				resetStringInfo(&document);
				text = next;
				continue;
			}
		}
		appendBinaryStringInfo(&document, text, line_end - text);
		if (newline && line_end > text && line_end[-1] == '\r')
			document.len--;
		appendStringInfoChar(&document, '\n');
		text = next;
	}
	if (document.len > 0)
		documents = add_yaml(documents, &document);
	return documents;
}

/* JSON if a brace comes first. */
static bool
is_json(const char *text, int length)
{
	int			i = 0;

	while (i < Min(length, GUESS_SIZE) && isspace((unsigned char) text[i]))
		i++;
	return i < Min(length, GUESS_SIZE) && text[i] == '{';
}

/* The documents in it that are not empty, each a Jsonb. */
List *
kubectl_read_manifest(const char *text)
{
	int			length = strlen(text);

	text = kubectl_to_utf8(text, &length);
	return is_json(text, length) ? kubectl_read_json(text, length) : read_stream(text, length);
}

/*
 * SQL: kubectl_manifest(manifest)
 */
Datum
kubectl_manifest(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	List	   *documents;
	ListCell   *cell;

	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	documents = kubectl_read_manifest(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	foreach(cell, documents)
	{
		Datum		document = JsonbPGetDatum(lfirst(cell));
		bool		isnull = false;

		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, &document, &isnull);
	}
	return (Datum) 0;
}
