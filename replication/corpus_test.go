package replication

import (
	"encoding/binary"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cdc-viewlet/cdc-viewlet/replication/pgoutput"
)

var update = flag.Bool("update", false, "write pgoutput's fuzz corpus anew, from this server's stream")

// TestCorpus decodes what the server itself says that pgoutput would send, and
// with -update keeps it as the corpus of pgoutput's FuzzDecode.
func TestCorpus(t *testing.T) {
	db := shared.database(t)
	db.sql.exec(`
		CREATE TYPE mood AS ENUM ('sad', 'happy');
		CREATE TABLE products (id int PRIMARY KEY, name text, feels mood, body text);
		ALTER TABLE products ALTER body SET STORAGE EXTERNAL;
		CREATE TABLE whole (id int PRIMARY KEY, name text); ALTER TABLE whole REPLICA IDENTITY FULL`)
	cfg := db.cfg()
	db.publish(t, cfg, "products", "whole")
	for _, step := range []struct{ name, sql string }{
		{"insert", "INSERT INTO products VALUES (1, 'Oak', 'happy', repeat('x', 3000)), (2, NULL, NULL, '')"},
		{"update", "UPDATE products SET name = 'Ash' WHERE id = 2; UPDATE products SET id = 3 WHERE id = 1"},
		{"delete", "DELETE FROM products WHERE id = 3"},
		{"whole", "INSERT INTO whole VALUES (1, NULL); UPDATE whole SET name = 'a'; DELETE FROM whole"},
		{"truncate", "TRUNCATE products, whole"},
		{"message", "SELECT pg_logical_emit_message(true, 'cdc-viewlet', 'product_teaser:42'), pg_logical_emit_message(false, 'other', '')"},
		{"origin", "SELECT pg_replication_origin_create('elsewhere'); SELECT pg_replication_origin_session_setup('elsewhere'); INSERT INTO whole VALUES (2, 'b')"},
	} {
		db.sql.exec(step.sql)
		if step.name == "origin" {
			db.sql.exec("SELECT pg_replication_origin_session_reset(), pg_replication_origin_drop('elsewhere')")
		}
		var decoder pgoutput.Decoder
		var seed []byte
		for _, r := range db.sql.rows(fmt.Sprintf(`SELECT data FROM pg_logical_slot_get_binary_changes('%s', NULL, NULL, 'proto_version', '1', 'publication_names', '%s', 'messages', 'true')`, cfg.Slot, quoteIdent(cfg.Publication))) {
			msg, err := hex.DecodeString(strings.TrimPrefix(r.string(0), `\x`))
			if err != nil {
				t.Fatal(err)
			}
			if err := decoder.Decode(msg, newRecorder()); err != nil {
				t.Errorf("%s: %v", step.name, err)
			}
			seed = append(binary.BigEndian.AppendUint16(seed, uint16(len(msg))), msg...)
		}
		if len(seed) == 0 {
			t.Errorf("%s: no messages", step.name)
		}
		if *update {
			file := filepath.Join("pgoutput", "testdata", "fuzz", "FuzzDecode", step.name)
			if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, fmt.Appendf(nil, "go test fuzz v1\n[]byte(%q)\n", seed), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
}
