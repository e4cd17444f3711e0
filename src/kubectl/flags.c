/*
 * flags.c
 *		The flags of a command line, by the rules of Go's pflag.
 */
#include "postgres.h"

#include "kubectl.h"

/* Commands that know a flag */
#define GET			(1 << 0)
#define DESCRIBE	(1 << 1)
#define LABEL		(1 << 2)
#define ANNOTATE	(1 << 3)
#define DELETE		(1 << 4)
#define CREATE		(1 << 5)
#define APPLY		(1 << 6)
#define REPLACE		(1 << 7)
#define PATCH		(1 << 8)
#define SELECTING	(GET | DESCRIBE | LABEL | ANNOTATE | DELETE)
#define CHANGING	(LABEL | ANNOTATE | DELETE | CREATE | APPLY | REPLACE | PATCH)
#define ALL			(GET | DESCRIBE | CHANGING)

static const struct
{
	const char *name;
	int			bit;
}			verbs[] = {
	{"get", GET},
	{"describe", DESCRIBE},
	{"label", LABEL},
	{"annotate", ANNOTATE},
	{"delete", DELETE},
	{"create", CREATE},
	{"apply", APPLY},
	{"replace", REPLACE},
	{"patch", PATCH},
};

typedef enum FlagType
{
	BOOL,
	STRING,
	STRING_OR_ALONE,			/* may stand without a value */
	STRINGS,					/* separated by commas, or given more than once */
	ARRAY,						/* given more than once */
	IGNORED_BOOL,				/* makes no difference here */
	IGNORED_STRING,
	UNSUPPORTED_BOOL,
	UNSUPPORTED_STRING
} FlagType;

typedef struct Flag
{
	const char *name;
	char		shorthand;
	FlagType	type;
	int			verbs;
	size_t		offset;			/* in KubectlFlags */
} Flag;

#define AT(field) offsetof(KubectlFlags, field)

static const Flag flags[] = {
	{"namespace", 'n', STRING, ALL, AT(namespace)},
	{"all-namespaces", 'A', BOOL, SELECTING, AT(all_namespaces)},
	{"selector", 'l', STRING, SELECTING | APPLY, AT(selector)},
	{"field-selector", 0, STRING, GET | LABEL | ANNOTATE | DELETE, AT(field_selector)},
	{"output", 'o', STRING, ALL & ~DESCRIBE, AT(output)},
	{"no-headers", 0, BOOL, GET, AT(no_headers)},
	{"show-labels", 0, BOOL, GET, AT(show_labels)},
	{"show-kind", 0, BOOL, GET, AT(show_kind)},
	{"show-managed-fields", 0, BOOL, GET | CHANGING, AT(show_managed_fields)},
	{"ignore-not-found", 0, BOOL, GET | DELETE, AT(ignore_not_found)},
	{"allow-missing-template-keys", 0, BOOL, GET | CHANGING, AT(allow_missing_template_keys)},
	{"sort-by", 0, STRING, GET, AT(sort_by)},
	{"label-columns", 'L', STRINGS, GET, AT(label_columns)},
	{"overwrite", 0, BOOL, LABEL | ANNOTATE | APPLY, AT(overwrite)},
	{"list", 0, BOOL, LABEL | ANNOTATE, AT(list)},
	{"all", 0, BOOL, LABEL | ANNOTATE | DELETE | APPLY, AT(all)},
	{"force", 0, BOOL, DELETE | APPLY | REPLACE, AT(force)},
	{"now", 0, BOOL, DELETE, AT(now)},
	{"grace-period", 0, STRING, DELETE | APPLY | REPLACE, AT(grace_period)},
	{"dry-run", 0, STRING_OR_ALONE, CHANGING, AT(dry_run)},
	{"resource-version", 0, STRING, LABEL | ANNOTATE, AT(resource_version)},
	{"filename", 'f', ARRAY, ALL, AT(filenames)},
	{"patch", 'p', STRING, PATCH, AT(patch)},
	{"type", 0, STRING, PATCH, AT(type)},
	{"show-events", 0, BOOL, DESCRIBE, AT(show_events)},
	{"chunk-size", 0, IGNORED_STRING, GET | DESCRIBE, 0},
	{"server-print", 0, IGNORED_BOOL, GET, 0},
	{"wait", 0, IGNORED_BOOL, DELETE | APPLY | REPLACE, 0},
	{"timeout", 0, IGNORED_STRING, DELETE | APPLY | REPLACE, 0},
	{"cascade", 0, IGNORED_STRING, DELETE | APPLY | REPLACE, 0},
	{"field-manager", 0, IGNORED_STRING, CHANGING, 0},
	{"validate", 0, IGNORED_STRING, CREATE | APPLY | REPLACE, 0},
	{"request-timeout", 0, IGNORED_STRING, ALL, 0},
	{"watch", 'w', UNSUPPORTED_BOOL, GET, 0},
	{"watch-only", 0, UNSUPPORTED_BOOL, GET, 0},
	{"output-watch-events", 0, UNSUPPORTED_BOOL, GET, 0},
	{"raw", 0, UNSUPPORTED_STRING, GET | DELETE | CREATE | REPLACE, 0},
	{"template", 0, UNSUPPORTED_STRING, GET | CHANGING, 0},
	{"subresource", 0, UNSUPPORTED_STRING, GET | REPLACE | PATCH, 0},
	{"kustomize", 'k', UNSUPPORTED_STRING, ALL, 0},
	{"recursive", 'R', UNSUPPORTED_BOOL, ALL, 0},
	{"local", 0, UNSUPPORTED_BOOL, LABEL | ANNOTATE | PATCH, 0},
	{"interactive", 'i', UNSUPPORTED_BOOL, DELETE, 0},
	{"edit", 0, UNSUPPORTED_BOOL, CREATE, 0},
	{"save-config", 0, UNSUPPORTED_BOOL, CREATE | REPLACE, 0},
	{"server-side", 0, UNSUPPORTED_BOOL, APPLY, 0},
	{"prune", 0, UNSUPPORTED_BOOL, APPLY, 0},
	{"patch-file", 0, UNSUPPORTED_STRING, PATCH, 0},
	{"help", 'h', UNSUPPORTED_BOOL, ALL, 0},
};

