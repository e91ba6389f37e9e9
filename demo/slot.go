package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"html/template"
	"net/http"

	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

// slot is a place on a page that one fragment fills.
type slot struct {
	Key    viewlet.Key
	HTML   template.HTML // a fragment that html/template made
	Text   string        // any other fragment, still to be escaped
	Slots  []slot        // what a fragment that is a list of ids stands for
	Note   string        // why the slot is empty
	status int
}

// fill reads the fragment. A fragment that is not there, or a Redis that does
// not answer, leaves a slot with a note.
func (s *Storefront) fill(ctx context.Context, k viewlet.Key) slot {
	body, ok, err := s.fragments.Get(ctx, k)
	switch {
	case err != nil:
		s.log.Warn("storefront cannot read fragment", "key", k, "err", err)
		return slot{Key: k, Note: "Redis does not answer.", status: http.StatusServiceUnavailable}
	case !ok:
		return slot{Key: k, Note: "Not in Redis: nothing to show, or not rendered yet.", status: http.StatusNotFound}
	}
	filled := slot{Key: k, status: http.StatusOK}
	switch k.Viewlet {
	case "product_teaser", "product_page", "latest_reviews", "category_list", "brand_badge", "category_menu", "new_arrivals":
		filled.HTML = template.HTML(body)
	case "bestsellers":
		for _, id := range idsIn(body) {
			filled.Slots = append(filled.Slots, s.fill(ctx, viewlet.NewKey("product_teaser", id)))
		}
	default:
		filled.Text = string(body)
	}
	return filled
}

// idsIn reads [{"id": 42}, ...]. What is no such thing has no ids.
func idsIn(body []byte) []string {
	var rows []struct{ ID json.Number }
	if json.Unmarshal(body, &rows) != nil {
		return nil
	}
	ids := make([]string, 0, len(rows))
	for _, row := range rows {
		ids = append(ids, row.ID.String())
	}
	return ids
}

// brandIn reads a product's brand from its JSON fragment; one without a brand
// has none.
func (s *Storefront) brandIn(ctx context.Context, k viewlet.Key) (id string, ok bool) {
	body, ok, err := s.fragments.Get(ctx, k)
	if err != nil || !ok {
		return "", false // fill says it
	}
	var product struct {
		Brand *json.Number `json:"brand_id"`
	}
	decoder := json.NewDecoder(bytes.NewReader(body))
	if decoder.Decode(&product) != nil || product.Brand == nil {
		return "", false
	}
	return product.Brand.String(), true
}
