/*
 * kubectl.h
 *		What the files of kubectl() share.
 *
 *		kubectl.c		the SQL function: runs a command, and reports what it said
 *		get.c			kubectl get
 *		describe_cmd.c	kubectl describe
 *		change.c		kubectl label, annotate, delete
 *		write.c			kubectl create, apply, replace
 *		patch.c			kubectl patch, and what patches are
 *		describe.c		an object as kubectl describe prints it
 *		columns.c		-o custom-columns
 *		sort.c			--sort-by
 *		jsonpath.c		-o jsonpath; jsonpath_parse.c reads the template
 *		manifest.c		objects in YAML or JSON; read_yaml.c and read_json.c read them
 *		resolve.c		what a YAML scalar means
 *		json.c, yaml.c	objects in JSON and YAML; yaml_order.c: the order of keys
 *		tabwriter.c		text in columns
 *		resource.c		what the arguments of a command name, and finding it
 *		query.c			the queries
 *		selector.c		field selectors
 *		parts.c			parts of objects
 *		flags.c			the flags of a command line
 *		words.c			its words, as a shell splits them
 *
 * kubectl prints and goes on; so errors of Kubernetes are lines on the command's
 * standard error, and ereport() is for what ends it: a usage error, permissions,
 * what is not supported.
 */
#ifndef KUBECTL_H
#define KUBECTL_H

#include "datatype/timestamp.h"
#include "lib/stringinfo.h"
#include "nodes/pg_list.h"
#include "utils/jsonb.h"

#include "lease.h"
#include "compat.h"

/* Flags that commands know; those left out are refused. */
typedef struct KubectlFlags
{
	char	   *namespace;
	bool		all_namespaces;
	char	   *selector;
	char	   *field_selector;
	char	   *output;
	bool		no_headers;
	bool		show_labels;
	bool		show_kind;
	bool		show_managed_fields;
	bool		ignore_not_found;
	bool		allow_missing_template_keys;
	char	   *sort_by;
	List	   *label_columns;	/* char * */
	bool		overwrite;
	bool		list;
	bool		all;
	bool		force;
	bool		now;
	char	   *grace_period;
	char	   *dry_run;
	char	   *resource_version;
	List	   *filenames;
	char	   *patch;
	char	   *type;
	bool		show_events;
} KubectlFlags;

typedef struct KubectlCommand
{
	Oid			funcid;			/* tells in which schema everything is */
	const char *verb;
	KubectlFlags flags;
	List	   *args;			/* char *, without the verb */
	const char *manifest;		/* or NULL */
	TimestampTz at;				/* what AGE is counted to */
	StringInfoData out;			/* standard output */
	StringInfoData err;			/* standard error, lines without the last newline */
	bool		failed;			/* exit code 1 */
	int			sqlstate;		/* of the first failure */
} KubectlCommand;

/* A type of resource. */
typedef enum KubectlType
{
	KUBECTL_LEASE,
	KUBECTL_NODE
} KubectlType;

typedef struct KubectlResource
{
	const char *plural;			/* with its group, as in messages of the server */
	const char *singular;		/* with its group, as kubectl prefixes names */
	const char *kind;			/* with its group, as label --list has it */
	const char *gvr;			/* as in "Unable to find" */
	bool		namespaced;
} KubectlResource;

/* An object that was found.  object is set if it was asked for. */
typedef struct KubectlItem
{
	KubectlType type;
	char	   *namespace;		/* NULL for nodes */
	char	   *name;
	char	  **cells;			/* the columns after NAME */
	bool		unschedulable;	/* a node that is cordoned */
	Jsonb	   *labels;
	Jsonb	   *object;
} KubectlItem;

/* What the arguments name: a whole type, or one object. */
typedef struct KubectlRequest
{
	KubectlType type;
	char	   *name;			/* NULL: all */
} KubectlRequest;

/* words.c */
extern List *kubectl_split_words(const char *line);

