package integration

import (
	"flag"
	"time"
)

// How much of what could go on for hours is done: by default so little that
// all of it takes minutes.
var (
	chaosSeed  = flag.Uint64("chaos-seed", 0, "the seed of the chaos; 0: a new one")
	chaosKills = flag.Int("chaos-kills", 10, "how often the daemon is ended in the chaos")
	gapless    = flag.Duration("gapless", 2*time.Second, "how long the load goes on that never pauses, at least")
	hugeRows   = flag.Int("huge-rows", 12_000, "rows of the huge transaction")
)

// hugePatience is how long the huge transaction may take.
func hugePatience() time.Duration { return patience + time.Duration(*hugeRows)*time.Millisecond }
