// Decodes frames whose pixels a C library holds. To Go each is an object of a
// few dozen bytes; when the collector finds it unreachable, a finalizer or a
// cleanup frees the pixels. The collector has no reason to look.
//
//	go build -o frames .
//	./frames                                                              3 GB
//	GOMEMLIMIT=64MiB ./frames                                             3 GB
//	heapledger run --soft-limit 256MiB --on-pressure trim -- ./frames     about what was asked for
//
// Go calls C on several threads, and glibc keeps what each has freed: hence
// the action trim.
package main

/*
#cgo CFLAGS: -O2 -Wall -Wextra
#include "decoder.h"
*/
import "C"

import (
	"flag"
	"fmt"
	"log"
	"runtime"

	"github.com/heapledger/heapledger/bindings/go/heapledger"
)

// Frames that are shown one after the other: so many are in use at once.
const inUse = 8

type frame struct {
	number int
	pixels *C.uint8_t
}

func decode(number int, withCleanup bool) *frame {
	pixels := C.frame_decode(C.uint32_t(number))
	if pixels == nil {
		log.Fatalf("frame %d: out of memory", number)
	}
	decoded := &frame{number, pixels}
	if withCleanup {
		runtime.AddCleanup(decoded, func(pixels *C.uint8_t) { C.frame_free(pixels) }, pixels)
	} else {
		runtime.SetFinalizer(decoded, func(frame *frame) { C.frame_free(frame.pixels) })
	}
	return decoded
}

func (frame *frame) checksum() uint32 {
	sum := uint32(C.frame_checksum(frame.pixels))
	// Or the frame may be found unreachable while C reads its pixels.
	runtime.KeepAlive(frame)
	return sum
}

func main() {
	log.SetFlags(0)
	frames := flag.Int("frames", 1000, "how many to decode")
	withCleanup := flag.Bool("cleanup", false, "free with runtime.AddCleanup in place of runtime.SetFinalizer")
	flag.Parse()

	cleanups, err := heapledger.Start()
	if err != nil {
		log.Print(err)
	}
	defer cleanups.Stop()

	var shown [inUse]*frame
	var sum uint32
	for number := range *frames {
		place := &shown[number%inUse]
		if *place != nil {
			sum = sum*31 + (*place).checksum()
		}
		*place = decode(number, *withCleanup)
	}
	fmt.Printf("%d frames, checksum %08x\n", *frames, sum)
}
