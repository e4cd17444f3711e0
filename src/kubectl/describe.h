/*
 * describe.h
 *		Objects as kubectl describe prints them.
 */
#ifndef KUBECTL_DESCRIBE_H
#define KUBECTL_DESCRIBE_H

#include "lib/stringinfo.h"
#include "utils/jsonb.h"

extern void kubectl_describe_object(StringInfo out, const Jsonb *object, bool show_events);
extern void kubectl_describe_node(StringInfo out, const Jsonb *node, const Jsonb *lease,
								  bool show_events);

#endif							/* KUBECTL_DESCRIBE_H */
