/*
 * resolve.c
 *		What a plain YAML scalar means: the rules of sigs.k8s.io/yaml, which are
 *		YAML 1.1's with some of Go's notations.
 */
#include "postgres.h"

#include <ctype.h>
#include <math.h>

#include "kubectl/resolve.h"

static const struct
{
	const char *word;
	KubectlYamlType type;
}			words[] =
{
	{"y", YAML_TRUE}, {"Y", YAML_TRUE}, {"yes", YAML_TRUE}, {"Yes", YAML_TRUE}, {"YES", YAML_TRUE},
	{"true", YAML_TRUE}, {"True", YAML_TRUE}, {"TRUE", YAML_TRUE},
	{"on", YAML_TRUE}, {"On", YAML_TRUE}, {"ON", YAML_TRUE},
	{"n", YAML_FALSE}, {"N", YAML_FALSE}, {"no", YAML_FALSE}, {"No", YAML_FALSE}, {"NO", YAML_FALSE},
	{"false", YAML_FALSE}, {"False", YAML_FALSE}, {"FALSE", YAML_FALSE},
	{"off", YAML_FALSE}, {"Off", YAML_FALSE}, {"OFF", YAML_FALSE},
	{"", YAML_NULL}, {"~", YAML_NULL}, {"null", YAML_NULL}, {"Null", YAML_NULL}, {"NULL", YAML_NULL},
	{".nan", YAML_NAN}, {".NaN", YAML_NAN}, {".NAN", YAML_NAN},
	{".inf", YAML_INFINITY}, {".Inf", YAML_INFINITY}, {".INF", YAML_INFINITY},
	{"+.inf", YAML_INFINITY}, {"+.Inf", YAML_INFINITY}, {"+.INF", YAML_INFINITY},
	{"-.inf", YAML_MINUS_INFINITY}, {"-.Inf", YAML_MINUS_INFINITY}, {"-.INF", YAML_MINUS_INFINITY}
};

static bool
is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* One or two digits, as Go's time.Parse reads a field of a time; -1 if none. */
static int
time_field(const char **s)
{
	int			n;

	if (!is_digit(**s))
		return -1;
	n = *(*s)++ - '0';
	if (is_digit(**s))
		n = n * 10 + *(*s)++ - '0';
	return n;
}

static int
days_in_month(int year, int month)
{
	static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};

	if (month == 2 && year % 4 == 0 && (year % 100 != 0 || year % 400 == 0))
		return 29;
	return days[month - 1];
}

/* "Z", or an offset like +09:00, as Go reads it. */
static bool
is_time_zone(const char *s)
{
	if (strcmp(s, "Z") == 0)
		return true;
	return (s[0] == '+' || s[0] == '-') &&
		is_digit(s[1]) && is_digit(s[2]) && s[3] == ':' && is_digit(s[4]) && is_digit(s[5]) && s[6] == '\0' &&
		atoi(s + 1) <= 24 && atoi(s + 4) <= 60;
}

/* A date, or a date and a time: 2022-1-2, 2022-1-2T3:4:5.6Z, 2022-1-2 3:4:5. */
static bool
is_timestamp(const char *s)
{
	int			year = 0;
	int			month;
	int			day;
	char		separator;
	int			i;

	for (i = 0; is_digit(s[i]); i++)
		if (i < 4)
			year = year * 10 + s[i] - '0';
	if (i != 4 || s[4] != '-')
		return false;
	s += 5;
	month = time_field(&s);
	if (month < 1 || month > 12 || *s++ != '-')
		return false;
	day = time_field(&s);
	if (day < 1 || day > days_in_month(year, month))
		return false;
	if (*s == '\0')
		return true;
	separator = *s++;
	if (separator != 'T' && separator != 't' && separator != ' ')
		return false;
	while (separator == ' ' && *s == ' ')
		s++;
	i = time_field(&s);
	if (i < 0 || i > 23 || *s++ != ':')
		return false;
	i = time_field(&s);
	if (i < 0 || i > 59 || *s++ != ':')
		return false;
	i = time_field(&s);
	if (i < 0 || i > 59)
		return false;
	if ((*s == '.' || *s == ',') && is_digit(s[1]))
		for (s++, i = 0; is_digit(*s) && i < 9; s++, i++)
			;
	return separator == ' ' ? *s == '\0' : is_time_zone(s);
}

/* Digits of a base, at least one unless zero is said by the prefix, into 64 bits. */
static bool
read_digits(const char *s, int base, uint64 *value)
{
	*value = 0;
	for (; *s; s++)
	{
		int			digit;

		if (is_digit(*s))
			digit = *s - '0';
		else if (*s >= 'a' && *s <= 'f')
			digit = *s - 'a' + 10;
		else if (*s >= 'A' && *s <= 'F')
			digit = *s - 'A' + 10;
		else
			return false;
		if (digit >= base || *value > (PG_UINT64_MAX - digit) / base)
			return false;
		*value = *value * base + digit;
	}
	return true;
}

