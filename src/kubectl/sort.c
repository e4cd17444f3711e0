/*
 * sort.c
 *		--sort-by: the order of kubectl's pkg/cmd/get/sorter.go.
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"

#include "jsonpath.h"
#include "object.h"
#include "sort.h"

/* Go's limit; what it does with more is not stable either, and not repeated here. */
#define SORTED_BY_INSERTION 12

/* palloc() aligns to 8 bytes; of itself, a long double wants 16. */
typedef long double Quantity pg_attribute_aligned(MAXIMUM_ALIGNOF);

typedef struct SortItem
{
	int			index;
	JsonbValue *key;			/* NULL: it has none, and comes first */
	bool		is_quantity;
	Quantity	quantity;
} SortItem;

/* A number of Kubernetes: 100m, 1.5Gi, 1e3 */
static bool
parse_quantity(const JsonbValue *value, Quantity *quantity)
{
	static const struct
	{
		const char *suffix;
		long double factor;
	}			suffixes[] = {
		{"", 1}, {"n", 1e-9L}, {"u", 1e-6L}, {"m", 1e-3L}, {"k", 1e3L}, {"M", 1e6L},
		{"G", 1e9L}, {"T", 1e12L}, {"P", 1e15L}, {"E", 1e18L}, {"Ki", 1024L},
		{"Mi", 1048576L}, {"Gi", 1073741824L}, {"Ti", 1099511627776L},
		{"Pi", 1125899906842624L}, {"Ei", 1152921504606846976L}
	};
	char	   *s = pnstrdup(value->val.string.val, value->val.string.len);
	char	   *p = s + (*s == '+' || *s == '-');
	char	   *digits = p;
	char	   *number;

	p += strspn(p, "0123456789");
	if (*p == '.')
		p += 1 + strspn(p + 1, "0123456789");
	if (p == digits || (p == digits + 1 && *digits == '.'))
		return false;
	if ((*p == 'e' || *p == 'E') && p[1] != '\0')
	{
		char	   *exponent = p + 1 + (p[1] == '+' || p[1] == '-');

		if (*exponent == '\0' || exponent[strspn(exponent, "0123456789")] != '\0')
			return false;
		*quantity = strtold(s, NULL);
		return true;
	}
	number = pnstrdup(s, p - s);
	for (int i = 0; i < lengthof(suffixes); i++)
	{
		if (strcmp(p, suffixes[i].suffix) == 0)
		{
			*quantity = strtold(number, NULL) * suffixes[i].factor;
			return true;
		}
	}
	return false;
}

static int
compare_keys(const SortItem *a, const SortItem *b)
{
	if (a->key == NULL || b->key == NULL)
		return (a->key != NULL) - (b->key != NULL);
	if (a->is_quantity && b->is_quantity)
		return (a->quantity > b->quantity) - (a->quantity < b->quantity);
	if (a->key->type != b->key->type)
		return 0;
	if (a->key->type == jbvString)
		return lease_json_compare(a->key, b->key);
	if (a->key->type == jbvNumeric)
		return DatumGetInt32(DirectFunctionCall2(numeric_cmp, NumericGetDatum(a->key->val.numeric),
												 NumericGetDatum(b->key->val.numeric)));
	return 0;
}

static int
compare_items(const ListCell *x, const ListCell *y)
{
	const SortItem *a = lfirst(x);
	const SortItem *b = lfirst(y);
	int			result = compare_keys(a, b);

	return result != 0 ? result : a->index - b->index;
}

/*
 * Go sorts few items by insertion, and for kubectl an object without the field is
 * less than any other: so these come out in the reverse of their order.
 */
static void
sort_few(List *items)
{
	for (int i = 1; i < list_length(items); i++)
	{
		for (int j = i; j > 0; j--)
		{
			ListCell   *a = list_nth_cell(items, j - 1);
			ListCell   *b = list_nth_cell(items, j);
			ListCell	swapped = *a;

			if (((SortItem *) lfirst(b))->key != NULL && compare_keys(lfirst(b), lfirst(a)) >= 0)
				break;
			*a = *b;
			*b = swapped;
		}
	}
}

/*
 * Returns the numbers of the objects (Jsonb *) in their new order.  *error if no
 * object has the field.
 */
List *
kubectl_sort(List *objects, const char *path, char **error)
{
	KubectlPath *parsed = kubectl_parse_path(kubectl_relaxed_path(path));
	List	   *items = NIL;
	List	   *order = NIL;
	ListCell   *lc;
	bool		found = false;

	foreach(lc, objects)
	{
		SortItem   *item = palloc0(sizeof(SortItem));
		JsonbValue	object;
		List	   *values;

		JsonbToJsonbValue(lfirst(lc), &object);
		values = kubectl_find_path(parsed, &object);
		item->index = foreach_current_index(lc);
		if (values != NIL)
		{
			found = true;
			item->key = linitial(values);
			if (item->key->type == jbvNull)
				item->key = NULL;
			else if (item->key->type == jbvString)
				item->is_quantity = parse_quantity(item->key, &item->quantity);
		}
		items = lappend(items, item);
	}
	if (!found && objects != NIL)
	{
		char	   *relaxed = kubectl_relaxed_path(path);

		*error = psprintf("error: couldn't find any field with path %s in the list of objects",
						  lease_go_quote(relaxed, strlen(relaxed)));
	}
	if (list_length(items) <= SORTED_BY_INSERTION)
		sort_few(items);
	else
		list_sort(items, compare_items);
	foreach(lc, items)
		order = lappend_int(order, ((SortItem *) lfirst(lc))->index);
	return order;
}
