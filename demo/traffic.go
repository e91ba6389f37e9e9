package demo

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Traffic writes to the sample shop's tables as a shop's day does: orders,
// prices, reviews, names, moves, deliveries, and carts that are abandoned.
type Traffic struct {
	// URL is the shop's database.
	URL string
	// Rate is how many acts to play in a second, on average; zero means 2.
	Rate float64
	// Seed chooses the acts: the same seed on the same rows plays the same ones.
	Seed uint64
	// Tell hears of each act as soon as Postgres has answered its COMMIT, from
	// the goroutine that writes. It must not block. Nil: nobody listens.
	Tell func(Act)
	// Log hears of connections lost and found. Nil: nobody listens.
	Log *slog.Logger
}

// Act is one transaction of the Traffic.
type Act struct {
	Sentence   string    // what happened, for people
	At         time.Time // when COMMIT, or ROLLBACK, was answered
	RolledBack bool      // the whole transaction: nothing may change
	Rows       int       // written and committed

	// What the change shows on: ids of products, categories and brands.
	Products, Categories, Brands []int64
}

// Run plays acts until ctx ends, and returns its error. While Postgres is away
// it tries again each second; any other mistake of Postgres's is returned.
func (t *Traffic) Run(ctx context.Context) error {
	log := t.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	acts, pace := rand.New(rand.NewPCG(t.Seed, 0)), rand.New(rand.NewPCG(t.Seed, 1))
	for {
		err := t.write(ctx, acts, pace)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if !passing(err) {
			return err
		}
		log.Warn("shop's writer lost postgres, trying again", "err", err)
		if err := pause(ctx, time.Second); err != nil {
			return err
		}
	}
}

// write plays acts on one connection until that breaks or ctx ends.
func (t *Traffic) write(ctx context.Context, acts, pace *rand.Rand) error {
	conn, err := pgx.Connect(ctx, t.URL)
	if err != nil {
		return fmt.Errorf("connect shop's writer: %w", err)
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = conn.Close(closing)
	}()
	rate := t.Rate
	if rate <= 0 {
		rate = 2
	}
	w := &writer{conn: conn, rng: acts}
	for {
		act, err := w.play(ctx)
		if err != nil {
			return err
		}
		if t.Tell != nil && act.Sentence != "" {
			t.Tell(act)
		}
		if err := pause(ctx, time.Duration((0.5+pace.Float64())/rate*float64(time.Second))); err != nil {
			return err
		}
	}
}

// passing reports whether an error is the world's, and not the writer's own: no
// answer at all, or Postgres stopping, starting, full or interfered with.
//
// https://www.postgresql.org/docs/current/errcodes-appendix.html
func passing(err error) bool {
	var said *pgconn.PgError
	if !errors.As(err, &said) {
		return true
	}
	switch said.Code[:2] {
	case "08", "40", "53", "55", "57", "58":
		return true
	}
	return false
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
