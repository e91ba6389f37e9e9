package integration

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/cdc-viewlet/cdc-viewlet/sandbox"
)

// Pagila is a public sample database that nobody here wrote, with partitions,
// views, enums, domains, arrays, full-text columns, triggers and composite
// keys. These are viewlets over it with rules by hand.
const pagilaRules = `
viewlet "film" {
  params = ["id"]
  query  = "SELECT f.title, f.description, f.release_year, f.rating, f.special_features, f.fulltext::text AS words, f.revenue_projection, l.name AS language, o.name AS original FROM film f JOIN language l USING (language_id) LEFT JOIN language o ON o.language_id = f.original_language_id WHERE f.film_id = @id"
  all    = "SELECT film_id FROM film"
  body   = "<h1>{{.title}}</h1>{{.description}} {{.release_year}} {{.rating}} {{range .special_features}}<i>{{.}}</i>{{end}} {{.words}} {{.language}} {{.original}} {{.revenue_projection}}"
}
viewlet "film_cast" {
  params = ["film"]
  query  = "SELECT a.actor_id, a.first_name, a.last_name FROM film_actor fa JOIN actor a USING (actor_id) WHERE fa.film_id = @film ORDER BY last_name, first_name, actor_id"
  all    = "SELECT DISTINCT film_id FROM film_actor"
  rows   = true
}
viewlet "filmography" {
  params = ["actor"]
  query  = "SELECT * FROM actor_info WHERE actor_id = @actor"
  all    = "SELECT actor_id FROM actor"
}
viewlet "film_list" {
  params = ["fid"]
  query  = "SELECT title, category, price, length, rating, (SELECT string_agg(x, ',' ORDER BY x) FROM unnest(string_to_array(actors, ', ')) x) AS actors FROM film_list WHERE fid = @fid ORDER BY category"
  all    = "SELECT film_id FROM film"
  body   = "{{range .rows}}{{.title}} {{.category}} {{.price}} {{.length}} {{.rating}} {{.actors}};{{end}}"
}
viewlet "customer" {
  params = ["id"]
  query  = "SELECT * FROM customer_list WHERE id = @id"
  all    = "SELECT customer_id FROM customer"
}
viewlet "customer_payments" {
  params = ["id"]
  query  = "SELECT count(*) AS n, sum(amount) AS total, max(payment_date) AS last FROM payment WHERE customer_id = @id"
  all    = "SELECT customer_id FROM customer"
}
viewlet "payment" {
  params = ["id", "day"]
  query  = "SELECT * FROM payment WHERE payment_id = @id AND payment_date = @day AND payment_id % 10 = 0"
  all    = "SELECT payment_id, payment_date FROM payment WHERE payment_id % 10 = 0"
}
viewlet "rating" {
  params = ["rating"]
  query  = "SELECT count(*) AS n, avg(length)::numeric(10,2) AS length FROM film WHERE rating = @rating"
  all    = "SELECT unnest(enum_range(NULL::mpaa_rating))"
}
viewlet "year" {
  params = ["year"]
  query  = "SELECT count(*) AS n FROM film WHERE release_year = @year::year GROUP BY release_year"
  all    = "SELECT DISTINCT release_year FROM film"
}
viewlet "pair" {
  params = ["actor", "film"]
  query  = "SELECT last_update FROM film_actor WHERE actor_id = @actor AND film_id = @film"
  all    = "SELECT actor_id, film_id FROM film_actor"
}
viewlet "language" {
  params = ["name"]
  query  = "SELECT l.language_id, (SELECT count(*) FROM film f WHERE f.language_id = l.language_id) AS films FROM language l WHERE l.name = @name ORDER BY 1"
  all    = "SELECT name FROM language"
  rows   = true
}
viewlet "country" {
  params = ["country"]
  query  = "SELECT c.city_id, c.city, y.country FROM country y LEFT JOIN city c USING (country_id) WHERE y.country_id = @country ORDER BY 1"
  all    = "SELECT country_id FROM country"
  rows   = true
}
viewlet "city" {
  params = ["city"]
  query  = "SELECT city, count(a.*) AS n, array_agg(a.address ORDER BY a.address_id) AS addresses FROM city LEFT JOIN address a USING (city_id) WHERE city_id = @city GROUP BY city_id, city"
  all    = "SELECT city_id FROM city"
}
viewlet "inventory" {
  params = ["id"]
  query  = "SELECT i.film_id, i.store_id, (SELECT count(*) FROM rental r WHERE r.inventory_id = i.inventory_id) AS rentals FROM inventory i WHERE i.inventory_id = @id"
  all    = "SELECT inventory_id FROM inventory"
}
viewlet "rental" {
  params = ["id"]
  query  = "SELECT *, lower(rental_period) AS since FROM rental WHERE rental_id = @id AND rental_id % 10 = 0"
  all    = "SELECT rental_id FROM rental WHERE rental_id % 10 = 0"
  body   = "{{.since}} {{.rental_period}} {{.customer_id}}"
}
viewlet "staff" {
  params = ["username"]
  query  = "SELECT first_name, encode(picture, 'hex') AS picture, active FROM staff WHERE username = @username"
  all    = "SELECT username FROM staff"
}
viewlet "store" {
  params = ["id"]
  query  = "SELECT s.store_id, m.first_name, (SELECT count(*) FROM inventory i WHERE i.store_id = s.store_id) AS n FROM store s JOIN staff m ON m.staff_id = s.manager_staff_id WHERE s.store_id = @id"
  all    = "SELECT store_id FROM store"
}
viewlet "categories" {
  query = "SELECT c.name, count(fc.*) AS n FROM category c LEFT JOIN film_category fc USING (category_id) GROUP BY 1 ORDER BY 1"
  rows  = true
}

lookup "films_in_language"   {
  params = ["l"]
  query = "SELECT film_id FROM film WHERE language_id = @l OR original_language_id = @l"
}
lookup "films_of_actor"      {
  params = ["a"]
  query = "SELECT film_id FROM film_actor WHERE actor_id = @a"
}
lookup "actors_of_film"      {
  params = ["f"]
  query = "SELECT actor_id FROM film_actor WHERE film_id = @f"
}
lookup "films_of_category"   {
  params = ["c"]
  query = "SELECT film_id FROM film_category WHERE category_id = @c"
}
lookup "actors_of_category"  {
  params = ["c"]
  query = "SELECT DISTINCT fa.actor_id FROM film_category fc JOIN film_actor fa USING (film_id) WHERE fc.category_id = @c"
}
lookup "customers_at"        {
  params = ["a"]
  query = "SELECT customer_id FROM customer WHERE address_id = @a"
}
lookup "customers_in_city"   {
  params = ["c"]
  query = "SELECT customer_id FROM customer JOIN address USING (address_id) WHERE city_id = @c"
}
lookup "customers_in_country" {
  params = ["c"]
  query = "SELECT customer_id FROM customer JOIN address USING (address_id) JOIN city USING (city_id) WHERE country_id = @c"
}
lookup "language_name"       {
  params = ["l"]
  query = "SELECT name FROM language WHERE language_id = @l"
}
lookup "stores_of_staff"     {
  params = ["s"]
  query = "SELECT store_id FROM store WHERE manager_staff_id = @s"
}

table "film" {
  refresh = [film(film_id), film_list(film_id), rating(rating), year(release_year), filmography(actors_of_film(film_id)), language(language_name(language_id))]
}
table "language" {
  refresh = [film(films_in_language(language_id)), language(name)]
}
table "actor" {
  refresh = [filmography(actor_id), film_cast(films_of_actor(actor_id)), film_list(films_of_actor(actor_id))]
}
table "film_actor" {
  refresh = [film_cast(film_id), filmography(actor_id), film_list(film_id), pair(actor_id, film_id)]
}
table "film_category" {
  refresh = [film_list(film_id), filmography(actors_of_film(film_id)), categories()]
}
table "category" {
  refresh = [categories(), film_list(films_of_category(category_id)), filmography(actors_of_category(category_id))]
}
table "customer" {
  refresh = [customer(customer_id), customer_payments(customer_id)]
}
table "address" {
  refresh = [customer(customers_at(address_id)), city(city_id)]
}
table "city" {
  refresh = [customer(customers_in_city(city_id)), city(city_id), country(country_id)]
}
table "country" {
  refresh = [customer(customers_in_country(country_id)), country(country_id)]
}
table "payment" {
  refresh = [customer_payments(customer_id)]
}
table "payment" {
  when = (new.payment_id % 10 == 0) || (old.payment_id % 10 == 0)
  refresh = payment(payment_id, payment_date)
}
table "inventory" {
  refresh = [inventory(inventory_id), store(store_id)]
}
table "rental" {
  refresh = inventory(inventory_id)
}
table "rental" {
  when = new.rental_id % 10 == 0 || old.rental_id % 10 == 0
  refresh = rental(rental_id)
}
table "staff" {
  refresh = [staff(username), store(stores_of_staff(staff_id))]
}
table "store" {
  refresh = store(store_id)
}
`

