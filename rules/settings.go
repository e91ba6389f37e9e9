package rules

import (
	"regexp"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
)

func (d *decoder) postgres(b *hcl.Block) {
	attrs, ok := d.once(b)
	if !ok {
		return
	}
	d.Postgres = Postgres{
		URL: d.given(attrs["url"]), Slot: d.given(attrs["slot"]), Publication: d.given(attrs["publication"]),
		RenderURL: d.given(attrs["render_url"]),
	}
	if lag, ok := d.duration(attrs["render_lag"]); ok && lag < 100*time.Millisecond {
		d.Error(attrs["render_lag"].Expr.Range(), "render_lag is too short", "It is how far a standby may be behind, at least \"100ms\". Leave it out for \"10s\".")
	} else {
		d.Postgres.RenderLag = lag
	}
	if s := d.Postgres.Slot; s != "" && !slotName.MatchString(s) {
		d.Error(attrs["slot"].Expr.Range(), "Not a slot name", "Postgres takes 1 to 63 lower-case letters, digits and underscores as the name of a replication slot.")
	}
	if len(d.Postgres.Publication) > 63 {
		d.Error(attrs["publication"].Expr.Range(), "Not a publication name", "Postgres takes at most 63 bytes as a name.")
	}
}

var slotName = regexp.MustCompile(`^[a-z0-9_]{1,63}$`)

func (d *decoder) redis(b *hcl.Block) {
	attrs, ok := d.once(b)
	if !ok {
		return
	}
	d.Redis = Redis{URL: d.given(attrs["url"]), Prefix: d.given(attrs["prefix"]), WaitReplicas: d.count(attrs["wait_replicas"])}
	if strings.ContainsAny(d.Redis.Prefix, "{} \t\r\n\v\f") {
		d.Error(attrs["prefix"].Expr.Range(), "Bad prefix", "A prefix has no whitespace, and no braces, for they would put every key into one slot of a Redis cluster. Write something like \"viewlet:\".")
	}
}
