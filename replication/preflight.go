package replication

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
	"github.com/jackc/pgx/v5/pgconn"
)

// oldest is the oldest major version of Postgres that streams what the daemon
// needs: pgoutput has logical decoding messages since 14.
const oldest = 14

// Preflight looks for everything that Postgres lacks for streaming these tables,
// and changes nothing. What it finds is Problems, all of them; any other error
// says that it could not look.
func Preflight(ctx context.Context, cfg Config, tables []viewlet.Table) error {
	cfg, err := cfg.resolved()
	if err != nil {
		return err
	}
	conn, err := Connect(ctx, cfg)
	if err != nil {
		return err
	}
	defer hangUp(ctx, conn)
	if v := serverVersion(conn); v < oldest {
		return tooOld(v)
	}
	f, err := readFacts(ctx, conn, cfg, tables)
	if err != nil {
		return err
	}
	w, err := connectReplication(ctx, cfg)
	switch p := (Problem{}); {
	case err == nil:
		f.streams = true
		hangUp(ctx, w.PgConn)
	case errors.As(err, &p):
		f.refused = &p
	default:
		return err
	}
	return f.problems(cfg, tables).err()
}

func tooOld(version int) Problems {
	return Problems{{
		fmt.Sprintf("the server is Postgres %d", version),
		fmt.Sprintf("upgrade it: the daemon needs Postgres %d or newer", oldest),
	}}
}

// facts is what Preflight judges.
type facts struct {
	version      int
	role         string
	database     string
	walLevel     string
	standby      bool
	slots        int64    // taken
	slotLimit    int64    // max_replication_slots
	idleSlots    []string // taken, and streamed by nobody
	mayReplicate bool     // superuser, REPLICATION, or RDS's role
	mayCreate    bool     // CREATE on the database, which a publication needs
	foreign      []uint32 // OIDs of the tables that the role does not own
	syncStandbys string   // synchronous_standby_names
	application  string
	slot         Slot
	pub          publication
	streams      bool     // a walsender answered
	refused      *Problem // or why none did
}

func readFacts(ctx context.Context, conn *pgconn.PgConn, cfg Config, tables []viewlet.Table) (facts, error) {
	oids := "0"
	for _, t := range tables {
		oids += fmt.Sprintf(", %d", t.OID)
	}
	r, err := queryRow(ctx, conn, fmt.Sprintf(factsSQL, oids))
	if err != nil {
		return facts{}, fmt.Errorf("read the server's settings: %w", err)
	}
	f := facts{
		version:      serverVersion(conn),
		role:         r.string(0),
		database:     r.string(1),
		walLevel:     r.string(2),
		standby:      r.bool(3),
		slots:        r.int(4),
		slotLimit:    r.int(5),
		idleSlots:    strings.Fields(r.string(6)),
		mayReplicate: r.bool(7),
		mayCreate:    r.bool(8),
		syncStandbys: r.string(9),
		application:  r.string(10),
		foreign:      r.oids(11),
	}
	if f.slot, err = readSlot(ctx, conn, cfg.Slot); err != nil {
		return facts{}, err
	}
	f.pub, err = readPublication(ctx, conn, cfg.Publication)
	return f, err
}

const factsSQL = `
SELECT current_user, current_database(), current_setting('wal_level'), pg_catalog.pg_is_in_recovery(),
	(SELECT count(*) FROM pg_catalog.pg_replication_slots),
	current_setting('max_replication_slots'),
	(SELECT string_agg(slot_name, ' ' ORDER BY slot_name) FROM pg_catalog.pg_replication_slots WHERE NOT active),
	(SELECT rolsuper OR rolreplication OR EXISTS (
		SELECT FROM pg_catalog.pg_roles rds
		WHERE rds.rolname = 'rds_replication' AND pg_catalog.pg_has_role(rds.oid, 'MEMBER'))
	FROM pg_catalog.pg_roles WHERE rolname = current_user),
	pg_catalog.has_database_privilege(current_database(), 'CREATE'),
	current_setting('synchronous_standby_names'), current_setting('application_name'),
	(SELECT string_agg(oid::text, ' ') FROM pg_catalog.pg_class
	WHERE oid IN (%s) AND NOT pg_catalog.pg_has_role(relowner, 'USAGE'))`

