package integration

import (
	"fmt"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
)

// What is broken harms only itself, and what is equal is not written.

// A row that its template cannot show, a row that its rule cannot be followed
// for, and a row that its query fails on: each viewlet's others go on.
func TestPoison(t *testing.T) {
	t.Parallel()
	s := smallSite(t, startPostgres(t))
	psql(t, s.db, `CREATE TABLE u (id int PRIMARY KEY, list text, tags int[]); INSERT INTO u SELECT i, '["a"]', '{1,2}' FROM generate_series(1, 9) i`)
	writeFiles(t, s.dir, map[string]string{"rules/poison.hcl": `
		viewlet "template" {
		  params = ["id"]
		  query  = "SELECT tags FROM u WHERE id = @id"
		  all    = "SELECT id FROM u"
		  body   = "{{index .tags 1}}"
		}
		viewlet "query" {
		  params = ["id"]
		  query  = "SELECT list::json ->> 0 AS first FROM u WHERE id = @id"
		  all    = "SELECT id FROM u"
		}
		viewlet "rule" {
		  params = ["id"]
		  query  = "SELECT list FROM u WHERE id = @id"
		  all    = "SELECT id FROM u"
		}
		table "u" {
		  refresh = [template(id), query(id)]
		}
		table "u" {
		  when    = jsondecode(new.list)[0] != "never"
		  refresh = rule(id)
		}`})
	p := s.run(t)
	psql(t, s.db, `UPDATE u SET list = 'no json', tags = '{1}' WHERE id = 3; UPDATE u SET list = '["b"]', tags = '{1,3}' WHERE id = 4; UPDATE t SET n = 'x' WHERE id = 1`)
	quiet(t, s.db) // nothing is held for them
	for key, want := range map[string]string{
		"template:3": "2", "query:3": `{"first":"a"}`, // the last good bytes
		"rule:3":     `{"list":"no json"}`, // a rule that cannot be followed fires
		"template:4": "3", "query:4": `{"first":"b"}`, "rule:4": `{"list":"[\"b\"]"}`, "v:1": "one x",
	} {
		s.want(t, key, want)
	}
	failed := s.redis.client.HGetAll(t.Context(), "viewlet:@failed").Val()
	if len(failed) != 2 || failed["template:3"] == "" || failed["query:3"] == "" {
		t.Errorf("@failed has %v", failed)
	}
	p.says(t, "a rule cannot be followed")
	psql(t, s.db, `UPDATE u SET list = '["c"]', tags = '{1,4}' WHERE id = 3`)
	quiet(t, s.db)
	newOracle(t, s.db, s.rules()).agree(t, s.redis)
	if left := s.redis.client.HLen(t.Context(), "viewlet:@failed").Val(); left != 0 {
		t.Errorf("%d fragments are noted as failed still", left)
	}
	p.stop(t)
}

// A change that leaves the bytes as they were is neither written nor announced.
func TestEqualBytesAreNotWritten(t *testing.T) {
	t.Parallel()
	s := smallSite(t, startPostgres(t))
	psql(t, s.db, "ALTER TABLE t ADD COLUMN hidden int")
	p := s.run(t, "--http", "127.0.0.1:0")
	url := urlOf(t, p)
	quiet(t, s.db)
	if err := s.redis.client.ConfigSet(t.Context(), "notify-keyspace-events", "KA").Err(); err != nil {
		t.Fatal(err)
	}
	// https://redis.io/docs/latest/develop/pubsub/keyspace-notifications/
	heard := s.redis.client.PSubscribe(t.Context(), "__keyspace@0__:viewlet:v:*", "viewlet:@refreshed")
	defer heard.Close()
	for range 2 {
		if _, err := heard.Receive(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	before := rendered(t, url, "v")
	psql(t, s.db, "UPDATE t SET hidden = 1; UPDATE t SET n = n")
	psql(t, s.db, "BEGIN; UPDATE t SET n = 'there and back' WHERE id = 7; UPDATE t SET n = 'n7' WHERE id = 7; COMMIT")
	quiet(t, s.db)
	if got := rendered(t, url, "v") - before; got < 500 {
		t.Fatalf("only %v fragments were rendered: the test tries nothing", got)
	}
	psql(t, s.db, "UPDATE t SET n = 'other' WHERE id = 9")
	var all []string
	for len(all) < 2 {
		msg, err := heard.ReceiveMessage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, heardOf(msg))
	}
	if got := strings.Join(all, ", "); got != "v:9 announced, v:9 set" {
		t.Errorf("Redis tells of %s", got)
	}
	p.stop(t)
}

func heardOf(msg *redis.Message) string {
	if key, ok := strings.CutPrefix(msg.Channel, "__keyspace@0__:viewlet:"); ok {
		return key + " " + msg.Payload
	}
	_, rest, _ := strings.Cut(msg.Payload, `"key":"viewlet:`)
	key, _, _ := strings.Cut(rest, `"`)
	return fmt.Sprintf("%s announced", key)
}