/* An integer in Go's notations, 0x1F, 0o17, 0b11 and 017, signed or not. */
static bool
read_integer(const char *s, KubectlYamlScalar *scalar)
{
	bool		negative = *s == '-';
	bool		sign = negative || *s == '+';
	uint64		value;
	int			base = 10;
	bool		late_sign = false;

	s += sign;
	if (s[0] == '0')
	{
		int			c = s[1] | 0x20;

		base = c == 'x' ? 16 : c == 'b' ? 2 : 8;
		if (c == 'x' || c == 'b' || c == 'o')
		{
			if (s[2] == '\0')
				return false;
			/* A quirk: 0b-1. */
			if (!sign && s[1] == 'b' && (s[2] == '-' || s[2] == '+') && s[3])
			{
				negative = s[2] == '-';
				sign = late_sign = true;
			}
			s += 2;
		}
		else
			s++;
	}
	else if (*s == '\0')
		return false;
	if (!read_digits(s + late_sign, base, &value))
		return false;
	if (sign && value > (uint64) PG_INT64_MAX + negative)
		return false;
	scalar->negative = negative && value > 0;
	scalar->integer = value;
	return true;
}

/* [+-] digits, point and exponent; at least one digit. */
static bool
is_decimal(const char *s)
{
	const char *digits;
	int			n;

	s += *s == '-' || *s == '+';
	for (digits = s; is_digit(*s); s++)
		;
	n = s - digits;
	if (*s == '.')
	{
		for (digits = ++s; is_digit(*s); s++)
			;
		/* A dot first wants digits after it. */
		if (n == 0 && s == digits)
			return false;
		n += s - digits;
	}
	if (n == 0)
		return false;
	if (*s == 'e' || *s == 'E')
	{
		s++;
		s += *s == '-' || *s == '+';
		for (digits = s; is_digit(*s); s++)
			;
		if (s == digits)
			return false;
	}
	return *s == '\0';
}

/* As Go's strconv.ParseFloat, for what begins with a dot: .5, .1_0e3 */
static bool
is_go_fraction(const char *s)
{
	for (const char *p = s; *p; p++)
		if (*p == '_' && !(p > s && is_digit(p[-1]) && is_digit(p[1])))
			return false;
	return true;
}

static char *
without_underscores(const char *s)
{
	char	   *copy = pstrdup(s);
	char	   *to = copy;

	for (; *s; s++)
		if (*s != '_')
			*to++ = *s;
	*to = '\0';
	return copy;
}

static bool
read_real(const char *s, KubectlYamlScalar *scalar)
{
	if (!is_decimal(s))
		return false;
	scalar->real = strtod(s, NULL);
	return !isinf(scalar->real);
}

static KubectlYamlType
resolve_number(const char *s, KubectlYamlScalar *scalar)
{
	KubectlYamlType type = YAML_STRING;
	char	   *plain;

	if (*s != '.' && is_timestamp(s))
		return YAML_TIMESTAMP;
	plain = without_underscores(s);
	if (*s == '.')
	{
		if (is_go_fraction(s) && read_real(plain, scalar))
			type = YAML_REAL;
	}
	else if (read_integer(plain, scalar))
		type = YAML_INTEGER;
	else if (read_real(plain, scalar))
		type = YAML_REAL;
	pfree(plain);
	return type;
}

/* What the plain scalar s stands for. */
KubectlYamlScalar
kubectl_resolve_yaml(const char *s, int length)
{
	KubectlYamlScalar scalar = {YAML_STRING};

	if (length > 0 && !strchr("+-.0123456789yYnNtTfFoO~", s[0]))
		return scalar;
	if (strlen(s) != length)	/* has a NUL: only a string can */
		return scalar;
	if (length <= 5)
		for (int i = 0; i < lengthof(words); i++)
			if (strcmp(words[i].word, s) == 0)
			{
				scalar.type = words[i].type;
				return scalar;
			}
	if (s[0] == '.' || s[0] == '+' || s[0] == '-' || is_digit(s[0]))
		scalar.type = resolve_number(s, &scalar);
	return scalar;
}

/*
 * Base 60, 12:30:45, is quoted on the way out, for other readers, although it
 * is not read as a number here.
 */
bool
kubectl_is_yaml_base_60(const char *s)
{
	bool		groups = false;

	s += *s == '-' || *s == '+';
	if (!is_digit(*s))
		return false;
	while (is_digit(*s) || *s == '_')
		s++;
	while (*s == ':')
	{
		if (!is_digit(s[1]))
			return false;
		s += s[1] <= '5' && is_digit(s[2]) ? 3 : 2;
		groups = true;
	}
	if (!groups)
		return false;
	if (*s == '.')
		for (s++; is_digit(*s) || *s == '_'; s++)
			;
	return *s == '\0';
}
