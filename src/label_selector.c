/*
 * label_selector.c
 *		Label selectors, as the API server reads them:
 *		k8s.io/apimachinery/pkg/labels.
 */
#include "postgres.h"

#include "miscadmin.h"

#include "object.h"

/*
 * ---------- Words ----------
 */

typedef enum Token
{
	END_OF_STRING,
	CLOSED_PAR,
	COMMA,
	DOES_NOT_EXIST,
	EQUALS,
	DOUBLE_EQUALS,
	NOT_EQUALS,
	GREATER_THAN,
	LESS_THAN,
	OPEN_PAR,
	IN,
	NOT_IN,
	IDENTIFIER
} Token;

static const struct
{
	const char *text;
	Token		token;
}			token_texts[] = {
	{")", CLOSED_PAR}, {",", COMMA}, {"!", DOES_NOT_EXIST}, {"==", DOUBLE_EQUALS},
	{"=", EQUALS}, {"!=", NOT_EQUALS}, {">", GREATER_THAN}, {"<", LESS_THAN},
	{"(", OPEN_PAR}, {"in", IN}, {"notin", NOT_IN},
};

typedef struct Lexer
{
	const char *next;
	Token		token;			/* looked at, not consumed */
	char	   *literal;
	char	   *error;			/* the first */
} Lexer;

static bool
find_token(const char *text, int len, Token *token)
{
	for (int i = 0; i < lengthof(token_texts); i++)
	{
		if (strlen(token_texts[i].text) == len && strncmp(token_texts[i].text, text, len) == 0)
		{
			*token = token_texts[i].token;
			return true;
		}
	}
	return false;
}

static void
scan(Lexer *lexer)
{
	const char *p;
	int			len;

	lexer->next += strspn(lexer->next, " \t\r\n");
	p = lexer->next;
	if (strchr("=!(),><", *p) != NULL && *p != '\0')
	{
		len = 2;
		if (p[1] == '\0' || !find_token(p, len, &lexer->token))
			(void) find_token(p, len = 1, &lexer->token);
	}
	else
	{
		len = strcspn(p, "=!(),>< \t\r\n");
		if (len == 0)
			lexer->token = END_OF_STRING;
		else if (!find_token(p, len, &lexer->token))
			lexer->token = IDENTIFIER;
	}
	lexer->literal = pnstrdup(p, len);
	lexer->next = p + len;
}

/* Where values may stand, in and notin are words like others. */
static Token
look(const Lexer *lexer)
{
	return lexer->token == IN || lexer->token == NOT_IN ? IDENTIFIER : lexer->token;
}

/* Takes the word; its token, with in and notin for what they are. */
static Token
take(Lexer *lexer, char **literal)
{
	Token		token = lexer->token;

	*literal = lexer->literal;
	scan(lexer);
	return token;
}

static Token
take_value(Lexer *lexer, char **literal)
{
	Token		token = take(lexer, literal);

	return token == IN || token == NOT_IN ? IDENTIFIER : token;
}

static void
expected(Lexer *lexer, const char *found, const char *what)
{
	if (lexer->error == NULL)
		lexer->error = psprintf("found '%s', expected: %s", found, what);
}

/*
 * ---------- Requirements ----------
 */

typedef enum Operator
{
	OP_EXISTS,
	OP_NOT_EXISTS,
	OP_IN,						/* also = and == */
	OP_NOT_IN,					/* also != */
	OP_GREATER,
	OP_LESS
} Operator;

typedef struct Requirement
{
	char	   *key;
	Operator	op;
	List	   *values;			/* char *, sorted, each once */
	int64		number;			/* of OP_GREATER and OP_LESS */
} Requirement;

struct LeaseSelector
{
	List	   *requirements;
};

static char *
invalid_value(const char *path, const char *value, List *messages)
{
	return psprintf("%s: Invalid value: %s: %s", path, lease_go_quote(value, strlen(value)),
					lease_join(messages, "; "));
}

static bool
parse_int64(const char *s, int64 *number)
{
	char	   *end;

	errno = 0;
	*number = strtoi64(s, &end, 10);
	return end != s && *end == '\0' && errno == 0;
}