static int
verb_bit(const char *verb)
{
	for (int i = 0; i < lengthof(verbs); i++)
	{
		if (strcmp(verbs[i].name, verb) == 0)
			return verbs[i].bit;
	}
	return 0;
}

pg_noreturn static void
flag_error(const KubectlCommand *command, const char *message)
{
	ereport(ERROR,
			(errcode(ERRCODE_SYNTAX_ERROR),
			 errmsg("Error: %s\nSee 'kubectl %s --help' for usage.", message, command->verb)));
}

static const Flag *
find_flag(const KubectlCommand *command, const char *name, char shorthand)
{
	int			verb = verb_bit(command->verb);

	for (int i = 0; i < lengthof(flags); i++)
	{
		if ((flags[i].verbs & verb) != 0 &&
			(name != NULL ? strcmp(flags[i].name, name) == 0 : flags[i].shorthand == shorthand))
			return &flags[i];
	}
	return NULL;
}

static bool
takes_no_value(const Flag *flag)
{
	return flag->type == BOOL || flag->type == IGNORED_BOOL || flag->type == UNSUPPORTED_BOOL ||
		flag->type == STRING_OR_ALONE;
}

/* Go's strconv.ParseBool */
static bool
parse_bool(const KubectlCommand *command, const Flag *flag, const char *value)
{
	static const char *const yes[] = {"1", "t", "T", "true", "TRUE", "True"};
	static const char *const no[] = {"0", "f", "F", "false", "FALSE", "False"};

	for (int i = 0; i < lengthof(yes); i++)
	{
		if (strcmp(value, yes[i]) == 0)
			return true;
		if (strcmp(value, no[i]) == 0)
			return false;
	}
	flag_error(command, psprintf("invalid argument \"%s\" for \"%s--%s\" flag: strconv.ParseBool: parsing \"%s\": invalid syntax",
								 value, flag->shorthand ? psprintf("-%c, ", flag->shorthand) : "",
								 flag->name, value));
}

static List *
split_commas(List *list, const char *value)
{
	char	   *copy = pstrdup(value);
	char	   *comma;

	while ((comma = strchr(copy, ',')) != NULL)
	{
		*comma = '\0';
		list = lappend(list, copy);
		copy = comma + 1;
	}
	return lappend(list, copy);
}

static void
set_flag(KubectlCommand *command, const Flag *flag, const char *value)
{
	char	   *field = (char *) &command->flags + flag->offset;

	switch (flag->type)
	{
		case BOOL:
			*(bool *) field = parse_bool(command, flag, value);
			break;
		case STRING:
		case STRING_OR_ALONE:
			*(char **) field = pstrdup(value);
			break;
		case STRINGS:
			*(List **) field = split_commas(*(List **) field, value);
			break;
		case ARRAY:
			*(List **) field = lappend(*(List **) field, pstrdup(value));
			break;
		case IGNORED_BOOL:
			(void) parse_bool(command, flag, value);
			break;
		case IGNORED_STRING:
			break;
		case UNSUPPORTED_BOOL:
			if (!parse_bool(command, flag, value))
				break;
			/* FALLTHROUGH */
		case UNSUPPORTED_STRING:
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("flag --%s is not supported by kubectl()", flag->name),
					 strstr(flag->name, "watch") == NULL ? 0 :
					 errhint("To follow leases, LISTEN lease.")));
	}
}

/* What a flag is worth that stands alone. */
static const char *
value_alone(const Flag *flag)
{
	return flag->type == STRING_OR_ALONE ? "unchanged" : "true";
}

