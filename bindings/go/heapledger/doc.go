// Package heapledger lets memory that a Go program holds in C drive Go's
// collector.
//
// Go's collector sees only what Go allocated. An object of a few dozen bytes
// that owns megabytes of C memory, and frees them in a finalizer or a cleanup,
// is nothing to it: it sees no reason to run, so nothing is freed. GOMEMLIMIT
// does not help, for it counts the memory of Go's runtime alone. heapledger
// counts what C holds, and where it is asked to keep the process below a limit
// it asks for a clean-up, which [Start] answers:
//
//	func main() {
//		if cleanups, err := heapledger.Start(); err == nil {
//			defer cleanups.Stop()
//		}
//		...
//	}
//
//	heapledger run --soft-limit 256MiB --on-pressure trim -- ./program
//
// (The action trim gives back what glibc keeps for each thread that called C.)
// In a clean-up the program's own functions run first ([Reclaimer], [Register]),
// then [runtime.GC]. Whoever drives clean-ups waits for both, and after that
// for what finalizers and cleanups free.
//
// # Without a ledger
//
// There is one where libheapledger.so is preloaded, as `heapledger run` does,
// or where the program links something that contains heapledger. Elsewhere
// [Start] does nothing but return [ErrNoLedger], and so does everything else
// here. Nothing is linked, printed or read from the environment.
//
// A program that is statically linked cannot be preloaded. That is every
// program that was built without cgo, and every one linked with
// -extldflags=-static. A program that calls C through cgo is dynamically
// linked unless it was built otherwise. Built without cgo, or elsewhere than
// on Linux, this package compiles and finds no ledger.
//
// # How it is called
//
// A clean-up is asked for by a thread that is not Go's. It never enters Go: it
// leaves the request in C memory, makes an eventfd readable, and waits. The
// goroutine that serves it is parked in Go's poller until then, and takes no
// thread. So Go's scheduler, its signals and its stacks are as they were.
package heapledger
