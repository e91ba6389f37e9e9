package replication

import "syscall"

// marksWake says that the socket's low-water mark holds for whoever polls it.
const marksWake = true

func setMark(fd uintptr, bytes int) error {
	return syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVLOWAT, bytes)
}
