/*
 * tabwriter.c
 *		Text in columns, as Go's text/tabwriter lays it out with blanks.
 *
 * A cell ends with a tab; what stands between the last tab and the newline is no
 * cell, and has no influence on widths.  A column is as wide as its widest cell,
 * but only among lines that follow each other and all have a cell there.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "nodes/pg_list.h"

#include "tabwriter.h"

typedef struct Cell
{
	int			start;			/* in text */
	int			length;
	int			width;			/* in characters, however wide they look */
} Cell;

typedef struct Line
{
	Cell	   *cells;
	int			ncells;
} Line;

struct KubectlTable
{
	int			minwidth;
	int			padding;
	StringInfoData text;
	Line	   *lines;
	int			nlines;
	int		   *widths;			/* of the columns to the left, while laying out */
	int			nwidths;
};

/*
 * Columns are at least minwidth wide, padding included.
 */
KubectlTable *
kubectl_table_new(int minwidth, int padding)
{
	KubectlTable *table = palloc0(sizeof(KubectlTable));

	table->minwidth = minwidth;
	table->padding = padding;
	initStringInfo(&table->text);
	return table;
}

/*
 * Adds to the text that is to be laid out: cells that end with tabs, lines that end with
 * newlines.
 */
void
kubectl_table_write(KubectlTable *table, const char *text)
{
	appendStringInfoString(&table->text, text);
}

static int
count(const char *s, int len, char c)
{
	int			n = 0;

	for (int i = 0; i < len; i++)
		n += s[i] == c;
	return n;
}

static void
split_line(KubectlTable *table, Line *line, int start, int length)
{
	const char *s = table->text.data + start;

	line->ncells = count(s, length, '\t') + 1;
	line->cells = palloc(line->ncells * sizeof(Cell));
	for (int i = 0; i < line->ncells; i++)
	{
		Cell	   *cell = &line->cells[i];

		s = table->text.data + start;
		cell->start = start;
		cell->length = i + 1 < line->ncells ? strchr(s, '\t') - s : length;
		cell->width = pg_mbstrlen_with_len(s, cell->length);
		start += cell->length + 1;
		length -= cell->length + 1;
	}
}

/* The text after the last newline is a line as well, perhaps an empty one. */
static int
split_lines(KubectlTable *table)
{
	int			widest = 0;
	int			start = 0;

	table->nlines = count(table->text.data, table->text.len, '\n') + 1;
	table->lines = palloc(table->nlines * sizeof(Line));
	for (int i = 0; i < table->nlines; i++)
	{
		int			length = strcspn(table->text.data + start, "\n");

		CHECK_FOR_INTERRUPTS();
		split_line(table, &table->lines[i], start, length);
		widest = Max(widest, table->lines[i].ncells);
		start += length + 1;
	}
	return widest;
}

static void
write_lines(KubectlTable *table, int from, int to, StringInfo out)
{
	for (int i = from; i < to; i++)
	{
		const Line *line = &table->lines[i];

		for (int j = 0; j < line->ncells; j++)
		{
			const Cell *cell = &line->cells[j];

			appendBinaryStringInfo(out, table->text.data + cell->start, cell->length);
			if (j < table->nwidths)
				appendStringInfoSpaces(out, table->widths[j] - cell->width);
		}
		if (i + 1 < table->nlines)
			appendStringInfoChar(out, '\n');
	}
}

static bool
has_cell(const KubectlTable *table, int line, int column)
{
	return column < table->lines[line].ncells - 1;
}

/*
 * Lays out some lines, of which the columns up to nwidths are done.
 */
static void
lay_out(KubectlTable *table, int from, int to, StringInfo out)
{
	int			column = table->nwidths;

	check_stack_depth();
	for (int i = from; i < to; i++)
	{
		int			width = table->minwidth;

		if (!has_cell(table, i, column))
			continue;
		write_lines(table, from, i, out);
		from = i;
		for (; i < to && has_cell(table, i, column); i++)
			width = Max(width, table->lines[i].cells[column].width + table->padding);

		table->widths[table->nwidths++] = width;
		lay_out(table, from, i, out);
		table->nwidths--;
		from = i--;
	}
	write_lines(table, from, to, out);
}

/*
 * Appends the text laid out, and starts anew.
 */
void
kubectl_table_flush(KubectlTable *table, StringInfo out)
{
	int			widest = split_lines(table);

	table->widths = palloc(widest * sizeof(int));
	table->nwidths = 0;
	lay_out(table, 0, table->nlines, out);
	resetStringInfo(&table->text);
}