static int
compare_cells(const ListCell *a, const ListCell *b)
{
	return strcmp(lfirst(a), lfirst(b));
}

static List *
add_value(List *values, char *value)
{
	ListCell   *lc;

	foreach(lc, values)
	{
		if (strcmp(lfirst(lc), value) == 0)
			return values;
	}
	values = lappend(values, value);
	list_sort(values, compare_cells);
	return values;
}

/* What NewRequirement() finds wrong with the values. */
static void
check_values(Lexer *lexer, Requirement *r)
{
	List	   *faults = NIL;
	ListCell   *lc;

	foreach(lc, r->values)
	{
		char	   *value = lfirst(lc);
		int			i = foreach_current_index(lc);
		List	   *messages = lease_check_label_value(value);

		if ((r->op == OP_GREATER || r->op == OP_LESS) && !parse_int64(value, &r->number))
			faults = lappend(faults, invalid_value(psprintf("values[%d]", i), value,
												   list_make1("for 'Gt', 'Lt' operators, the value must be an integer")));
		if (messages != NIL)
			faults = lappend(faults, invalid_value(psprintf("values[%d][%s]", i, r->key), value, messages));
	}
	if (faults != NIL && lexer->error == NULL)
		lexer->error = list_length(faults) == 1 ? linitial(faults) : psprintf("[%s]", lease_join(faults, ", "));
}

/* identifier or nothing, separated by commas, up to the parenthesis */
static List *
parse_list(Lexer *lexer)
{
	List	   *values = NIL;

	while (lexer->error == NULL)
	{
		char	   *literal;
		Token		token = take_value(lexer, &literal);

		CHECK_FOR_INTERRUPTS();
		if (token == IDENTIFIER)
		{
			values = add_value(values, literal);
			if (look(lexer) == CLOSED_PAR)
				break;
			if (look(lexer) != COMMA)
				expected(lexer, lexer->literal, "',' or ')'");
		}
		else if (token == COMMA)
		{
			if (values == NIL)
				values = add_value(values, "");
			if (look(lexer) == CLOSED_PAR)
				return add_value(values, "");
			if (look(lexer) == COMMA)
			{
				(void) take(lexer, &literal);
				values = add_value(values, "");
			}
		}
		else
			expected(lexer, literal, "',', or identifier");
	}
	return values;
}

static List *
parse_set(Lexer *lexer)
{
	List	   *values = NIL;
	char	   *literal;

	if (take_value(lexer, &literal) != OPEN_PAR)
	{
		lexer->error = psprintf("found '%s' expected: '('", literal);
		return NIL;
	}
	if (look(lexer) == CLOSED_PAR)
		values = list_make1("");
	else if (look(lexer) == IDENTIFIER || look(lexer) == COMMA)
		values = parse_list(lexer);
	else
		expected(lexer, lexer->literal, "',', ')' or identifier");

	if (lexer->error == NULL && take_value(lexer, &literal) != CLOSED_PAR)
		expected(lexer, literal, "')'");
	return values;
}

static List *
parse_exact_value(Lexer *lexer)
{
	char	   *literal;

	if (look(lexer) == END_OF_STRING || look(lexer) == COMMA)
		return list_make1("");
	if (take_value(lexer, &literal) == IDENTIFIER)
		return list_make1(literal);
	expected(lexer, literal, "identifier");
	return NIL;
}

static void
parse_operator(Lexer *lexer, Requirement *r)
{
	char	   *literal;
	bool		set = false;

	switch (take(lexer, &literal))
	{
		case IN:
			set = true;
			/* FALLTHROUGH */
		case EQUALS:
		case DOUBLE_EQUALS:
			r->op = OP_IN;
			break;
		case NOT_IN:
			set = true;
			/* FALLTHROUGH */
		case NOT_EQUALS:
			r->op = OP_NOT_IN;
			break;
		case GREATER_THAN:
			r->op = OP_GREATER;
			break;
		case LESS_THAN:
			r->op = OP_LESS;
			break;
		default:
			expected(lexer, literal, "in, notin, =, ==, !=, gt, lt");
			return;
	}
	r->values = set ? parse_set(lexer) : parse_exact_value(lexer);
	if (lexer->error == NULL)
		check_values(lexer, r);
}

