//go:build !cgo || !linux

package heapledger

// A Registration is a function that is called in clean-ups.
type Registration struct{}

// Register returns [ErrNoLedger]: this program has no ledger to ask.
func Register(name string, priority Priority, reclaim func(Request) int64) (*Registration, error) {
	return nil, ErrNoLedger
}

// Unregister does nothing.
func (registration *Registration) Unregister() {}

type levelWatch struct{}

func watchLevels(func(Level)) (*levelWatch, error) { return nil, ErrNoLedger }

func (*levelWatch) stop() {}

func snapshot(*Books) bool       { return false }
func pressureLevel() Level       { return Calm }
func requestCleanup(uint64) bool { return false }
