# Plain PGXS: make, make install, make installcheck, with PG_CONFIG and DESTDIR.
# The targets with a "TARGET" line below need nothing installed: they install what
# is missing and build in a private directory.

EXTENSION = lease
EXTVERSION = $(shell sed -n "s/^default_version *= *'\(.*\)'/\1/p" lease.control)
# PGXN wants three numbers.
DISTVERSION = $(shell echo $(EXTVERSION).0.0 | cut -d. -f1-3)

MODULE_big = lease
OBJS = $(patsubst %.c,%.o,$(sort $(wildcard src/*.c src/kubectl/*.c)))
SHLIB_LINK = -lyaml

# sql/lease.sql is the current script, and is installed under the name that its
# version asks for.  Beside it are the frozen scripts of released versions, and the
# upgrade scripts.
INSTALL_SQL = lease--$(EXTVERSION).sql
DATA = $(filter-out sql/$(INSTALL_SQL),$(wildcard sql/lease--*.sql))
DATA_built = $(INSTALL_SQL)

# The library serves the SQL objects of every version that was released, because it
# is replaced before ALTER EXTENSION UPDATE.
RELEASED = $(foreach v,$(patsubst sql/lease--%.sql,%,$(DATA)),$(if $(findstring --,$(v)),,$(v)))
PG_CPPFLAGS = -I$(srcdir)/src -DLEASE_VERSION='"$(EXTVERSION)"' \
	-DLEASE_VERSIONS='$(foreach v,$(EXTVERSION) $(RELEASED),"$(v)",)'

# Both suites start servers of their own, so installcheck needs none running.
ISOLATION = $(basename $(notdir $(wildcard test/isolation/specs/*.spec)))
ISOLATION_OPTS = --inputdir=test/isolation --load-extension=lease \
	--temp-instance=tmp_check_iso --temp-config=test/lease.conf
TAP_TESTS = 1
PROVE_TESTS = test/t/*.pl

EXTRA_CLEAN = tmp_check tmp_check_iso output_iso

# TARGET setup: installs what is missing from the distribution's packages
setup:
	@test/setup

# TARGET demo: shows what lease does, on a private throwaway cluster
demo: setup
	@test/private test/demo.sh

# TARGET test: runs every suite, or one: make test ONLY=isolation
test:
	@test/setup test
	@test/run $(ONLY)

# TARGET test-matrix: runs the suites on PostgreSQL 15, 17 and 18, in root file systems of Debian's: make test-matrix SUITES=trixie
test-matrix:
	@ONLY="$(ONLY)" test/matrix $(SUITES)

# TARGET test-package: builds Debian's packages, and uses them in a bare root file system: make test-package SUITES=trixie
test-package:
	@test/package $(SUITES)

# TARGET dist: packs what is committed for PGXN
dist:
	@git ls-files --error-unmatch META.json >/dev/null || \
		{ echo "make dist packs what is committed: it has to run where lease is checked out with git" >&2; exit 1; }
	@git diff --quiet HEAD || echo "not committed, and not packed:" $$(git diff --name-only HEAD) >&2
	git archive --format=zip --prefix=lease-$(DISTVERSION)/ -o lease-$(DISTVERSION).zip HEAD

# TARGET bench: measures what lease costs, compared with what one would write by hand, and draws it
bench:
	@test/setup bench
	@bench/all

# TARGET bench-peers: compares a renewal with those of etcd and Redis
bench-peers:
	@test/setup peers
	@test/private --no-server bench/peers

.PHONY: setup demo test test-matrix test-package dist bench bench-peers

PG_CONFIG ?= pg_config
PGXS := $(shell $(PG_CONFIG) --pgxs 2>/dev/null)
ifneq ($(wildcard $(PGXS)),)

include $(PGXS)

# The targets above come first in the file, but make alone shall build.
.DEFAULT_GOAL := all

$(INSTALL_SQL): sql/lease.sql lease.control
	cp $< $@

# PGXS does not know which headers an object depends on; and each may have the version.
$(OBJS) $(OBJS:.o=.bc): $(wildcard src/*.h src/kubectl/*.h) lease.control

# It has those of the released versions, too.
src/extension.o src/extension.bc: $(DATA)

else

.DEFAULT_GOAL := all
all install installcheck clean uninstall:
	@echo "PostgreSQL's server headers not found: run \"make setup\", or set PG_CONFIG" >&2; exit 1

endif