// pagilaSite loads Pagila from the folder shared/pagila beside the repository.
func pagilaSite(t testing.TB) *site {
	t.Helper()
	folder := filepath.Join(repository(t), "..", "shared", "pagila")
	if _, err := os.Stat(folder); err != nil {
		t.Skipf("Pagila is not there: %v", err)
	}
	client, err := exec.LookPath("psql")
	if err != nil {
		t.Skip("Pagila is loaded by psql, and there is none")
	}
	s := newSite(t, startOwnPostgres(t, sandbox.PostgresConfig{}), "SELECT", map[string]string{"rules/pagila.hcl": pagilaRules})
	for _, part := range []string{"schema", "data"} {
		out, err := exec.Command(client, "-q", s.db.url, "-f", filepath.Join(folder, "pagila-"+part+".sql")).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	psql(t, s.db, `DO $$ DECLARE r record; BEGIN
		FOR r IN SELECT oid::regclass AS c FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') LOOP
			EXECUTE 'ALTER TABLE ' || r.c || ' REPLICA IDENTITY FULL';
		END LOOP; END $$`)
	return s
}

var pagilaMoves = []func(r *rand.Rand) string{
	func(r *rand.Rand) string {
		return fmt.Sprintf("UPDATE film SET title = 'T%d', rating = (enum_range(NULL::mpaa_rating))[%d], release_year = %d WHERE film_id = %d", r.IntN(1e6), 1+r.IntN(5), 2000+r.IntN(20), 1+r.IntN(1000))
	},
	func(r *rand.Rand) string {
		return fmt.Sprintf("UPDATE film SET special_features = CASE WHEN random() < .3 THEN NULL ELSE array['a,\"b','c%d',NULL] END, original_language_id = %d, rental_rate = %d.99 WHERE film_id = %d", r.IntN(99), 1+r.IntN(6), r.IntN(9), 1+r.IntN(1000))
	},
	func(r *rand.Rand) string {
		return fmt.Sprintf("UPDATE language SET name = 'L%d' WHERE language_id = %d", r.IntN(50), 2+r.IntN(5))
	},
	func(r *rand.Rand) string {
		return fmt.Sprintf("UPDATE actor SET last_name = 'N%d' WHERE actor_id = %d", r.IntN(1e6), 1+r.IntN(200))
	},
	func(r *rand.Rand) string {
		return fmt.Sprintf("DELETE FROM film_actor WHERE actor_id = %d AND film_id %% 7 = %d", 1+r.IntN(200), r.IntN(7))
	},
	func(r *rand.Rand) string {
		return fmt.Sprintf("INSERT INTO film_actor (actor_id, film_id) SELECT %d, g FROM generate_series(%d, 1000, 211) g ON CONFLICT DO NOTHING", 1+r.IntN(200), 1+r.IntN(211))
	},
	func(r *rand.Rand) string {
		return fmt.Sprintf("UPDATE film_actor SET film_id = %d WHERE actor_id = %d AND film_id = (SELECT film_id FROM film_actor WHERE actor_id = %[2]d LIMIT 1)", 1+r.IntN(1000), 1+r.IntN(200))
	},
	func(r *rand.Rand) string {
		return fmt.Sprintf("UPDATE category SET name = 'C%d' WHERE category_id = %d", r.IntN(1e6), 1+r.IntN(16))
	},
	func(r *rand.Rand) string {
		return fmt.Sprintf("UPDATE film_category SET category_id = %d WHERE film_id = %d", 1+r.IntN(16), 1+r.IntN(1000))
	},
	func(r *rand.Rand) string {
		return fmt.Sprintf("UPDATE customer SET address_id = %d, activebool = NOT activebool WHERE customer_id = %d", 1+r.IntN(600), 1+r.IntN(599))
	},
	func(r *rand.Rand) string {
		return fmt.Sprintf("UPDATE address SET city_id = %d, postal_code = NULL WHERE address_id = %d", 1+r.IntN(600), 1+r.IntN(600))
	},
	func(r *rand.Rand) string {
		return fmt.Sprintf("UPDATE city SET city = 'Ci''ty %d', country_id = %d WHERE city_id = %d", r.IntN(1e6), 1+r.IntN(109), 1+r.IntN(600))
	},
	func(r *rand.Rand) string {
		return fmt.Sprintf("UPDATE country SET country = 'Land %d' WHERE country_id = %d", r.IntN(1e6), 1+r.IntN(109))
	},
	func(r *rand.Rand) string {
		return fmt.Sprintf("UPDATE payment SET amount = %d.%02d WHERE customer_id = %d", r.IntN(99), r.IntN(100), 1+r.IntN(599))
	},
	func(r *rand.Rand) string {
		return fmt.Sprintf("UPDATE payment SET payment_date = '2007-01-01'::timestamp + interval '%d hours' WHERE payment_id = (SELECT payment_id FROM payment WHERE payment_id %% 10 = 0 OFFSET %d LIMIT 1)", r.IntN(5000), r.IntN(1500))
	},
	func(r *rand.Rand) string {
		return fmt.Sprintf("DELETE FROM payment WHERE payment_id %% 1000 = %d", r.IntN(1000))
	},
	func(r *rand.Rand) string {
		return fmt.Sprintf("INSERT INTO payment (customer_id, staff_id, rental_id, amount, payment_date) SELECT %d, 1, 1+%d, 5.55, '2007-01-01'::timestamp + interval '%d hours' FROM generate_series(1, 12)", 1+r.IntN(599), r.IntN(9), r.IntN(5000))
	},
	func(r *rand.Rand) string {
		return fmt.Sprintf("UPDATE rental SET rental_period = tsrange('2020-01-01', '2020-01-02'::timestamp + interval '%d h') WHERE rental_id BETWEEN %d AND %[2]d + 25", r.IntN(99), r.IntN(16000))
	},
	func(r *rand.Rand) string {
		return fmt.Sprintf("UPDATE rental SET inventory_id = %d WHERE rental_id = %d", 1+r.IntN(4581), 1+r.IntN(16000))
	},
	func(r *rand.Rand) string {
		return fmt.Sprintf("UPDATE inventory SET store_id = 3 - store_id WHERE inventory_id BETWEEN %d AND %[1]d + 9 AND store_id < 3", 1+r.IntN(4581))
	},
	func(r *rand.Rand) string {
		return fmt.Sprintf("UPDATE staff SET username = 'u%d', picture = decode('%04x', 'hex') WHERE staff_id = %d", r.IntN(1e4), r.IntN(65536), 1+r.IntN(2))
	},
}

// Random transactions over Pagila, and kill -9 of the daemon among them.
func TestPagila(t *testing.T) {
	t.Parallel()
	s := pagilaSite(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	p := s.run(t)
	o := newOracle(t, s.db, s.rules())
	o.agree(t, s.redis)
	for round := range uint64(3) {
		written := make(chan struct{})
		go func() {
			defer close(written)
			write(t, t.Context(), s.db, seed+round, 2, 60, pagilaMoves)
		}()
		p.kill()
		p = s.start(t)
		<-written
		quiet(t, s.db)
		o.agree(t, s.redis)
	}
	p.stop(t)
}