// problems judges the facts: the server first, then the role, then the tables.
func (f facts) problems(cfg Config, tables []viewlet.Table) Problems {
	tables = unique(tables)
	all := []*Problem{
		f.wrongServer(), f.wrongWALLevel(), f.synchronous(), f.refused, f.wrongRole(),
		f.slot.Foreign(cfg.Slot), f.noSlotFree(cfg), f.wrongPublication(cfg, publishable(tables)),
	}
	for _, t := range tables {
		p := unpublishable(t)
		if p == nil {
			p = unwritable(t)
		}
		all = append(all, p)
	}
	var found Problems
	for _, p := range all {
		if p != nil {
			found = append(found, *p)
		}
	}
	return found
}

func (f facts) wrongServer() *Problem {
	if !f.standby || f.version >= 16 {
		return nil
	}
	return &Problem{
		fmt.Sprintf("the server is a standby, and a standby of Postgres %d has no logical slots", f.version),
		"in the URL, write the primary's host; with several hosts, add target_session_attrs=primary",
	}
}

func (f facts) wrongWALLevel() *Problem {
	if f.walLevel == "logical" {
		return nil
	}
	return &Problem{
		fmt.Sprintf("wal_level is %s, not logical", f.walLevel),
		"ALTER SYSTEM SET wal_level = 'logical'; then restart Postgres (a managed one has a switch for it, such as rds.logical_replication = 1)",
	}
}

// synchronous finds the deadlock of a daemon that counts as a synchronous
// standby: a commit waits until the daemon confirms it, and the daemon confirms
// it when it is visible, which it is when it need not wait any more.
//
// https://www.postgresql.org/docs/current/runtime-config-replication.html#GUC-SYNCHRONOUS-STANDBY-NAMES
func (f facts) synchronous() *Problem {
	ours := func(name string) bool { return name == "*" || strings.EqualFold(name, f.application) }
	names := strings.FieldsFunc(f.syncStandbys, func(r rune) bool { return strings.ContainsRune(`(), "`, r) })
	if !slices.ContainsFunc(names, ours) {
		return nil
	}
	return &Problem{
		fmt.Sprintf("synchronous_standby_names is %q, which takes the daemon (%s) for a synchronous standby: commits would wait for it, and it for them", f.syncStandbys, f.application),
		"ALTER SYSTEM SET synchronous_standby_names to the names of the real standbys; then SELECT pg_reload_conf(); or give the URL an application_name that is not among them",
	}
}

// wrongRole is for when the walsender was refused for another reason, so that
// both are said at once.
func (f facts) wrongRole() *Problem {
	if f.streams || f.mayReplicate {
		return nil
	}
	p := lacksReplication(f.role, "it lacks REPLICATION")
	if f.refused != nil && f.refused.Cure == p.Cure {
		return nil
	}
	return &p
}

func (f facts) noSlotFree(cfg Config) *Problem {
	if f.slot.Exists || f.slots < f.slotLimit {
		return nil
	}
	cure := fmt.Sprintf("ALTER SYSTEM SET max_replication_slots = %d; then restart Postgres", f.slotLimit+5)
	if len(f.idleSlots) > 0 {
		cure += "; or drop one that nobody needs (unused now: " + strings.Join(f.idleSlots, ", ") + ")"
	}
	return &Problem{fmt.Sprintf("no slot is free for %q: all %d of max_replication_slots are taken", cfg.Slot, f.slotLimit), cure}
}

// wrongPublication says why Setup could not make the publication what it has to be.
func (f facts) wrongPublication(cfg Config, tables []viewlet.Table) *Problem {
	if f.pub.allTables {
		p := forAllTables(cfg)
		return &p
	}
	sql := f.pub.remedy(cfg, tables)
	if sql == "" || (f.pub.covers(tables) && !f.pub.mayAlter) {
		return nil
	}
	var why []string
	switch {
	case f.standby:
		why = append(why, "the server is a standby, so it is made on the primary")
	case f.pub.exists && !f.pub.mayAlter:
		why = append(why, fmt.Sprintf("the role %q does not own it", f.role))
	case !f.pub.exists && !f.mayCreate:
		why = append(why, fmt.Sprintf("the role %q lacks CREATE on the database %q", f.role, f.database))
	}
	var foreign []string
	for _, t := range tables {
		if slices.Contains(f.foreign, t.OID) {
			foreign = append(foreign, t.Schema+"."+t.Name)
		}
	}
	if len(foreign) > 0 {
		why = append(why, fmt.Sprintf("the role %q does not own %s", f.role, strings.Join(foreign, ", ")))
	}
	if len(why) == 0 {
		return nil
	}
	p := mayNotPublish(cfg, strings.Join(why, "; "), sql)
	return &p
}
