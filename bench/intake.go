package main

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"sync/atomic"
	"time"
)

// Rows 1, 1b, 2, 8 and 10: how fast a backlog is read.

// backlogged is a database with a slot, named source, that has much to deliver.
type backlogged struct {
	*database
	rows int
	end  string // the WAL's position behind it
	next atomic.Int64
}

// fill updates each of the table's rows once, per transaction so many.
const fillSQL = `CREATE PROCEDURE fill(rows int, per int) LANGUAGE plpgsql AS $$
BEGIN
  FOR i IN 0..rows/per-1 LOOP
    UPDATE v SET n = n + 1 WHERE id > i*per AND id <= (i+1)*per;
    COMMIT;
  END LOOP;
END $$`

// backlog of so many updates of a table v that create makes; 100 a transaction.
func (db *database) backlog(ctx context.Context, rows int, create ...string) (*backlogged, error) {
	err := db.exec(ctx, append(create, "CREATE PUBLICATION bench FOR TABLE v", fillSQL,
		"SELECT pg_create_logical_replication_slot('"+db.name+"_source', 'pgoutput')",
		fmt.Sprintf("CALL fill(%d, 100)", rows), "CHECKPOINT")...)
	if err != nil {
		return nil, err
	}
	b := &backlogged{database: db, rows: rows}
	// A message behind it all: pg_recvlogical ends where something is decoded.
	return b, db.pool.QueryRow(ctx, "SELECT pg_logical_emit_message(true, 'bench', 'end')::text").Scan(&b.end)
}

func narrow(rows int) []string {
	return []string{
		"CREATE TABLE v (id int PRIMARY KEY, n int NOT NULL, k int NOT NULL, name text NOT NULL) WITH (fillfactor = 50)",
		fmt.Sprintf("INSERT INTO v SELECT i, i, i %% 1000, 'a name' FROM generate_series(1, %d) i", rows),
	}
}

// slot copies the slot, for one run.
func (b *backlogged) slot(ctx context.Context) (string, error) {
	name := fmt.Sprintf("%s_%d", b.name, b.next.Add(1))
	return name, b.exec(ctx, fmt.Sprintf("SELECT pg_copy_logical_replication_slot('%s_source', '%s')", b.name, name))
}

func (b *backlogged) dropSlot(ctx context.Context, name string) error {
	return until(ctx, "slot "+name+" is free", 5*time.Millisecond, func() (bool, error) {
		var dropped int
		err := b.pool.QueryRow(ctx, `SELECT count(pg_drop_replication_slot(slot_name)) FROM pg_replication_slots
			WHERE slot_name = $1 AND NOT active`, name).Scan(&dropped)
		return dropped > 0, err
	})
}

// drained is what draining a backlog took.
type drained struct {
	whole     time.Duration // from the program's start
	streaming time.Duration // from the stream's
	warm      rate          // from the end of the warm-up
	start     time.Duration // from the program's start to the stream's
	client    time.Duration // processor time
	walsender time.Duration // the same
	renders   float64
	peakMiB   float64
}

// rate is so much in a time.
type rate struct {
	rows float64
	in   time.Duration
}

func (r rate) thousands() float64 { return r.rows / r.in.Seconds() / 1000 }

// ours drains a copy of the slot with the daemon: until all of it is confirmed.
func (b *backlogged) ours(ctx context.Context, rules string) (drained, error) {
	var took drained
	if err := b.rdb.FlushAll(ctx).Err(); err != nil {
		return took, err
	}
	slot, err := b.slot(ctx)
	if err != nil {
		return took, err
	}
	d, err := b.daemon(ctx, slot, rules)
	if err != nil {
		return took, err
	}
	defer d.stop()
	streaming, err := d.says(ctx, "msg=streaming")
	if err != nil {
		return took, err
	}
	if _, err := d.ready(ctx); err != nil {
		return took, err
	}
	warm := time.Now()
	read, err := d.metric(ctx, "changes_total")
	if err != nil {
		return took, err
	}
	err = until(ctx, "the slot is drained", 5*time.Millisecond, func() (drained bool, err error) {
		var pid *int
		err = b.pool.QueryRow(ctx, "SELECT active_pid, confirmed_flush_lsn >= $2::text::pg_lsn FROM pg_replication_slots WHERE slot_name = $1", slot, b.end).Scan(&pid, &drained)
		if err == nil && pid != nil {
			took.walsender, _ = onCPU(*pid)
		}
		return drained, err
	})
	if err != nil {
		return took, err
	}
	took.whole, took.streaming, took.start = time.Since(d.began), time.Since(streaming), streaming.Sub(d.began)
	took.warm = rate{float64(b.rows) - read, time.Since(warm)}
	took.peakMiB = d.peakMiB()
	if took.renders, err = d.metric(ctx, "renders_total"); err != nil {
		return took, err
	}
	d.stop()
	took.client = d.cpu()
	return took, b.dropSlot(ctx, slot)
}

