//go:build cgo && linux

// Package standin stands in for the ledger in tests: programs that link it find
// a ledger that they drive themselves.
package standin

/*
#cgo CFLAGS: -Wall -Wextra
#cgo LDFLAGS: -pthread
#include "standin.h"
*/
import "C"

import "time"

// A Claim is what one reclaimer said in a clean-up.
type Claim struct {
	Name  string
	Bytes int64
}

// SetAbsent has the ledger kept, or not.
func SetAbsent(absent bool) {
	if absent {
		C.standin_set_absent(1)
	} else {
		C.standin_set_absent(0)
	}
}

// SetLevel announces a level.
func SetLevel(level uint32) { C.standin_set_level(C.uint32_t(level)) }

// AskedBytes is what a clean-up was last wished of.
func AskedBytes() uint64 { return uint64(C.standin_asked_bytes()) }

// Registered counts reclaimers.
func Registered() int { return int(C.standin_registered()) }

// Cleanup calls all reclaimers in their order, and returns what they claim.
func Cleanup(number uint32, targetBytes int64, within time.Duration) []Claim {
	var read C.struct_standin_claims
	C.standin_cleanup(C.uint32_t(number), C.int64_t(targetBytes), C.int64_t(within), &read)
	var claims []Claim
	for i := 0; i < int(read.count); i++ {
		claims = append(claims, Claim{C.GoString(read.names[i]), int64(read.claimed_bytes[i])})
	}
	return claims
}

// CleanupInChild does so in a forked child, and returns how many were called.
func CleanupInChild() int { return int(C.standin_cleanup_in_child()) }
