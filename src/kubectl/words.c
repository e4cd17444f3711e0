/*
 * words.c
 *		The words of a command line, as a POSIX shell splits them.
 *
 * Quotes and backslashes mean what they mean there.  Nothing is expanded; what
 * a shell would expand, redirect or run is refused unless it is quoted.
 */
#include "postgres.h"

#include "lib/stringinfo.h"

#include "kubectl.h"

pg_noreturn static void
unterminated(const char *what)
{
	ereport(ERROR,
			(errcode(ERRCODE_SYNTAX_ERROR),
			 errmsg("unterminated %s in command line", what)));
}

/* Appends what a double quote encloses; returns its end. */
static const char *
double_quoted(const char *p, StringInfo word)
{
	for (; *p != '"'; p++)
	{
		if (*p == '\0')
			unterminated("double quote");
		if (*p == '\\' && p[1] != '\0' && strchr("$`\"\\\n", p[1]) != NULL)
		{
			if (*++p == '\n')
				continue;
		}
		else if (*p == '$' || *p == '`')
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("shell expansion is not supported"),
					 errhint("Put the word in single quotes.")));
		appendStringInfoChar(word, *p);
	}
	return p;
}

static const char *
single_quoted(const char *p, StringInfo word)
{
	for (; *p != '\''; p++)
	{
		if (*p == '\0')
			unterminated("single quote");
		appendStringInfoChar(word, *p);
	}
	return p;
}

/* Appends one word; returns where it ends. */
static const char *
read_word(const char *p, StringInfo word)
{
	for (; *p != '\0' && strchr(" \t\r\n", *p) == NULL; p++)
	{
		if (*p == '\'')
			p = single_quoted(p + 1, word);
		else if (*p == '"')
			p = double_quoted(p + 1, word);
		else if (*p == '\\')
		{
			if (*++p == '\0')
				unterminated("escape");
			if (*p != '\n')
				appendStringInfoChar(word, *p);
		}
		else if (strchr("|&;<>()$`", *p) != NULL)
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("shell syntax is not supported: \"%c\"", *p),
					 errhint("No shell runs this: put the word in quotes if it belongs to an argument, and filter the result in SQL.")));
		else
			appendStringInfoChar(word, *p);
	}
	return p;
}

/*
 * Returns the words, char *.
 */
List *
kubectl_split_words(const char *line)
{
	List	   *words = NIL;

	for (;;)
	{
		StringInfoData word;

		line += strspn(line, " \t\r\n");
		if (*line == '\0')
			return words;
		initStringInfo(&word);
		line = read_word(line, &word);
		words = lappend(words, word.data);
	}
}
