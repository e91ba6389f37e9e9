//go:build !linux

package replication

import (
	"errors"
	"time"
)

const gathers = false

func roundTrip(uintptr) (time.Duration, error) { return 0, errors.ErrUnsupported }
func unread(uintptr) (int, error)              { return 0, errors.ErrUnsupported }
func setLowMark(uintptr, int) error            { return errors.ErrUnsupported }
func setReceiveBuffer(uintptr, int) error      { return errors.ErrUnsupported }
func limitSegment(uintptr) error               { return nil }
