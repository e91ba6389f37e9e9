package replication

import (
	"time"

	"golang.org/x/sys/unix"
)

// gathers says that the socket's options have the effects that gather wants.
const gathers = true

// roundTrip is the shortest that a TCP connection has seen; zero before Linux 4.6.
//
// https://man7.org/linux/man-pages/man7/tcp.7.html (TCP_INFO)
func roundTrip(fd uintptr) (time.Duration, error) {
	info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil {
		return 0, err
	}
	return time.Duration(info.Min_rtt) * time.Microsecond, nil
}

// unread is how many bytes have come and are not read.
func unread(fd uintptr) (int, error) {
	n, err := unix.IoctlGetUint32(int(fd), unix.SIOCINQ)
	return int(n), err
}

func setLowMark(fd uintptr, bytes int) error {
	return unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVLOWAT, bytes)
}

func setReceiveBuffer(fd uintptr, bytes int) error {
	return unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, bytes)
}

// limitSegment is for a socket that is not connected yet.
func limitSegment(fd uintptr) error {
	return unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_MAXSEG, maxSegment)
}
