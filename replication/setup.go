package replication

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
	"github.com/jackc/pgx/v5/pgconn"
)

// State is what Setup found and did.
type State struct {
	SlotCreated bool
	// Lost is why the slot that was there was dropped before; empty: there was
	// none.
	Lost               string
	PublicationChanged bool // created or altered
	// PublicationPending is set when the publication has other tables than
	// asked for, and was left so because somebody streams the slot and may need
	// it: call Publish when Open has the slot.
	PublicationPending bool
	// Confirmed is the slot's confirmed_flush_lsn; changes committed before it
	// will not come. Zero: somebody else is just making the slot.
	Confirmed viewlet.LSN
}

// Setup makes the publication and the slot where they are missing, and alters
// the publication where it has other tables. A slot that is lost, or that
// cfg.Renew asks for, it drops and makes anew. It may be called again and again.
// What it cannot mend is a Problem.
func Setup(ctx context.Context, cfg Config, tables []viewlet.Table) (State, error) {
	cfg, err := cfg.resolved()
	if err != nil {
		return State{}, err
	}
	w, err := connectReplication(ctx, cfg)
	if err != nil {
		return State{}, err
	}
	defer hangUp(ctx, w.PgConn)
	for tries := 0; ; tries++ {
		state, err := setup(ctx, w.PgConn, cfg, tables)
		// Another daemon may have made the publication at the same moment, and
		// then the slot too; now they are there.
		if code := sqlState(err); tries == 2 || (code != duplicateObject && code != uniqueViolation && code != objectInUse) {
			return state, err
		}
	}
}

// setup makes the publication first: the slot's changes are decoded with the
// catalog of their own time, and one from before it would ask for a publication
// that is not there yet.
func setup(ctx context.Context, conn *pgconn.PgConn, cfg Config, tables []viewlet.Table) (State, error) {
	slot, err := readSlot(ctx, conn, cfg.Slot)
	if err != nil {
		return State{}, err
	}
	if p := slot.Foreign(cfg.Slot); p != nil {
		return State{}, *p
	}
	pub, err := readPublication(ctx, conn, cfg.Publication)
	if err != nil {
		return State{}, err
	}
	state := State{Confirmed: slot.ConfirmedFlush}
	if slot.Active && pub.exists {
		state.PublicationPending = pub.remedy(cfg, tables) != ""
		return state, nil
	}
	if state.PublicationChanged, err = publish(ctx, conn, cfg, pub, tables); err != nil {
		return state, err
	}
	if state.Lost = cmp.Or(slot.Lost(), cfg.Renew); slot.Exists && state.Lost != "" {
		cfg.Log.Warn("the slot is lost, making another", "slot", cfg.Slot, "why", state.Lost)
		_, err := query(ctx, conn, dropSlotSQL(cfg)) // by now another daemon may have made it, and stream it
		if err != nil && sqlState(err) != undefinedObject {
			return state, fmt.Errorf("drop slot %q: %w", cfg.Slot, err)
		}
		slot.Exists = false
	}
	if !slot.Exists {
		state.Confirmed, err = createSlot(ctx, conn, cfg, slot.Recovering)
		state.SlotCreated = err == nil
	}
	return state, err
}

// SetupSQL is what a DBA runs where the daemon's role may not: the SQL that
// Setup would run on this server if it had neither.
func SetupSQL(ctx context.Context, cfg Config, tables []viewlet.Table) (string, error) {
	cfg, err := cfg.resolved()
	if err != nil {
		return "", err
	}
	conn, err := Connect(ctx, cfg)
	if err != nil {
		return "", err
	}
	defer hangUp(ctx, conn)
	var sql strings.Builder
	tables = unique(tables)
	sql.WriteString("-- as the owner of the tables, or as a superuser; the daemon's role needs REPLICATION,\n" +
		"-- wal_level must be 'logical', and the publication comes before the slot\n")
	for _, t := range tables {
		if p := unpublishable(t); p != nil {
			fmt.Fprintf(&sql, "-- left out: %s\n", p.What)
		} else if p := unwritable(t); p != nil {
			fmt.Fprintf(&sql, "-- %s\n%s\n", p.What, p.Cure)
		}
	}
	sql.WriteString(createPublicationSQL(cfg, publishable(tables)))
	sql.WriteString(createSlotSQL(cfg, serverVersion(conn)))
	return sql.String(), nil
}

// Teardown drops the slot, so that Postgres keeps no WAL for it any more, and
// then the publication. What does not exist is no error; a slot that somebody
// streams, or that is not one of ours, is a Problem, and then nothing is dropped.
// A publication of another role stays, and is a Problem too.
func Teardown(ctx context.Context, cfg Config) error {
	cfg, err := cfg.resolved()
	if err != nil {
		return err
	}
	conn, err := Connect(ctx, cfg)
	if err != nil {
		return err
	}
	defer hangUp(ctx, conn)
	if err := dropSlot(ctx, conn, cfg); err != nil {
		return err
	}
	pub, err := readPublication(ctx, conn, cfg.Publication)
	if err != nil || !pub.exists {
		return err
	}
	_, err = query(ctx, conn, dropPublicationSQL(cfg))
	if sqlState(err) == insufficientPrivilege {
		return mayNotDrop(cfg, message(err))
	}
	if err != nil {
		return fmt.Errorf("drop publication %q: %w", cfg.Publication, err)
	}
	cfg.Log.Info("publication dropped", "publication", cfg.Publication)
	return nil
}

// TeardownSQL is what Teardown would run, for a DBA.
func TeardownSQL(cfg Config) (string, error) {
	cfg, err := cfg.resolved()
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = %s;\n",
		quoteLiteral(cfg.Slot)) + dropPublicationSQL(cfg), nil
}