// theirs drains a copy of the slot with Postgres's own client, to nowhere.
func (b *backlogged) theirs(ctx context.Context) (drained, error) {
	var took drained
	slot, err := b.slot(ctx)
	if err != nil {
		return took, err
	}
	cmd := exec.CommandContext(ctx, client("pg_recvlogical"), "--dbname="+b.url(), "--slot="+slot, "--start", "--endpos="+b.end,
		"--no-loop", "--option=proto_version=1", "--option=publication_names=bench", "--option=messages=true", "--file=/dev/null")
	var said strings.Builder
	cmd.Stderr = &said
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return took, err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait(); close(ended) }()
	for err = errRunning; err == errRunning; {
		select {
		case err = <-ended:
		case <-time.After(10 * time.Millisecond):
			took.walsender = max(took.walsender, b.walsenderOf(ctx, slot))
		}
	}
	if err != nil {
		return took, fmt.Errorf("run pg_recvlogical: %w: %s", err, said.String())
	}
	took.whole = time.Since(began)
	took.client = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	return took, b.dropSlot(ctx, slot)
}

var errRunning = fmt.Errorf("it runs")

// walsenderOf is the processor time of the slot's walsender; 0: there is none.
func (db *database) walsenderOf(ctx context.Context, slot string) time.Duration {
	var pid int
	if db.pool.QueryRow(ctx, "SELECT active_pid FROM pg_replication_slots WHERE slot_name = $1 AND active", slot).Scan(&pid) != nil {
		return 0
	}
	took, _ := onCPU(pid)
	return took
}

// quietRules watch v and never fire.
const quietRules = `
viewlet "teaser" {
  params = ["id"]
  query  = "SELECT id, n, name FROM v WHERE id = @id"
  body   = "<b>{{.name}}</b> {{.n}}"
  all    = "SELECT 1 WHERE false"
}
table "v" {
  when    = new.n < 0
  refresh = teaser(id)
}
`

func backlog(ctx context.Context, h *house) (results []result, err error) {
	if client("pg_recvlogical") == "" {
		return []result{{what: "backlog", with: "pg_recvlogical, which is not installed"}}, nil
	}
	err = h.in(ctx, "backlog", func(db *database) error {
		b, err := db.backlog(ctx, h.of(1_000_000), narrow(h.of(1_000_000))...)
		if err != nil {
			return err
		}
		var our, their []drained
		ours, theirs, err := h.alternate(
			func() (float64, error) {
				d, err := b.ours(ctx, quietRules)
				our = append(our, d)
				return d.whole.Seconds(), err
			},
			func() (float64, error) {
				d, err := b.theirs(ctx)
				their = append(their, d)
				return d.whole.Seconds(), err
			},
		)
		results = []result{{
			unit: "s", ours: ours, theirs: theirs, with: "pg_recvlogical, pgoutput, to /dev/null", aim: "<= 0.8",
			notes: []string{
				fmt.Sprintf("%d updates; median start of ours %.2f s, which counts; processor seconds client/walsender: ours %s, theirs %s",
					b.rows, median(each(our, func(d drained) float64 { return d.start.Seconds() })), processor(our), processor(their)),
			},
		}}
		return err
	})
	return results, err
}

func processor(runs []drained) string {
	return fmt.Sprintf("%.2f/%.2f", median(each(runs, func(d drained) float64 { return d.client.Seconds() })),
		median(each(runs, func(d drained) float64 { return d.walsender.Seconds() })))
}

