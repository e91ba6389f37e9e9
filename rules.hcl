# The sample shop's rules. `cdc-viewlet run` reads the rules.hcl of the folder
# that it is started in; this one goes with shop.sql and templates/.
#
# There is no postgres and no redis block here, so DATABASE_URL and REDIS_URL
# serve. Written out they would be:
#
#   postgres {
#     url = env("DATABASE_URL") # a role with REPLICATION, straight to Postgres
#   }
#   redis {
#     url = env("REDIS_URL")
#   }
#
# Three kinds of block follow:
#
#   viewlet  a fragment: one SELECT, and a template that shows its rows
#   table    what a change of one row makes stale
#   lookup   a SELECT that finds the fragments which a changed row is shown in
#
# The rule of thumb: for every column that a query reads, ask which table block
# fires when it changes. `when` leaves out the changes that cannot be seen.


# ---------------------------------------------------------------- viewlets ----

# A card, for grids and search results. In Redis: viewlet:product_teaser:42
viewlet "product_teaser" {
  params   = ["id"]
  query    = <<-SQL
    SELECT p.name, p.price, p.attributes->>'colour' AS colour,
           c.name AS category, b.name AS brand,
           r.rating, r.stars, r.reviews,
           p.stock = 0 AS sold_out,
           CASE WHEN p.stock BETWEEN 1 AND 5 THEN p.stock END AS last_few
    FROM products p
    JOIN categories c ON c.id = p.category_id
    LEFT JOIN brands b ON b.id = p.brand_id
    CROSS JOIN LATERAL (
      SELECT count(*) AS reviews, round(avg(rating), 1) AS rating,
             rpad(repeat('★', round(avg(rating))::int), 5, '☆') AS stars
      FROM reviews WHERE product_id = p.id
    ) r
    WHERE p.id = @id
  SQL
  template = "templates/product_teaser.html"
  all      = "SELECT id FROM products"         # names every instance, for the first start
}

# The same product at length. Its query has five rows, one for each number of
# stars: the template takes the product from the first, and ranges over `rows`
# for the bars. `attributes` (jsonb) is a map there, `tags` (text[]) a list.
viewlet "product_page" {
  params   = ["id"]
  query    = <<-SQL
    SELECT p.name, p.price, p.stock, p.stock = 0 AS sold_out,
           p.attributes, p.tags, p.attributes->>'colour' AS colour,
           c.id AS category_id, c.name AS category,
           d.id AS department_id, d.name AS department, b.name AS brand,
           r.rating, r.stars, r.reviews,
           score, (SELECT count(*) FROM reviews WHERE product_id = p.id AND rating = score) AS votes
    FROM products p
    JOIN categories c ON c.id = p.category_id
    LEFT JOIN categories d ON d.id = c.parent_id
    LEFT JOIN brands b ON b.id = p.brand_id
    CROSS JOIN LATERAL (
      SELECT count(*) AS reviews, round(avg(rating), 1) AS rating,
             rpad(repeat('★', round(avg(rating))::int), 5, '☆') AS stars
      FROM reviews WHERE product_id = p.id
    ) r
    CROSS JOIN generate_series(5, 1, -1) AS score
    WHERE p.id = @id
    ORDER BY score DESC
  SQL
  template = "templates/product_page.html"
  all      = "SELECT id FROM products"
}

# And once more for programs: no template, so the row becomes a JSON object.
viewlet "product_json" {
  params = ["id"]
  query  = <<-SQL
    SELECT p.*, c.name AS category, b.name AS brand
    FROM products p
    JOIN categories c ON c.id = p.category_id
    LEFT JOIN brands b ON b.id = p.brand_id
    WHERE p.id = @id
  SQL
  all    = "SELECT id FROM products"
}

# The left join keeps one row for a product that nobody has reviewed, so that
# its fragment says so. A query without any row would delete the fragment.
viewlet "latest_reviews" {
  params   = ["product_id"]
  query    = <<-SQL
    SELECT r.author, r.rating, rpad(repeat('★', r.rating), 5, '☆') AS stars, r.body,
           to_char(r.created_at AT TIME ZONE 'UTC', 'FMDD Month YYYY') AS written
    FROM products p
    LEFT JOIN reviews r ON r.product_id = p.id
    WHERE p.id = @product_id
    ORDER BY r.created_at DESC, r.id DESC
    LIMIT 5
  SQL
  template = "templates/latest_reviews.html"
  all      = "SELECT id FROM products"
}

# A department lists what stands in its categories, too.
viewlet "category_list" {
  params   = ["id"]
  query    = <<-SQL
    SELECT c.name AS category, p.id AS product_id, p.name, p.price,
           p.attributes->>'colour' AS colour, p.stock = 0 AS sold_out,
           count(p.id) OVER () AS products
    FROM categories c
    LEFT JOIN categories s ON s.id = c.id OR s.parent_id = c.id
    LEFT JOIN products p ON p.category_id = s.id
    WHERE c.id = @id
    ORDER BY p.name, p.id
    LIMIT 30
  SQL
  template = "templates/category_list.html"
  all      = "SELECT id FROM categories"
}

viewlet "brand_badge" {
  params   = ["id"]
  query    = <<-SQL
    SELECT b.name, b.country, (SELECT count(*) FROM products WHERE brand_id = b.id) AS products
    FROM brands b
    WHERE b.id = @id
  SQL
  template = "templates/brand_badge.html"
  all      = "SELECT id FROM brands"
}

