package integration

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

var derivedTransactions = flag.Int("derived", 200, "how many transactions the tests of derived rules run, each; thousands take minutes")

// derivedPagila are viewlets without any rule. What names the instances is for
// the oracle alone: the daemon derives that, too. It names every instance there
// may be, also where Pagila has no foreign key: a payment of the default
// partition may be of a customer who is not there.
const derivedPagila = `
viewlet "actor_info_view" {
  params = ["actor"]
  query  = "SELECT first_name, last_name, (SELECT string_agg(x, ',' ORDER BY x) FROM regexp_split_to_table(film_info, '(, |: )') x) FROM actor_info WHERE actor_id = @actor"
  all    = "SELECT actor_id FROM actor"
}
viewlet "film_list_view" {
  params = ["fid"]
  query  = "SELECT title, category, price, length, rating, (SELECT string_agg(x, ',' ORDER BY x) FROM unnest(string_to_array(actors, ', ')) x) AS actors FROM film_list WHERE fid = @fid ORDER BY category"
  all    = "SELECT film_id FROM film"
  rows   = true
}
viewlet "customer_list_view" {
  params = ["id"]
  query  = "SELECT * FROM customer_list WHERE id = @id"
  all    = "SELECT customer_id FROM customer"
}
viewlet "staff_list_view" {
  params = ["id"]
  query  = "SELECT * FROM staff_list WHERE id = @id"
  all    = "SELECT staff_id FROM staff"
}
viewlet "sales_by_film_category_view" {
  params = ["category"]
  query  = "SELECT total_sales FROM sales_by_film_category WHERE category = @category"
  all    = "SELECT DISTINCT name FROM category"
}
viewlet "sales_top5_view" {
  params = ["category"]
  query  = "SELECT title, sales, rank FROM sales_top5_by_film_category WHERE category = @category ORDER BY rank, title, sales"
  all    = "SELECT DISTINCT name FROM category"
  rows   = true
}
viewlet "sales_by_store_view" {
  query  = "SELECT store, manager, total_sales FROM sales_by_store ORDER BY 1, 2, 3"
  rows   = true
}
viewlet "family_films_view" {
  params = ["language"]
  query  = "SELECT count(*) AS n, string_agg(title, ',' ORDER BY title) AS titles FROM family_films WHERE language_id = @language GROUP BY language_id"
  all    = "SELECT language_id FROM language"
}
viewlet "film_using" {
  params = ["id"]
  query  = "SELECT f.title, f.special_features, l.name AS language, o.name AS original FROM film f JOIN language l USING (language_id) LEFT JOIN language o ON o.language_id = f.original_language_id WHERE f.film_id = @id"
  all    = "SELECT film_id FROM film"
}
viewlet "cast_natural" {
  params = ["film"]
  query  = "SELECT * FROM (SELECT film_id, actor_id FROM film_actor) fa NATURAL JOIN (SELECT actor_id, first_name, last_name FROM actor) a WHERE film_id = @film ORDER BY actor_id"
  all    = "SELECT DISTINCT film_id FROM film_actor"
  rows   = true
}
viewlet "spent_cte" {
  params = ["customer"]
  query  = "WITH spent AS (SELECT customer_id, sum(amount) AS total, count(*) AS n FROM payment GROUP BY customer_id) SELECT c.first_name, s.total, s.n FROM customer c LEFT JOIN spent s USING (customer_id) WHERE c.customer_id = @customer"
  all    = "SELECT customer_id FROM customer"
}
viewlet "pairs_cte" {
  params = ["actor"]
  query  = "WITH roles AS (SELECT actor_id, film_id FROM film_actor) SELECT count(DISTINCT b.actor_id) AS colleagues FROM roles a JOIN roles b ON b.film_id = a.film_id AND b.actor_id <> a.actor_id WHERE a.actor_id = @actor GROUP BY a.actor_id"
  all    = "SELECT actor_id FROM actor"
}
viewlet "in_stock_exists" {
  params = ["film"]
  query  = "SELECT f.title FROM film f WHERE f.film_id = @film AND EXISTS (SELECT FROM inventory i WHERE i.film_id = f.film_id AND i.store_id = 1)"
  all    = "SELECT film_id FROM film"
}
viewlet "never_rented_not_exists" {
  params = ["store"]
  query  = "SELECT i.inventory_id FROM inventory i WHERE i.store_id = @store AND NOT EXISTS (SELECT FROM rental r WHERE r.inventory_id = i.inventory_id) ORDER BY 1"
  all    = "SELECT store_id FROM store"
  rows   = true
}
viewlet "cast_in" {
  params = ["film"]
  query  = "SELECT last_name FROM actor WHERE actor_id IN (SELECT actor_id FROM film_actor WHERE film_id = @film) ORDER BY last_name, actor_id"
  all    = "SELECT DISTINCT film_id FROM film_actor"
  rows   = true
}
viewlet "uncast_not_in" {
  params = ["category"]
  query  = "SELECT f.title FROM film_category fc JOIN film f USING (film_id) WHERE fc.category_id = @category AND f.film_id NOT IN (SELECT film_id FROM film_actor) ORDER BY f.film_id"
  all    = "SELECT category_id FROM category"
  rows   = true
}
viewlet "latest_lateral" {
  params = ["customer"]
  query  = "SELECT c.last_name, r.rental_id, r.since FROM customer c LEFT JOIN LATERAL (SELECT rental_id, lower(rental_period) AS since FROM rental WHERE customer_id = c.customer_id ORDER BY rental_id DESC LIMIT 3) r ON true WHERE c.customer_id = @customer ORDER BY r.rental_id"
  all    = "SELECT customer_id FROM customer"
  rows   = true
}
viewlet "people_union" {
  params = ["city"]
  query  = "SELECT first_name, 'customer' AS kind FROM customer JOIN address USING (address_id) WHERE city_id = @city UNION ALL SELECT s.first_name, 'staff' FROM staff s JOIN address a ON a.address_id = s.address_id WHERE a.city_id = @city ORDER BY 1, 2"
  all    = "SELECT city_id FROM city"
  rows   = true
}
viewlet "store_full_join" {
  params = ["store"]
  query  = "SELECT store_id, s.first_name, t.manager_staff_id FROM staff s FULL JOIN store t USING (store_id) WHERE store_id = @store ORDER BY s.staff_id"
  all    = "SELECT store_id FROM store UNION SELECT store_id FROM staff"
  rows   = true
}
viewlet "country_left_join" {
  params = ["country"]
  query  = "SELECT y.country, count(a.address_id) AS n FROM country y LEFT JOIN city c USING (country_id) LEFT JOIN address a USING (city_id) WHERE y.country_id = @country GROUP BY y.country_id, y.country"
  all    = "SELECT country_id FROM country"
}
viewlet "category_right_join" {
  params = ["category"]
  query  = "SELECT c.name, count(fc.film_id) AS n FROM film_category fc RIGHT JOIN category c ON c.category_id = fc.category_id WHERE c.category_id = @category GROUP BY c.category_id, c.name"
  all    = "SELECT category_id FROM category"
}
viewlet "alike_self_join" {
  params = ["film"]
  query  = "SELECT a.title, count(b.film_id) AS n, min(b.title) AS first FROM film a LEFT JOIN film b ON b.length = a.length AND b.rating = a.rating AND b.film_id <> a.film_id WHERE a.film_id = @film GROUP BY a.film_id, a.title"
  all    = "SELECT film_id FROM film"
}
viewlet "language_or" {
  params = ["language"]
  query  = "SELECT l.name, count(f.film_id) AS n, max(f.title) AS last FROM language l LEFT JOIN film f ON f.language_id = l.language_id OR f.original_language_id = l.language_id WHERE l.language_id = @language GROUP BY l.language_id, l.name"
  all    = "SELECT language_id FROM language"
}
viewlet "role_two_params" {
  params = ["actor", "film"]
  query  = "SELECT a.last_name, f.title FROM film_actor fa JOIN actor a USING (actor_id) JOIN film f USING (film_id) WHERE fa.actor_id = @actor AND fa.film_id = @film"
  all    = "SELECT actor_id, film_id FROM film_actor"
}
viewlet "served_three_params" {
  params = ["customer", "staff", "inventory"]
  query  = "SELECT s.first_name, r.rental_period FROM rental r JOIN staff s ON s.staff_id = r.staff_id WHERE r.customer_id = @customer AND s.staff_id = @staff AND r.inventory_id = @inventory AND r.rental_id % 20 = 0 ORDER BY r.rental_id"
  all    = "SELECT DISTINCT customer_id, staff_id, inventory_id FROM rental WHERE rental_id % 20 = 0"
}
viewlet "rating_enum" {
  params = ["rating"]
  query  = "SELECT rating, count(*) AS n, avg(length)::numeric(10,2) AS length FROM film WHERE rating = @rating GROUP BY rating"
  all    = "SELECT unnest(enum_range(NULL::mpaa_rating))"
}
viewlet "year_domain" {
  params = ["year"]
  query  = "SELECT release_year, count(*) AS n FROM film WHERE release_year = @year GROUP BY release_year"
  all    = "SELECT DISTINCT release_year FROM film"
}
viewlet "unstocked_except" {
  params = ["actor"]
  query  = "SELECT film_id FROM film_actor WHERE actor_id = @actor EXCEPT SELECT film_id FROM inventory ORDER BY 1"
  all    = "SELECT actor_id FROM actor"
  rows   = true
}
viewlet "both_intersect" {
  params = ["actor"]
  query  = "SELECT film_id FROM film_actor WHERE actor_id = @actor INTERSECT SELECT film_id FROM film_category WHERE category_id < 4 ORDER BY 1"
  all    = "SELECT actor_id FROM actor"
  rows   = true
}
viewlet "latest_distinct_on" {
  params = ["customer"]
  query  = "SELECT DISTINCT ON (staff_id) staff_id, payment_id, amount FROM payment WHERE customer_id = @customer ORDER BY staff_id, payment_id DESC, payment_date"
  all    = "SELECT DISTINCT customer_id FROM payment"
  rows   = true
}
viewlet "ranks_window" {
  params = ["rating"]
  query  = "SELECT title, n FROM (SELECT title, rating, row_number() OVER (PARTITION BY rating ORDER BY length DESC NULLS LAST, film_id) AS n FROM film) f WHERE rating = @rating AND n <= 3 ORDER BY n"
  all    = "SELECT unnest(enum_range(NULL::mpaa_rating))"
  rows   = true
}
viewlet "inventory_scalar" {
  params = ["film"]
  query  = "SELECT f.title, (SELECT count(*) FROM inventory i WHERE i.film_id = f.film_id AND i.store_id = 1) AS copies, (SELECT max(i.inventory_id) FROM inventory i WHERE i.film_id = f.film_id AND i.store_id = 2) AS latest FROM film f WHERE f.film_id = @film"
  all    = "SELECT film_id FROM film"
}
viewlet "categories_whole" {
  query  = "SELECT c.name, count(fc.*) AS n FROM category c LEFT JOIN film_category fc USING (category_id) GROUP BY c.category_id, c.name ORDER BY 1, 2"
  rows   = true
}
viewlet "films_by_initial" {
  params = ["initial"]
  query  = "SELECT f.film_id, l.name AS language FROM film f JOIN language l USING (language_id) WHERE lower(left(f.title, 2)) = @initial ORDER BY f.film_id"
  all    = "SELECT DISTINCT lower(left(title, 2)) FROM film"
  rows   = true
}
viewlet "films_by_feature" {
  params = ["feature"]
  query  = "SELECT film_id FROM film WHERE @feature = ANY(special_features) AND length < 60 ORDER BY film_id"
  all    = "SELECT DISTINCT unnest(special_features) FROM film WHERE length < 60"
  rows   = true
}
viewlet "rentals_of_day" {
  params = ["day"]
  query  = "SELECT count(*) AS n, max(c.email) AS last FROM rental r JOIN customer c USING (customer_id) WHERE lower(r.rental_period)::date = @day GROUP BY lower(r.rental_period)::date"
  all    = "SELECT DISTINCT lower(rental_period)::date FROM rental"
}
viewlet "customer_by_mail" {
  params = ["mail"]
  query  = "SELECT a.phone, c.active FROM customer c LEFT JOIN address a USING (address_id) WHERE lower(c.email) = @mail ORDER BY c.customer_id"
  all    = "SELECT DISTINCT lower(email) FROM customer"
  rows   = true
}
viewlet "staff_whole_row" {
  params = ["username"]
  query  = "SELECT to_json(s) AS who, st.store_id FROM staff s LEFT JOIN store st ON st.manager_staff_id = s.staff_id WHERE s.username = @username ORDER BY st.store_id, s.staff_id"
  all    = "SELECT username FROM staff"
  rows   = true
}
`

