package cache

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"strconv"

	"github.com/redis/go-redis/v9"

	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

// Announcement is the message of a fragment that changed.
type Announcement struct {
	Viewlet string      `json:"viewlet"`
	Args    []string    `json:"args"` // decoded; empty, not nil, for none
	Key     string      `json:"key"`  // the Redis key
	Deleted bool        `json:"deleted"`
	LSN     viewlet.LSN `json:"lsn"`
}

// appendAnnouncement appends the JSON that an Announcement of f has. It is
// made for every fragment stored, so what is common has a short way.
func appendAnnouncement(dst []byte, f *viewlet.Fragment, key string) ([]byte, error) {
	var few [4]string // as many as fit need no memory
	args, err := f.Key.Split(few[:0])
	if err != nil {
		return nil, fmt.Errorf("announce fragment: %w", err)
	}
	dst = append(dst, `{"viewlet":`...)
	dst = appendJSON(dst, f.Key.Viewlet)
	dst = append(dst, `,"args":[`...)
	for i, arg := range args {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendJSON(dst, arg)
	}
	dst = append(dst, `],"key":`...)
	dst = appendJSON(dst, key)
	dst = append(dst, `,"deleted":`...)
	dst = strconv.AppendBool(dst, f.Body == nil)
	dst = append(dst, `,"lsn":"`...)
	dst = f.LSN.Append(dst)
	return append(dst, `"}`...), nil
}

// appendJSON appends s as a JSON string.
func appendJSON(dst []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c >= 0x7f || c == '"' || c == '\\' {
			var buf bytes.Buffer
			enc := json.NewEncoder(&buf)
			enc.SetEscapeHTML(false)
			_ = enc.Encode(s) // a string always encodes
			return append(dst, bytes.TrimSuffix(buf.Bytes(), []byte("\n"))...)
		}
	}
	return append(append(append(dst, '"'), s...), '"')
}

// Subscribe returns when Redis tells us of every change from now on; the
// sequence, for one range loop, gives them until ctx ends. As with all of
// Redis's publishing, what happens while a connection is lost is not told,
// and whoever takes a minute for one loses more.
func (c *Cache) Subscribe(ctx context.Context) (iter.Seq[Announcement], error) {
	sub := c.rdb.Subscribe(ctx, c.names.channel())
	err := c.exchange(ctx, func(ctx context.Context) error {
		_, err := sub.Receive(ctx)
		return err
	})
	if err != nil {
		_ = sub.Close()
		return nil, fmt.Errorf("subscribe to %s: %w", c.names.channel(), err)
	}
	stop := context.AfterFunc(ctx, func() { _ = sub.Close() })
	messages := sub.Channel(redis.WithChannelSize(1000))
	return func(yield func(Announcement) bool) {
		defer sub.Close()
		defer stop()
		for m := range messages {
			var a Announcement
			if json.Unmarshal([]byte(m.Payload), &a) != nil {
				continue // somebody else's
			}
			if ctx.Err() != nil || !yield(a) {
				return
			}
		}
	}, nil
}
