package main

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/pprof"
	"time"
)

// profiled is the server of --pprof; nil where there is to be none. A profile
// shows what no stranger is to see, so only this machine is served.
func (a *app) profiled(ctx context.Context, addr string) (func(context.Context) error, error) {
	if addr == "" {
		return nil, nil
	}
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, usagef("--pprof %s: %v; write an address of this machine, such as 127.0.0.1:6060", addr, err)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return nil, usagef("--pprof %s: others could reach it; write an address of this machine, such as 127.0.0.1:6060", addr)
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, usagef("--pprof %s: %v; write an address that is free, such as 127.0.0.1:6060", addr, err)
	}
	a.log.Info("serving profiles", "url", "http://"+listener.Addr().String()+"/debug/pprof/")
	return func(ctx context.Context) error { return serveProfiles(ctx, listener) }, nil
}

// serveProfiles serves until ctx ends.
//
// https://pkg.go.dev/net/http/pprof
func serveProfiles(ctx context.Context, listener net.Listener) error {
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	defer context.AfterFunc(ctx, func() { _ = server.Close() })()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
