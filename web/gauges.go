package web

import "github.com/prometheus/client_golang/prometheus"

// gauges turns the daemon's Status to metrics, once a scrape. It is a
// prometheus.Collector.
type gauges struct {
	daemon Daemon

	state, changes, transactions, reconnects, received, confirmed, serverEnd,
	lagBytes, lagSeconds, upToDate,
	slotRetained, slotSafe, slotToLimit,
	fromStandby *prometheus.Desc
	depth, broken, failed *prometheus.Desc // by viewlet
}

func newGauges(d Daemon) gauges {
	return gauges{
		daemon: d,

		state:        desc("state", "What the daemon is at: 1 for that state, 0 for the others.", "state"),
		changes:      desc("changes_total", "Row changes of committed transactions received from Postgres."),
		transactions: desc("transactions_total", "Committed transactions received from Postgres."),
		reconnects:   desc("reconnects_total", "Replication connections lost and made again."),
		received:     desc("received_lsn", "WAL position behind the last commit received."),
		confirmed:    desc("confirmed_lsn", "WAL position up to which everything is in the cache and confirmed to Postgres."),
		serverEnd:    desc("server_lsn", "The server's WAL end, as its last message said."),
		lagBytes:     desc("lag_bytes", "WAL that Postgres keeps because it is not confirmed."),
		lagSeconds:   desc("lag_seconds", "Age of the oldest commit that is not confirmed; 0 when all are."),
		upToDate:     desc("up_to_date", "Whether everything received is in the cache: 1 when it is."),
		slotRetained: desc("slot_retained_bytes", "WAL that Postgres keeps for the slot."),
		slotSafe:     desc("slot_safe_bytes", "WAL that may yet be written before the slot is lost to max_slot_wal_keep_size; +Inf without one."),
		slotToLimit:  desc("slot_seconds_to_limit", "How long that will last at the rate of the last minutes, if nothing is confirmed meanwhile."),
		fromStandby:  desc("renders_from_standby", "Whether queries run on the standby of render_url: 1 when they do, 0 while the primary serves."),
		depth:        desc("lane_depth", "Refreshes that wait for a pass or are in one.", "viewlet"),
		broken:       desc("lane_broken", "Whether the viewlet itself cannot be rendered: 1 when it cannot.", "viewlet"),
		failed:       desc("failed_fragments", "Fragments that could not be rendered when last tried.", "viewlet"),
	}
}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("cdc_viewlet_"+name, help, labels, nil)
}

// Describe sends every description that Collect uses.
func (g gauges) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		g.state, g.changes, g.transactions, g.reconnects, g.received, g.confirmed, g.serverEnd,
		g.lagBytes, g.lagSeconds, g.upToDate, g.slotRetained, g.slotSafe, g.slotToLimit, g.fromStandby, g.depth, g.broken, g.failed,
	} {
		ch <- d
	}
}

// Collect asks the daemon once.
func (g gauges) Collect(ch chan<- prometheus.Metric) {
	st := g.daemon.Status()
	if st.State == "" {
		st.State = Starting
	}
	send := func(d *prometheus.Desc, kind prometheus.ValueType, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, kind, value, labels...)
	}
	for _, s := range []State{Starting, Standby, Warming, Streaming, Stopping} {
		send(g.state, prometheus.GaugeValue, truth(s == st.State), string(s))
	}
	send(g.changes, prometheus.CounterValue, float64(st.Changes))
	send(g.transactions, prometheus.CounterValue, float64(st.Transactions))
	send(g.reconnects, prometheus.CounterValue, float64(st.Reconnects))
	send(g.received, prometheus.GaugeValue, float64(st.Received))
	send(g.confirmed, prometheus.GaugeValue, float64(st.Confirmed))
	send(g.serverEnd, prometheus.GaugeValue, float64(st.ServerEnd))
	send(g.lagBytes, prometheus.GaugeValue, st.lagBytes())
	send(g.lagSeconds, prometheus.GaugeValue, st.lagSeconds())
	send(g.upToDate, prometheus.GaugeValue, truth(st.upToDate()))
	send(g.slotRetained, prometheus.GaugeValue, float64(st.Slot.Retained))
	send(g.slotSafe, prometheus.GaugeValue, st.Slot.safeBytes())
	send(g.slotToLimit, prometheus.GaugeValue, st.Slot.secondsToLimit())
	send(g.fromStandby, prometheus.GaugeValue, truth(st.RendersFromStandby))
	for _, l := range st.Lanes {
		send(g.depth, prometheus.GaugeValue, float64(l.Depth), l.Viewlet)
		send(g.broken, prometheus.GaugeValue, truth(l.Broken), l.Viewlet)
		send(g.failed, prometheus.GaugeValue, float64(l.Failed), l.Viewlet)
	}
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
