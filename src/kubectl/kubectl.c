/*
 * kubectl.c
 *		The SQL function kubectl(): runs a command line, and returns what kubectl
 *		would print.
 *
 * What it would print on standard error becomes a NOTICE; a WARNING, if the
 * command has failed but printed something; or an ERROR, if that is all there is.
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "object.h"
#include "kubectl.h"

PG_FUNCTION_INFO_V1(kubectl);

static const struct
{
	const char *verb;
	bool		changes;
	void		(*run) (KubectlCommand *command);
}			verbs[] = {
	{"get", false, kubectl_get},
	{"describe", false, kubectl_describe_command},
	{"label", true, kubectl_label_command},
	{"annotate", true, kubectl_annotate_command},
	{"delete", true, kubectl_delete_command},
	{"create", true, kubectl_create_command},
	{"apply", true, kubectl_apply_command},
	{"replace", true, kubectl_replace_command},
	{"patch", true, kubectl_patch_command},
};

static void append(StringInfo out, const char *fmt, va_list args) pg_attribute_printf(2, 0);

static void
append(StringInfo out, const char *fmt, va_list args)
{
	for (;;)
	{
		va_list		copy;
		int			needed;

		va_copy(copy, args);
		needed = appendStringInfoVA(out, fmt, copy);
		va_end(copy);
		if (needed == 0)
			return;
		enlargeStringInfo(out, needed);
	}
}

/*
 * Prints to standard output.
 */
void
kubectl_say(KubectlCommand *command, const char *fmt,...)
{
	va_list		args;

	va_start(args, fmt);
	append(&command->out, fmt, args);
	va_end(args);
}

/*
 * Prints a line to standard error.  The command has failed, but goes on.
 */
void
kubectl_say_error(KubectlCommand *command, int sqlstate, const char *fmt,...)
{
	va_list		args;

	va_start(args, fmt);
	append(&command->err, fmt, args);
	va_end(args);
	appendStringInfoChar(&command->err, '\n');
	if (!command->failed)
		command->sqlstate = sqlstate;
	command->failed = true;
}

/*
 * Ends a command that cannot be run as it was typed.
 */
void
kubectl_usage_error(const char *fmt,...)
{
	StringInfoData text;
	va_list		args;

	initStringInfo(&text);
	va_start(args, fmt);
	append(&text, fmt, args);
	va_end(args);
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg_internal("%s", text.data)));
	pg_unreachable();
}

static void
report(const KubectlCommand *command)
{
	int			level = !command->failed ? NOTICE : command->out.len > 0 ? WARNING : ERROR;
	int			len = command->err.len;

	if (len == 0)
		return;
	if (command->err.data[len - 1] == '\n')
		len--;
	ereport(level,
			(errcode(command->failed ? command->sqlstate : ERRCODE_SUCCESSFUL_COMPLETION),
			 errmsg_internal("%.*s", len, command->err.data)));
}

/*
 * A command that changes something is refused on a standby, whether there would
 * be something to change or not, as all functions are.
 */
static void
require_writable(const KubectlCommand *command)
{
	const char *words;

	if (!kubectl_is_dry_run(command, &words) && !command->flags.list)
		lease_require_writable(psprintf("kubectl %s", command->verb));
}

/*
 * SQL: kubectl(command, at, manifest)
 */
Datum
kubectl(PG_FUNCTION_ARGS)
{
	KubectlCommand command = {.funcid = fcinfo->flinfo->fn_oid};

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("%s must not be null", PG_ARGISNULL(0) ? "command" : "at"),
				 errhint("For example: kubectl('get leases -A').")));
	command.at = PG_GETARG_TIMESTAMPTZ(1);
	command.manifest = PG_ARGISNULL(2) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(2));
	initStringInfo(&command.out);
	initStringInfo(&command.err);
	kubectl_parse_flags(&command, kubectl_split_words(text_to_cstring(PG_GETARG_TEXT_PP(0))));

	for (int i = 0; i < lengthof(verbs); i++)
	{
		if (strcmp(verbs[i].verb, command.verb) != 0)
			continue;
		if (verbs[i].changes)
			require_writable(&command);
		verbs[i].run(&command);
		report(&command);
		PG_RETURN_TEXT_P(cstring_to_text_with_len(command.out.data, command.out.len));
	}
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("\"kubectl %s\" is not supported by kubectl()", command.verb)));
}