// The sample shop's own viewlets, whose rules are written by hand otherwise.
func TestDerivedShop(t *testing.T) {
	t.Parallel()
	files, schema := shopFiles(t)
	files["rules/rules.hcl"], _, _ = strings.Cut(files["rules/rules.hcl"], "\ntable ")
	truth := map[string]string{}
	for name, content := range files {
		truth[strings.Replace(name, "rules/", "truth/", 1)] = content
	}
	files["rules/rules.hcl"] = withoutAll(files["rules/rules.hcl"])
	follow(t, newSite(t, startPostgres(t), schema, files), truth)
}

func TestDerivedPagila(t *testing.T) {
	t.Parallel()
	s := pagilaSite(t)
	writeFiles(t, s.dir, map[string]string{"rules/pagila.hcl": withoutAll(derivedPagila)})
	follow(t, s, map[string]string{"truth/pagila.hcl": derivedPagila})
}

// withoutAll leaves out what names the instances of viewlets.
func withoutAll(viewlets string) string {
	return regexp.MustCompile(`(?m)^  all +=.*\n`).ReplaceAllString(viewlets, "")
}

// follow runs random transactions over the tables of a site whose rules are all
// derived, and compares Redis with the truth at quiet points in between.
func follow(t *testing.T, s *site, truth map[string]string) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	p := s.run(t, "--http", "127.0.0.1:0")
	metrics := urlOf(t, p) + "/metrics"
	writeFiles(t, s.dir, truth)
	o := newOracle(t, s.db, filepath.Join(s.dir, "truth"))
	was := o.agree(t, s.redis)
	rendered := total(t, metrics, "cdc_viewlet_renders_total")
	changed := 0
	m := newMutator(t, s.db)
	const between = 100
	for round := range max(1, *derivedTransactions/between) {
		write(t, t.Context(), s.db, seed+uint64(round), 1, between, []func(*rand.Rand) string{m.statement})
		quiet(t, s.db)
		is := o.agree(t, s.redis)
		changed += differences(was, is)
		was = is
	}
	renders := total(t, metrics, "cdc_viewlet_renders_total") - rendered
	t.Logf("%d transactions changed %d fragments and rendered %.0f: %.0f %% of the renders were of use",
		*derivedTransactions, changed, renders, 100*float64(changed)/max(1, renders))
	if changed == 0 {
		t.Error("nothing was tried")
	}
	p.stop(t)
}

// differences counts the fragments that are not the same.
func differences(was, is map[string]string) (n int) {
	for key, body := range is {
		if old, ok := was[key]; !ok || old != body {
			n++
		}
	}
	for key := range was {
		if _, ok := is[key]; !ok {
			n++
		}
	}
	return n
}

// total adds up a metric over its labels.
func total(t *testing.T, url, name string) (sum float64) {
	t.Helper()
	_, text := get(t, url)
	for line := range strings.Lines(text) {
		var value float64
		if rest, ok := strings.CutPrefix(line, name+"{"); ok {
			if _, err := fmt.Sscan(rest[strings.LastIndexByte(rest, ' '):], &value); err != nil {
				t.Fatal(err)
			}
			sum += value
		}
	}
	return sum
}