func each(runs []drained, of func(drained) float64) []float64 {
	values := make([]float64, len(runs))
	for i, r := range runs {
		values[i] = of(r)
	}
	return values
}

// peek reads the backlog by SQL, a part a call, as one could who is far behind.
func peek(ctx context.Context, h *house) (results []result, err error) {
	err = h.in(ctx, "peek", func(db *database) error {
		b, err := db.backlog(ctx, h.of(1_000_000), narrow(h.of(1_000_000))...)
		if err != nil {
			return err
		}
		for _, per := range []int{b.rows, b.rows / 10} {
			ours, theirs, err := h.alternate(
				func() (float64, error) { took, err := b.peekAll(ctx, per); return took.Seconds(), err },
				func() (float64, error) { d, err := b.theirs(ctx); return d.whole.Seconds(), err },
			)
			if err != nil {
				return err
			}
			results = append(results, result{
				what: fmt.Sprintf("peek %dk", per/1000), unit: "s", ours: ours, theirs: theirs,
				with: "pg_recvlogical", aim: "<= 0.4", notes: []string{"an experiment: COPY of pg_logical_slot_peek_binary_changes; the daemon does not do it"},
			})
		}
		return nil
	})
	return results, err
}

// peekAll copies the slot's changes, per rows a call, and advances it.
func (b *backlogged) peekAll(ctx context.Context, per int) (time.Duration, error) {
	slot, err := b.slot(ctx)
	if err != nil {
		return 0, err
	}
	conn, err := b.pool.Acquire(ctx)
	if err != nil {
		return 0, err
	}
	defer conn.Release()
	began := time.Now()
	for seen := 0; seen < b.rows; {
		sql := fmt.Sprintf(`COPY (SELECT lsn, data FROM pg_logical_slot_peek_binary_changes('%s', NULL, %d,
			'proto_version', '1', 'publication_names', 'bench')) TO STDOUT (FORMAT binary)`, slot, per)
		count := &rowCounter{}
		if _, err := conn.Conn().PgConn().CopyTo(ctx, count, sql); err != nil {
			return 0, err
		}
		if count.rows == 0 {
			break
		}
		seen += count.rows
		if seen >= b.rows {
			break
		}
		if _, err := conn.Exec(ctx, fmt.Sprintf("SELECT pg_replication_slot_advance('%s', '%X/%X')", slot, count.last>>32, uint32(count.last))); err != nil {
			return 0, err
		}
	}
	took := time.Since(began)
	return took, b.dropSlot(ctx, slot)
}

// hotRules refresh one of a thousand fragments with each change.
const hotRules = `
viewlet "hot" {
  params = ["k"]
  query  = "SELECT id, n, name FROM v WHERE id = @k"
  body   = "<b>{{.name}}</b> {{.n}}"
  all    = "SELECT 1 WHERE false"
}
table "v" {
  refresh = hot(new.k)
}
`

func hot(ctx context.Context, h *house) (results []result, err error) {
	err = h.in(ctx, "hot", func(db *database) error {
		b, err := db.backlog(ctx, h.of(1_000_000), narrow(h.of(1_000_000))...)
		if err != nil {
			return err
		}
		var runs []drained
		ours, theirs, err := h.alternate(
			func() (float64, error) {
				d, err := b.ours(ctx, hotRules)
				runs = append(runs, d)
				return d.whole.Seconds(), err
			},
			func() (float64, error) { d, err := b.ours(ctx, quietRules); return d.whole.Seconds(), err },
		)
		renders := median(each(runs, func(d drained) float64 { return d.renders }))
		results = []result{{
			unit: "s", ours: ours, theirs: theirs, with: "row 1, ours", aim: "<= 1.3",
			notes: []string{fmt.Sprintf("renders for %.2f %% of the changes; to reach: under 1 %%", 100*renders/float64(b.rows))},
		}}
		return err
	})
	return results, err
}

