package main

import (
	"bytes"
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/cdc-viewlet/cdc-viewlet/viewlet"
)

func (a *app) renderCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "render NAME [ARGS...]",
		Short: "render one fragment to stdout, touching nothing",
		Long: `Renders one fragment as the daemon would, and prints the bytes that belong in
Redis. Redis is not asked, and nothing is written. Exit code 1 if the query has
no row, or the fragment cannot be rendered.`,
		Example: `  cdc-viewlet render product_teaser 42
  cdc-viewlet render category_menu`,
		Args:              namesViewlet,
		ValidArgsFunction: a.completeViewlet,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.render(cmd.Context(), args[0], args[1:])
		},
	}
}

func (a *app) render(ctx context.Context, name string, args []string) error {
	v, err := a.openViewlet(ctx, name)
	if err != nil {
		return err
	}
	defer v.db.Close()
	key, err := a.canonical(ctx, v.set, v.renderer, name, args)
	if err != nil {
		return err
	}
	fragments, err := v.renderer.Render(ctx, name, []viewlet.Key{key})
	if err != nil {
		return fmt.Errorf("render %s: %w", key, err)
	}
	f := fragments[0]
	switch {
	case f.Err != nil:
		return fmt.Errorf("render %s: %w", key, f.Err)
	case f.Body == nil:
		return fmt.Errorf("render %s: its query has no row, so there is no such fragment", key)
	}
	if _, err = a.stdout.Write(f.Body); err == nil && a.watched() && !bytes.HasSuffix(f.Body, []byte("\n")) {
		_, err = io.WriteString(a.stdout, "\n") // for the eyes: the prompt stands on a line of its own
	}
	return err
}