static Requirement *
parse_requirement(Lexer *lexer)
{
	Requirement *r = palloc0(sizeof(Requirement));
	Token		token = take_value(lexer, &r->key);
	List	   *messages;

	r->op = OP_EXISTS;
	if (token == DOES_NOT_EXIST)
	{
		r->op = OP_NOT_EXISTS;
		token = take_value(lexer, &r->key);
	}
	if (token != IDENTIFIER)
	{
		expected(lexer, r->key, "identifier");
		return r;
	}
	messages = lease_check_qualified_name(r->key);
	if (messages != NIL)
		lexer->error = invalid_value("<nil>", r->key, messages);
	else if (r->op == OP_EXISTS && look(lexer) != END_OF_STRING && look(lexer) != COMMA)
		parse_operator(lexer, r);
	return r;
}

/*
 * Returns NULL and sets *error if the API server would refuse it.
 */
LeaseSelector *
lease_selector_parse(const char *text, char **error)
{
	LeaseSelector *selector = palloc0(sizeof(LeaseSelector));
	Lexer		lexer = {.next = text};
	char	   *literal;

	scan(&lexer);
	while (lexer.error == NULL && look(&lexer) != END_OF_STRING)
	{
		if (look(&lexer) != IDENTIFIER && look(&lexer) != DOES_NOT_EXIST)
		{
			expected(&lexer, lexer.literal, "!, identifier, or 'end of string'");
			break;
		}
		selector->requirements = lappend(selector->requirements, parse_requirement(&lexer));
		if (lexer.error != NULL)
		{
			lexer.error = psprintf("unable to parse requirement: %s", lexer.error);
			break;
		}
		if (look(&lexer) == END_OF_STRING)
			break;
		if (take_value(&lexer, &literal) != COMMA)
			expected(&lexer, literal, "',' or 'end of string'");
		else if (look(&lexer) != IDENTIFIER && look(&lexer) != DOES_NOT_EXIST)
			expected(&lexer, lexer.literal, "identifier after ','");
	}
	*error = lexer.error;
	return lexer.error == NULL ? selector : NULL;
}

/*
 * The value of a label, or NULL.
 */
char *
lease_label(const Jsonb *labels, const char *key)
{
	return labels == NULL ? NULL : lease_json_text(&labels->root, key);
}

static bool
contains(List *values, const char *value)
{
	ListCell   *lc;

	foreach(lc, values)
	{
		if (strcmp(lfirst(lc), value) == 0)
			return true;
	}
	return false;
}

/*
 * Do these labels, NULL for none, match?
 */
bool
lease_selector_matches(const LeaseSelector *selector, const Jsonb *labels)
{
	ListCell   *lc;

	foreach(lc, selector->requirements)
	{
		const Requirement *r = lfirst(lc);
		char	   *value = lease_label(labels, r->key);
		bool		matches = false;
		int64		number;

		switch (r->op)
		{
			case OP_EXISTS:
				matches = value != NULL;
				break;
			case OP_NOT_EXISTS:
				matches = value == NULL;
				break;
			case OP_IN:
				matches = value != NULL && contains(r->values, value);
				break;
			case OP_NOT_IN:
				matches = value == NULL || !contains(r->values, value);
				break;
			case OP_GREATER:
				matches = value != NULL && parse_int64(value, &number) && number > r->number;
				break;
			case OP_LESS:
				matches = value != NULL && parse_int64(value, &number) && number < r->number;
				break;
		}
		if (!matches)
			return false;
	}
	return true;
}

/*
 * Labels that whatever matches must have, for an index; NULL if there are none.
 */
Jsonb *
lease_selector_labels(const LeaseSelector *selector)
{
	JsonbParseState *state = NULL;
	ListCell   *lc;
	int			count = 0;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	foreach(lc, selector->requirements)
	{
		const Requirement *r = lfirst(lc);

		if (r->op != OP_IN || list_length(r->values) != 1)
			continue;
		lease_json_push_member(&state, r->key, linitial(r->values));
		count++;
	}
	return count == 0 ? NULL : JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}