// many has 1,000 viewlets over 200 tables in force.
func many(ctx context.Context, h *house) (results []result, err error) {
	err = h.in(ctx, "many", func(db *database) error {
		rows := h.of(2_000_000) // some of which are read while all is rendered
		b, err := db.backlog(ctx, rows, narrow(rows)...)
		if err != nil {
			return err
		}
		var rules strings.Builder
		rules.WriteString(quietRules)
		for t := range 199 {
			table := fmt.Sprintf("t%03d", t)
			if err := b.exec(ctx, "CREATE TABLE "+table+" (id int PRIMARY KEY, n int, name text)", "ALTER PUBLICATION bench ADD TABLE "+table); err != nil {
				return err
			}
			writeViewlets(&rules, table, 5)
		}
		writeViewlets(&rules, "v", 4)
		var runs []drained
		ours, theirs, err := h.alternate(
			func() (float64, error) {
				d, err := b.ours(ctx, rules.String())
				runs = append(runs, d)
				return d.warm.thousands(), err
			},
			func() (float64, error) { d, err := b.ours(ctx, quietRules); return d.warm.thousands(), err },
		)
		results = []result{
			{unit: "krows/s", ours: ours, theirs: theirs, with: "row 1, ours; of what is left when all is rendered", aim: ">= 0.9"},
			{what: "start", unit: "s", ours: each(runs, func(d drained) float64 { return d.start.Seconds() }), with: "to the stream's start", aim: "< 2"},
			{what: "memory", unit: "MiB", ours: each(runs, func(d drained) float64 { return d.peakMiB }), with: "peak RSS", aim: "<= 150"},
		}
		return err
	})
	return results, err
}

func writeViewlets(w *strings.Builder, table string, n int) {
	for i := range n {
		fmt.Fprintf(w, `
viewlet "%[1]s_%[2]d" {
  params = ["id"]
  query  = "SELECT id, n, name FROM %[1]s WHERE id = @id"
  body   = "<b>{{.name}}</b> {{.n}}"
  all    = "SELECT 1 WHERE false"
}
table "%[1]s" {
  when    = new.n < -%[2]d
  refresh = %[1]s_%[2]d(id)
}
`, table, i)
	}
}

// wide reads rows of 50 columns and 2 KiB, of which rules need two.
func wide(ctx context.Context, h *house) (results []result, err error) {
	rows := h.of(200_000)
	var columns strings.Builder
	for i := range 47 {
		fmt.Fprintf(&columns, ", c%d text NOT NULL DEFAULT repeat('%c', 42)", i, 'a'+i%26)
	}
	create := []string{
		"CREATE TABLE v (id int PRIMARY KEY, n int NOT NULL, name text NOT NULL" + columns.String() + ")",
		fmt.Sprintf("INSERT INTO v SELECT i, i, 'a name' FROM generate_series(1, %d) i", rows),
	}
	err = h.in(ctx, "wide", func(db *database) error {
		w, err := db.backlog(ctx, rows, create...)
		if err != nil {
			return err
		}
		return h.in(ctx, "wide_beside", func(beside *database) error {
			b, err := beside.backlog(ctx, h.of(1_000_000), narrow(h.of(1_000_000))...)
			if err != nil {
				return err
			}
			ours, theirs, err := h.alternate(
				func() (float64, error) { return w.megabytes(ctx) },
				func() (float64, error) { return b.megabytes(ctx) },
			)
			results = []result{{unit: "MB/s", ours: ours, theirs: theirs, with: "row 1, ours", aim: ">= 0.9"}}
			return err
		})
	})
	return results, err
}

// megabytes drains the backlog, and gives how much of pgoutput that was a second.
func (b *backlogged) megabytes(ctx context.Context) (float64, error) {
	var perTransaction float64 // each is like the others
	err := b.pool.QueryRow(ctx, fmt.Sprintf(`SELECT sum(25 + 5 + length(data))::float8 / 10 FROM pg_logical_slot_peek_binary_changes('%s_source', NULL, 1000,
		'proto_version', '1', 'publication_names', 'bench')`, b.name)).Scan(&perTransaction)
	if err != nil {
		return 0, err
	}
	d, err := b.ours(ctx, quietRules)
	return perTransaction * float64(b.rows) / 100 / d.streaming.Seconds() / 1e6, err
}