/* --name, --name=value or --name value; returns the word used last. */
static int
long_flag(KubectlCommand *command, List *words, int i)
{
	char	   *name = pstrdup((char *) list_nth(words, i) + 2);
	char	   *equals = strchr(name, '=');
	const Flag *flag;

	if (equals != NULL)
		*equals = '\0';
	if (name[0] == '\0' || name[0] == '-')
		flag_error(command, psprintf("bad flag syntax: %s", (char *) list_nth(words, i)));
	for (char *p = name; *p != '\0'; p++)
	{
		if (*p == '_')
			*p = '-';
	}
	flag = find_flag(command, name, 0);
	if (flag == NULL)
		flag_error(command, psprintf("unknown flag: --%s", name));
	if (equals != NULL)
		set_flag(command, flag, equals + 1);
	else if (takes_no_value(flag))
		set_flag(command, flag, value_alone(flag));
	else if (i + 1 < list_length(words))
		set_flag(command, flag, list_nth(words, ++i));
	else
		flag_error(command, psprintf("flag needs an argument: --%s", name));
	return i;
}

/* -a, -ab, -avalue, -a=value or -a value; returns the word used last. */
static int
short_flags(KubectlCommand *command, List *words, int i)
{
	const char *word = list_nth(words, i);

	for (const char *p = word + 1; *p != '\0'; p++)
	{
		const Flag *flag = find_flag(command, NULL, *p);

		if (flag == NULL)
			flag_error(command, psprintf("unknown shorthand flag: '%c' in -%s", *p, word + 1));
		if (p[1] == '=')
			set_flag(command, flag, p + 2);
		else if (takes_no_value(flag))
		{
			set_flag(command, flag, value_alone(flag));
			continue;
		}
		else if (p[1] != '\0')
			set_flag(command, flag, p + 1);
		else if (i + 1 < list_length(words))
			set_flag(command, flag, list_nth(words, ++i));
		else
			flag_error(command, psprintf("flag needs an argument: '%c' in -%s", *p, word + 1));
		break;
	}
	return i;
}

/* Does a flag before the verb take the next word for its value? */
static bool
value_follows(const char *word)
{
	if (strchr(word, '=') != NULL)
		return false;
	if (word[1] != '-')
		return word[2] == '\0' && strchr("nlofLpk", word[1]) != NULL;
	for (int i = 0; i < lengthof(flags); i++)
	{
		if (strcmp(flags[i].name, word + 2) == 0)
			return !takes_no_value(&flags[i]);
	}
	return false;
}

pg_noreturn static void
report_unknown_verb(const char *verb)
{
	static const char *const others[] = {
		"annotations", "api-resources", "api-versions", "attach", "auth", "autoscale", "certificate",
		"cluster-info", "completion", "config", "cordon", "cp", "debug", "diff", "drain", "edit",
		"events", "exec", "explain", "expose", "kustomize", "logs", "options", "plugin",
		"port-forward", "proxy", "rollout", "run", "scale", "set", "taint", "top", "uncordon",
		"version", "wait", "help"
	};

	for (int i = 0; i < lengthof(others); i++)
	{
		if (strcmp(others[i], verb) == 0)
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("\"kubectl %s\" is not supported by kubectl()", verb),
					 errhint("There are get, describe, label, annotate, delete, create, apply, replace and patch.")));
	}
	ereport(ERROR,
			(errcode(ERRCODE_SYNTAX_ERROR),
			 errmsg("error: unknown command \"%s\" for \"kubectl\"", verb)));
}

/* Takes the verb out of the words, wherever flags before it end. */
static List *
take_verb(KubectlCommand *command, List *words)
{
	if (words != NIL && strcmp(linitial(words), "kubectl") == 0)
		words = list_delete_first(words);
	for (int i = 0; i < list_length(words); i++)
	{
		char	   *word = list_nth(words, i);

		if (word[0] == '-' && word[1] != '\0')
		{
			if (value_follows(word))
				i++;
			continue;
		}
		command->verb = word;
		if (verb_bit(word) == 0)
			report_unknown_verb(word);
		return list_delete_nth_cell(words, i);
	}
	ereport(ERROR,
			(errcode(ERRCODE_SYNTAX_ERROR),
			 errmsg("command line names no command"),
			 errhint("For example: kubectl('get leases -A').")));
}

/*
 * Sets verb, flags and args of a command.
 */
void
kubectl_parse_flags(KubectlCommand *command, List *words)
{
	memset(&command->flags, 0, sizeof(command->flags));
	command->flags.allow_missing_template_keys = true;
	command->flags.show_events = true;
	command->args = NIL;

	words = take_verb(command, words);
	for (int i = 0; i < list_length(words); i++)
	{
		char	   *word = list_nth(words, i);

		if (word[0] != '-' || word[1] == '\0')
			command->args = lappend(command->args, word);
		else if (word[1] != '-')
			i = short_flags(command, words, i);
		else if (word[2] != '\0')
			i = long_flag(command, words, i);
		else
		{
			while (++i < list_length(words))
				command->args = lappend(command->args, list_nth(words, i));
		}
	}
}
