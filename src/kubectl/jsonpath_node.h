/*
 * jsonpath_node.h
 *		A JSONPath template that has been read.  For jsonpath*.c only.
 */
#ifndef KUBECTL_JSONPATH_NODE_H
#define KUBECTL_JSONPATH_NODE_H

#include "nodes/pg_list.h"
#include "utils/jsonb.h"

typedef enum NodeType
{
	NODE_TEXT,
	NODE_LIST,					/* one after the other, each on what the last found */
	NODE_FIELD,
	NODE_WILDCARD,
	NODE_RECURSIVE,
	NODE_SLICE,
	NODE_UNION,
	NODE_FILTER,
	NODE_NUMBER,
	NODE_BOOL,
	NODE_RANGE,
	NODE_END,
	NODE_UNKNOWN				/* a word that is none of these */
} NodeType;

typedef struct PathNode
{
	NodeType	type;
	char	   *text;			/* of text, field */
	List	   *children;		/* PathNode *; of list, union */
	bool		known[3];		/* of a slice */
	int			index[3];
	bool		derived_end;
	struct PathNode *left;		/* of a filter */
	struct PathNode *right;
	char	   *operator;
	JsonbValue	value;			/* of number, bool */
} PathNode;

struct KubectlPath
{
	char	   *template;
	List	   *nodes;			/* PathNode * */
};

#endif							/* KUBECTL_JSONPATH_NODE_H */
