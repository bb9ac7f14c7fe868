//go:build cgo && linux

package heapledger

/*
#cgo CFLAGS: -Wall -Wextra
#cgo LDFLAGS: -pthread
#include <stdlib.h>
#include "mailbox.h"
*/
import "C"

import (
	"fmt"
	"os"
	"sync"
	"time"
	"unsafe"
)

// A Registration is a function that is called in clean-ups.
type Registration struct {
	box     *C.mailbox
	file    *os.File
	reclaim func(Request) int64
	once    sync.Once
	// Closed when the ledger will not call any more.
	unregistered chan struct{}
}

// Register has a function called in each clean-up, under a name that reports
// show, cut to 47 bytes. It returns the bytes that it believes it freed, or a
// negative number if it cannot tell; what it did free the ledger knows.
//
// The function is called on a goroutine of its own, never twice at a time. It
// may do what Go code may do, [Registration.Unregister] included. One that has
// not returned at its deadline is left alone until it has. A panic is not
// caught.
//
// It returns [ErrNoLedger] where no ledger is kept, and panics if reclaim is nil.
func Register(name string, priority Priority, reclaim func(Request) int64) (*Registration, error) {
	if reclaim == nil {
		panic("heapledger: Register of a nil function")
	}
	var books Books
	if !snapshot(&books) {
		return nil, ErrNoLedger
	}
	text := C.CString(name)
	defer C.free(unsafe.Pointer(text))
	box := C.mailbox_open(text, C.uint32_t(priority))
	if box == nil {
		return nil, fmt.Errorf("heapledger: cannot register %q: its priority is unknown, 64 are registered, or no descriptor is free", name)
	}
	registration := &Registration{
		box:          box,
		file:         os.NewFile(uintptr(C.mailbox_file(box)), "heapledger:"+name),
		reclaim:      reclaim,
		unregistered: make(chan struct{}),
	}
	go registration.serve()
	return registration, nil
}

// Unregister ends the calls. A call that is running may go on after it has
// returned. It may be called from inside one, and more than once.
func (registration *Registration) Unregister() {
	if registration == nil {
		return
	}
	registration.once.Do(func() {
		C.mailbox_close(registration.box)
		registration.file.Close() // ends serve's wait
		close(registration.unregistered)
	})
}

func (registration *Registration) serve() {
	defer registration.end()
	var count [8]byte
	for {
		if _, err := registration.file.Read(count[:]); err != nil {
			return // closed
		}
		var request C.struct_mailbox_request
		if C.mailbox_take(registration.box, &request) != 0 {
			registration.call(&request)
		}
	}
}

// The answer is given even if the function ends the goroutine.
func (registration *Registration) call(request *C.struct_mailbox_request) {
	claimed := unknown
	defer func() { C.mailbox_answer(registration.box, C.int64_t(claimed)) }()
	var deadline time.Time
	if request.remaining_ns != 0 {
		deadline = time.Now().Add(time.Duration(request.remaining_ns))
	}
	claimed = registration.reclaim(Request{
		Number:      uint32(request.number),
		Level:       Level(request.level),
		TargetBytes: int64(request.target_bytes),
		Deadline:    deadline,
	})
}

func (registration *Registration) end() {
	registration.Unregister()
	<-registration.unregistered
	C.mailbox_free(registration.box)
}

// A levelWatch tells levels that the ledger's eventfd announces.
type levelWatch struct {
	file *os.File
	once sync.Once
}

func watchLevels(tell func(Level)) (*levelWatch, error) {
	file := C.ledger_pressure_fd()
	if file < 0 {
		return nil, fmt.Errorf("heapledger: cannot watch the level: no descriptor is free, or too many watch already")
	}
	watch := &levelWatch{file: os.NewFile(uintptr(file), "heapledger:level")}
	go watch.serve(tell)
	return watch, nil
}

func (watch *levelWatch) serve(tell func(Level)) {
	var count [8]byte
	told := Calm
	for {
		if level := pressureLevel(); level != told {
			told = level
			tell(level)
		}
		if _, err := watch.file.Read(count[:]); err != nil {
			return // closed
		}
	}
}

func (watch *levelWatch) stop() {
	watch.once.Do(func() { watch.file.Close() })
}

func snapshot(books *Books) bool {
	var read C.struct_hl_books
	if C.ledger_snapshot(&read) != 0 {
		return false
	}
	books.SeesC, books.SeesRust = read.sees_c != 0, read.sees_rust != 0
	books.C, books.Rust, books.All = counts(&read.c), counts(&read.rust), counts(&read.all)
	return true
}

func counts(read *C.struct_hl_counts) Counts {
	return Counts{
		LiveBytes:       int64(read.live_bytes),
		LiveBlocks:      int64(read.live_blocks),
		AllocatedBytes:  uint64(read.allocated_bytes),
		AllocatedBlocks: uint64(read.allocated_blocks),
		FreedBytes:      uint64(read.freed_bytes),
		FreedBlocks:     uint64(read.freed_blocks),
		Reallocs:        uint64(read.reallocs),
		RequestedBytes:  uint64(read.requested_bytes),
		PeakLiveBytes:   int64(read.peak_live_bytes),
	}
}

func pressureLevel() Level {
	return Level(C.ledger_level())
}

func requestCleanup(targetBytes uint64) bool {
	return C.ledger_request_cleanup(C.uint64_t(targetBytes)) == 0
}