# No params, so there is one of it: viewlet:category_menu. `categories` is JSON
# made in SQL, and a list of maps in the template.
viewlet "category_menu" {
  query    = <<-SQL
    SELECT d.id, d.name,
           (SELECT json_agg(json_build_object('id', c.id, 'name', c.name, 'products',
                              (SELECT count(*) FROM products WHERE category_id = c.id))
                            ORDER BY c.position, c.id)
            FROM categories c WHERE c.parent_id = d.id) AS categories
    FROM categories d
    WHERE d.parent_id IS NULL
    ORDER BY d.position, d.id
  SQL
  template = "templates/category_menu.html"
  empty    = "render"                          # a shop without categories has an empty menu, not none
}

viewlet "new_arrivals" {
  query    = "SELECT id, name FROM products ORDER BY id DESC LIMIT 8"
  template = "templates/new_arrivals.html"
  empty    = "render"
}

# Which products the home page shows, best first, as a JSON array. It is
# rewritten only when the ranking moves, however much is sold.
viewlet "bestsellers" {
  query = "SELECT id FROM products ORDER BY sold DESC, id LIMIT 12"
  rows  = true
  empty = "render"
}

# Plain text (text/template): what the stock room should order.
viewlet "stock_txt" {
  query    = "SELECT id, name, stock FROM products WHERE stock <= 3 ORDER BY stock, id LIMIT 25"
  template = "templates/stock.txt"
  empty    = "render"
}


# ---------------------------------------------------------------- products ----
#
# The hottest table, so it has a block for each thing that can be seen to change.
# A bare column stands for the old row's value and the new row's: a product that
# moves refreshes the list that it leaves and the one that it enters.
# changed() is true of every insert and delete.

table "products" {
  when    = changed()                          # an UPDATE that changes nothing shows nothing
  refresh = product_json(id)
}

table "products" {
  when    = changed("id", "name", "price", "stock", "category_id", "brand_id", "attributes", "tags")
  refresh = product_page(id)
}

table "products" {
  when    = changed("id", "name", "price", "category_id", "brand_id", "attributes")
  refresh = product_teaser(id)
}

# A teaser tells of stock only when little is left: from 40 to 39 it stays as it is.
table "products" {
  on      = ["update"]
  when    = changed("stock") && (old.stock <= 5 || new.stock <= 5)
  refresh = product_teaser(id)
}

table "products" {
  when    = changed("id", "name", "price", "category_id", "attributes")
  refresh = category_list(lists_with(category_id))
}

# A list tells of stock only whether there is any.
table "products" {
  on      = ["update"]
  when    = (old.stock == 0) != (new.stock == 0)
  refresh = category_list(lists_with(category_id))
}

table "products" {
  when    = changed("category_id")             # the menu counts
  refresh = category_menu()
}

table "products" {
  when    = changed("brand_id")                # so does the badge; a NULL brand has none
  refresh = brand_badge(brand_id)
}

table "products" {
  when    = changed("id", "name")
  refresh = new_arrivals()
}

table "products" {
  when    = changed("id", "sold")
  refresh = bestsellers()
}

table "products" {
  when    = changed("id")                      # comes or goes
  refresh = latest_reviews(id)
}

# On the list before the change, or on it after: two blocks, one for each row.
table "products" {
  on      = ["insert", "update"]
  when    = new.stock <= 3 && changed("id", "name", "stock")
  refresh = stock_txt()
}

table "products" {
  on      = ["update", "delete"]
  when    = old.stock <= 3 && changed("id", "name", "stock")
  refresh = stock_txt()
}


# ----------------------------------------------------------------- reviews ----

table "reviews" {
  when    = changed()
  refresh = latest_reviews(product_id)
}

table "reviews" {
  when    = changed("product_id", "rating")    # the average and the bars; the words do not matter here
  refresh = [product_teaser(product_id), product_page(product_id)]
}


# -------------------------------------------------------------- categories ----

table "categories" {
  when    = changed("id", "name", "parent_id", "position")
  refresh = category_menu()
}

table "categories" {
  when    = changed("id", "name")
  refresh = category_list(id)
}

# One row changed, and a hundred fragments are stale: lookups find them. New
# categories have no products yet, and old ones none any more: hence `on`.
table "categories" {
  on   = ["update"]
  when = changed("name")
  refresh = [
    product_teaser(products_in(id)),
    product_json(products_in(id)),
    product_page(products_under(id)),          # its breadcrumbs name the department, too
  ]
}

# A category that moves takes its products from one department to another.
table "categories" {
  on      = ["update", "delete"]
  when    = changed("id", "parent_id")
  refresh = [category_list(id), category_list(parent_id), product_page(products_in(id))]
}


# ------------------------------------------------------------------ brands ----

table "brands" {
  when    = changed("id", "name", "country")
  refresh = brand_badge(id)
}

table "brands" {
  on      = ["update"]
  when    = changed("name")
  refresh = [product_teaser(products_of(id)), product_page(products_of(id)), product_json(products_of(id))]
}


# ----------------------------------------------------------------- lookups ----

lookup "products_in" {
  params = ["category_id"]
  query  = "SELECT id FROM products WHERE category_id = @category_id"
}

lookup "products_under" {
  params = ["category_id"]
  query  = <<-SQL
    SELECT p.id FROM products p JOIN categories c ON c.id = p.category_id
    WHERE c.id = @category_id OR c.parent_id = @category_id
  SQL
}

lookup "products_of" {
  params = ["brand_id"]
  query  = "SELECT id FROM products WHERE brand_id = @brand_id"
}

# The lists that show what stands in a category: its own and its department's.
lookup "lists_with" {
  params = ["category_id"]
  query  = <<-SQL
    SELECT id FROM categories WHERE id = @category_id
    UNION
    SELECT parent_id FROM categories WHERE id = @category_id AND parent_id IS NOT NULL
  SQL
}
