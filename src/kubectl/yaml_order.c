/*
 * yaml_order.c
 *		The order in which go-yaml writes the keys of a map.
 */
#include "postgres.h"

#include <ctype.h>

#include "mb/pg_wchar.h"

#include "kubectl/printers.h"

/*
 * A letter?  Keys in Kubernetes are ASCII; all other characters count as
 * letters here, as most of them are.
 */
static bool
is_letter(pg_wchar c)
{
	return c >= 0x80 || isalpha((unsigned char) c);
}

static bool
is_digit(pg_wchar c)
{
	return c >= '0' && c <= '9';
}

typedef struct Runes
{
	pg_wchar   *c;
	int			n;
} Runes;

/* The number that the digits from i make, in which leading zeros count after others. */
static int64
number_at(const Runes *runes, int i, bool leading_zeros, int *end)
{
	uint64		n = leading_zeros;

	for (; i < runes->n && is_digit(runes->c[i]); i++)
		n = n * 10 + (runes->c[i] - '0');
	*end = i;
	return (int64) n;
}

/* The order of keys: digits by their number, letters after all else. */
static int
compare_runes(const Runes *a, const Runes *b)
{
	int			i;
	bool		a_letter;
	bool		b_letter;
	bool		carry = false;
	int64		an;
	int64		bn;
	int			ai;
	int			bi;

	for (i = 0; i < a->n && i < b->n && a->c[i] == b->c[i]; i++)
		;
	if (i == a->n || i == b->n)
		return a->n - b->n;

	a_letter = is_letter(a->c[i]);
	b_letter = is_letter(b->c[i]);
	if (a_letter && b_letter)
		return a->c[i] < b->c[i] ? -1 : 1;
	if (a_letter || b_letter)
		return b_letter ? -1 : 1;
	if (a->c[i] == '0' || b->c[i] == '0')
		for (int j = i - 1; j >= 0 && is_digit(a->c[j]); j--)
			if (a->c[j] != '0')
			{
				carry = true;
				break;
			}
	an = number_at(a, i, carry, &ai);
	bn = number_at(b, i, carry, &bi);
	if (an != bn)
		return an < bn ? -1 : 1;
	if (ai != bi)
		return ai < bi ? -1 : 1;
	return a->c[i] < b->c[i] ? -1 : 1;
}

static Runes
runes_of(const JsonbValue *string)
{
	Runes		runes;
	int			length = string->val.string.len;
	const char *s = kubectl_to_utf8(string->val.string.val, &length);

	runes.c = palloc((length + 1) * sizeof(pg_wchar));
	runes.n = pg_encoding_mb2wchar_with_len(PG_UTF8, s, runes.c, length);
	return runes;
}

static int
compare_keys(const void *a, const void *b)
{
	const JsonbValue *left = &((const KubectlMember *) a)->key;
	const JsonbValue *right = &((const KubectlMember *) b)->key;
	Runes		left_runes = runes_of(left);
	Runes		right_runes = runes_of(right);
	int			c = compare_runes(&left_runes, &right_runes);

	pfree(left_runes.c);
	pfree(right_runes.c);
	return c;
}

/*
 * The order is not transitive where digits and other characters mix, so that
 * kubectl itself prints such maps now in one order, now in another.  Sorted
 * bytewise first, they come out the same every time here.
 */
void
kubectl_sort_yaml_members(KubectlMember *members, int n)
{
	qsort(members, n, sizeof(KubectlMember), kubectl_compare_keys);
	qsort(members, n, sizeof(KubectlMember), compare_keys);
}
