package heapledger

import (
	"errors"
	"fmt"
	"runtime"
	"runtime/metrics"
	"sync"
	"time"
)

// ErrNoLedger is returned where no ledger is kept in this process: heapledger
// is not preloaded, or the program was built without cgo.
var ErrNoLedger = errors.New("heapledger: no ledger is kept in this process (start it with `heapledger run`)")

// A Level tells how near memory is to its limits.
type Level uint32

// Calm is also the level where nobody watches.
const (
	Calm Level = iota
	Moderate
	High
	Critical
)

// String gives the level's name.
func (level Level) String() string {
	switch level {
	case Calm:
		return "calm"
	case Moderate:
		return "moderate"
	case High:
		return "high"
	case Critical:
		return "critical"
	}
	return fmt.Sprintf("Level(%d)", uint32(level))
}

// A Priority is a reclaimer's place in a clean-up.
type Priority uint32

const (
	// Cache is for what can be dropped at once. It comes first, so that the
	// collector then finds what was dropped.
	Cache Priority = iota
	// Host is for collectors, whose finalizers free. Go's own is among them.
	Host
	// Allocator is for what returns to the system what the others freed.
	Allocator
)

// A Request is what is asked of a reclaimer.
type Request struct {
	// Number is the clean-up's.
	Number uint32
	// Level tells how urgent it is.
	Level Level
	// TargetBytes should come free in all; 0 is as much as there is.
	TargetBytes int64
	// Deadline is when nobody waits any more for this reclaimer; the zero
	// Time where none was given.
	Deadline time.Time
}

// Counts is what one side allocated and freed. It is exact once nobody
// allocates; while others do it may miss what they book during the read.
type Counts struct {
	// LiveBytes are usable bytes of C's blocks, requested bytes of Rust's.
	LiveBytes       int64
	LiveBlocks      int64
	AllocatedBytes  uint64
	AllocatedBlocks uint64
	FreedBytes      uint64
	FreedBlocks     uint64
	Reallocs        uint64
	RequestedBytes  uint64
	// PeakLiveBytes lies within 64 KiB a thread of the truth.
	PeakLiveBytes int64
}

// Books is what both sides hold: C by the ledger, Go by its own runtime.
type Books struct {
	// GoLiveBytes is occupied by Go's objects, live or not yet swept.
	GoLiveBytes uint64
	// SeesC tells that the malloc family is booked. Where it is not, C is
	// unknown, not zero.
	SeesC bool
	// SeesRust tells that Rust code with heapledger's allocator runs in this
	// process.
	SeesRust bool
	// C, Rust and All (C and Rust together) are the ledger's.
	C, Rust, All Counts
}

// Stats returns the live bytes of both sides. With [ErrNoLedger] Go's are all
// that it knows. It reads the counters of all threads: it is for a look now
// and then, not for each allocation.
func Stats() (Books, error) {
	var books Books
	live := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(live)
	if live[0].Value.Kind() == metrics.KindUint64 {
		books.GoLiveBytes = live[0].Value.Uint64()
	}
	if !snapshot(&books) {
		return books, ErrNoLedger
	}
	return books, nil
}

// PressureLevel returns the level now.
func PressureLevel() Level {
	return pressureLevel()
}

// RequestCleanup wishes for a clean-up of so many bytes, 0 for as much as there
// is. It does not wait for it: whoever drives clean-ups decides.
func RequestCleanup(targetBytes uint64) error {
	if !requestCleanup(targetBytes) {
		return ErrNoLedger
	}
	return nil
}

// An Option changes what [Start] does.
type Option func(*settings)

type settings struct {
	reclaimers []namedReclaimer
	onLevel    func(Level)
	withoutGC  bool
}

type namedReclaimer struct {
	name    string
	reclaim func(Request) int64
}

// Reclaimer adds a function that frees before Go's collector runs, for instance
// by dropping what a cache holds. See [Register] for what it must keep to.
func Reclaimer(name string, reclaim func(Request) int64) Option {
	return func(settings *settings) {
		settings.reclaimers = append(settings.reclaimers, namedReclaimer{name, reclaim})
	}
}

// OnLevel has a function called with each new level, on a goroutine of its own.
// A level that passes while the function runs is skipped.
func OnLevel(tell func(Level)) Option {
	return func(settings *settings) { settings.onLevel = tell }
}

// WithoutGC leaves Go's collector alone, for programs whose finalizers free
// nothing in C.
func WithoutGC() Option {
	return func(settings *settings) { settings.withoutGC = true }
}

// A Pressure is what [Start] began.
type Pressure struct {
	registrations []*Registration
	levels        *levelWatch
	collects      bool
	once          sync.Once
}

// Start has clean-ups answered until [Pressure.Stop]: by the functions of
// [Reclaimer] first, then by [runtime.GC], which the ledger's reports show
// under the name "go". Once at the start of main is enough; packages may call
// it besides, and Go collects once in a clean-up all the same.
//
// It returns [ErrNoLedger], and has done nothing, where no ledger is kept; the
// *Pressure is then nil, which Stop accepts.
func Start(options ...Option) (*Pressure, error) {
	var settings settings
	for _, option := range options {
		option(&settings)
	}
	pressure := new(Pressure)
	if err := pressure.begin(&settings); err != nil {
		pressure.Stop()
		return nil, err
	}
	return pressure, nil
}

func (pressure *Pressure) begin(settings *settings) error {
	for _, reclaimer := range settings.reclaimers {
		registration, err := Register(reclaimer.name, Cache, reclaimer.reclaim)
		if err != nil {
			return err
		}
		pressure.registrations = append(pressure.registrations, registration)
	}
	if settings.onLevel != nil {
		levels, err := watchLevels(settings.onLevel)
		if err != nil {
			return err
		}
		pressure.levels = levels
	}
	if !settings.withoutGC {
		if err := collector.begin(); err != nil {
			return err
		}
		pressure.collects = true
	}
	return nil
}

// Stop ends what Start began. No function is called any more, but one that is
// running may go on after Stop has returned. It may be called from inside one,
// and more than once.
func (pressure *Pressure) Stop() {
	if pressure == nil {
		return
	}
	pressure.once.Do(func() {
		for _, registration := range pressure.registrations {
			registration.Unregister()
		}
		if pressure.levels != nil {
			pressure.levels.stop()
		}
		if pressure.collects {
			collector.end()
		}
	})
}

// Go's collector is registered as long as anybody who called Start wants it.
var collector sharedCollector

type sharedCollector struct {
	lock         sync.Mutex
	users        int
	registration *Registration
}

func (collector *sharedCollector) begin() error {
	collector.lock.Lock()
	defer collector.lock.Unlock()
	if collector.users == 0 {
		registration, err := Register("go", Host, collect)
		if err != nil {
			return err
		}
		collector.registration = registration
	}
	collector.users++
	return nil
}

func (collector *sharedCollector) end() {
	collector.lock.Lock()
	defer collector.lock.Unlock()
	collector.users--
	if collector.users == 0 {
		collector.registration.Unregister()
	}
}

// What its finalizers free in C the collector cannot know: the ledger
// measures.
func collect(Request) int64 {
	runtime.GC()
	return unknown
}

// What a reclaimer claims that cannot tell.
const unknown int64 = -1