/* flags.c */
extern void kubectl_parse_flags(KubectlCommand *command, List *words);

/* selector.c */
typedef struct KubectlFieldSelector KubectlFieldSelector;
extern KubectlFieldSelector *kubectl_parse_field_selector(const char *text, bool of_nodes,
														  char **error);
extern bool kubectl_field_selector_matches(const KubectlFieldSelector *selector,
										   const char *name, const char *namespace,
										   bool unschedulable);

/* query.c */
extern List *kubectl_query_leases(const KubectlCommand *command, const char *namespace,
								  const char *name, Jsonb *labels, bool with_object);
extern List *kubectl_query_nodes(const KubectlCommand *command, const char *name,
								 bool with_object);
extern char *kubectl_remove_node(const KubectlCommand *command, const char *name);
extern char *kubectl_write_node(const KubectlCommand *command, Jsonb *node);

/* resource.c */
extern const KubectlResource kubectl_resources[];
extern const char *kubectl_namespace(const KubectlCommand *command);
extern List *kubectl_requests(KubectlCommand *command, List *args, bool may_list);
extern void kubectl_say_not_found(KubectlCommand *command, const KubectlRequest *request);
extern List *kubectl_find(KubectlCommand *command, List *requests, bool with_object);
extern char *kubectl_qualified_name(const KubectlItem *item);

/* What kubectl remembers an object in that it has applied */
#define KUBECTL_LAST_APPLIED "kubectl.kubernetes.io/last-applied-configuration"

/* kubectl.c */
extern void kubectl_say_error(KubectlCommand *command, int sqlstate, const char *fmt,...) pg_attribute_printf(3, 4);
extern void kubectl_say(KubectlCommand *command, const char *fmt,...) pg_attribute_printf(2, 3);
pg_noreturn extern void kubectl_usage_error(const char *fmt,...) pg_attribute_printf(1, 2);

/* get.c */
extern void kubectl_get(KubectlCommand *command);
extern void kubectl_print_objects(KubectlCommand *command, const char *format, List *items,
								  bool single);

/* describe_cmd.c */
extern void kubectl_describe_command(KubectlCommand *command);

/* change.c */
extern void kubectl_label_command(KubectlCommand *command);
extern void kubectl_annotate_command(KubectlCommand *command);
extern void kubectl_delete_command(KubectlCommand *command);
extern bool kubectl_is_refused(KubectlCommand *command, const LeaseApiReply *reply,
							   const char *doing);
extern bool kubectl_write_back(KubectlCommand *command, const KubectlItem *item, Jsonb *object,
							   const char *doing, bool *changed);
extern bool kubectl_is_dry_run(const KubectlCommand *command, const char **words);
extern void kubectl_say_done(KubectlCommand *command, KubectlItem *item, Jsonb *object,
							 const char *done);

/* write.c */
extern void kubectl_create_command(KubectlCommand *command);
extern void kubectl_apply_command(KubectlCommand *command);
extern void kubectl_replace_command(KubectlCommand *command);

/* patch.c */
extern Jsonb *kubectl_merge_patch(Jsonb *target, Jsonb *patch);
extern void kubectl_patch_command(KubectlCommand *command);

/* parts.c */
extern Jsonb *kubectl_set_path(Jsonb *object, List *path, Jsonb *value);
extern Jsonb *kubectl_delete_path(Jsonb *object, List *path);
extern Jsonb *kubectl_insert_path(Jsonb *object, List *path, Jsonb *value);
extern Jsonb *kubectl_parse_jsonb(const char *text);
extern Jsonb *kubectl_string_jsonb(const char *s);
extern Jsonb *kubectl_get_object(Jsonb *object, const char *key);
extern char *kubectl_get_string(Jsonb *object, const char *key);
extern bool kubectl_same_jsonb(Jsonb *a, Jsonb *b);
extern JsonbContainer *kubectl_object_in(const JsonbValue *value);

#endif							/* KUBECTL_H */
