//go:build cgo && linux

package standin_test

import (
	"errors"
	"os"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/heapledger/heapledger/bindings/go/heapledger"
	"github.com/heapledger/heapledger/bindings/go/heapledger/internal/standin"
)

// No clean-up here takes longer, unless it hangs.
const patience = time.Minute

func start(t *testing.T, options ...heapledger.Option) *heapledger.Pressure {
	t.Helper()
	pressure, err := heapledger.Start(options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pressure.Stop)
	return pressure
}

// What a function claims that cannot tell, or has not answered.
const unknown = -1

func expect(t *testing.T, claims []standin.Claim, expected ...standin.Claim) {
	t.Helper()
	if !reflect.DeepEqual(claims, expected) {
		t.Fatalf("claimed %v, not %v", claims, expected)
	}
}

func await(t *testing.T, happened <-chan struct{}) {
	t.Helper()
	select {
	case <-happened:
	case <-time.After(patience):
		t.Fatal("did not happen")
	}
}

// Waits for what goroutines do after a channel could tell of it.
func becomes(t *testing.T, expected int, read func() int) {
	t.Helper()
	for until := time.Now().Add(patience); read() != expected; runtime.Gosched() {
		if time.Now().After(until) {
			t.Fatalf("is %d, not %d", read(), expected)
		}
	}
}

type handle struct {
	pixels [4]byte
	next   *handle
}

//go:noinline
func drop(finalized chan<- struct{}) {
	runtime.SetFinalizer(&handle{next: new(handle)}, func(*handle) { close(finalized) })
}

func TestFunctionsRunFirstThenTheCollector(t *testing.T) {
	finalized := make(chan struct{})
	start(t, heapledger.Reclaimer("frames", func(heapledger.Request) int64 {
		drop(finalized)
		return 42
	}))
	claims := standin.Cleanup(1, 0, patience)
	expect(t, claims, standin.Claim{Name: "frames", Bytes: 42}, standin.Claim{Name: "go", Bytes: unknown})
	await(t, finalized)
}

func TestWithoutGCTheCollectorIsLeftAlone(t *testing.T) {
	start(t, heapledger.WithoutGC(), heapledger.Reclaimer("frames", func(heapledger.Request) int64 { return 1 }))
	expect(t, standin.Cleanup(1, 0, 0), standin.Claim{Name: "frames", Bytes: 1})
}

func TestGoCollectsOnceHoweverManyStart(t *testing.T) {
	first, second := start(t), start(t)
	expect(t, standin.Cleanup(1, 0, patience), standin.Claim{Name: "go", Bytes: unknown})
	first.Stop()
	first.Stop()
	expect(t, standin.Cleanup(2, 0, patience), standin.Claim{Name: "go", Bytes: unknown})
	second.Stop()
	expect(t, standin.Cleanup(3, 0, patience))
}

func TestARequestSaysWhatIsAsked(t *testing.T) {
	requests := make(chan heapledger.Request, 1)
	start(t, heapledger.WithoutGC(), heapledger.Reclaimer("frames", func(request heapledger.Request) int64 {
		requests <- request
		return 0
	}))
	standin.Cleanup(7, 1<<40, 0)
	expected := heapledger.Request{Number: 7, Level: heapledger.High, TargetBytes: 1 << 40}
	if request := <-requests; request != expected {
		t.Errorf("%+v, not %+v", request, expected)
	}
	before := time.Now()
	standin.Cleanup(8, 0, patience)
	after := time.Now()
	deadline := (<-requests).Deadline
	if deadline.Before(before.Add(patience-time.Second)) || deadline.After(after.Add(patience)) {
		t.Errorf("deadline %v, asked from %v to %v", deadline, before, after)
	}
}

func TestAFunctionThatOutlastsItsDeadlineIsLeftAloneUntilItReturns(t *testing.T) {
	var calls atomic.Int32
	goOn := make(chan struct{})
	start(t, heapledger.WithoutGC(), heapledger.Reclaimer("slow", func(heapledger.Request) int64 {
		calls.Add(1)
		<-goOn
		return 42
	}))
	expect(t, standin.Cleanup(1, 0, time.Millisecond), standin.Claim{Name: "slow", Bytes: unknown})
	becomes(t, 1, func() int { return int(calls.Load()) })
	expect(t, standin.Cleanup(2, 0, patience), standin.Claim{Name: "slow", Bytes: unknown})
	if calls.Load() != 1 {
		t.Errorf("%d calls at once", calls.Load())
	}
	close(goOn)
	becomes(t, 42, func() int { return int(standin.Cleanup(3, 0, patience)[0].Bytes) })
}

func TestAFunctionMayUnregisterItself(t *testing.T) {
	var own *heapledger.Registration
	own, err := heapledger.Register("once", heapledger.Cache, func(heapledger.Request) int64 {
		own.Unregister()
		return 42
	})
	if err != nil {
		t.Fatal(err)
	}
	// What waits for the function is let go first, and then the ledger told.
	expect(t, standin.Cleanup(1, 0, patience), standin.Claim{Name: "once", Bytes: unknown})
	becomes(t, 0, standin.Registered)
	expect(t, standin.Cleanup(2, 0, patience))
}

func TestStopDoesNotWaitForAFunction(t *testing.T) {
	begun, goOn, ended := make(chan struct{}), make(chan struct{}), make(chan struct{})
	pressure := start(t, heapledger.WithoutGC(), heapledger.Reclaimer("long", func(heapledger.Request) int64 {
		close(begun)
		<-goOn
		close(ended)
		return 42
	}))
	claims := make(chan []standin.Claim)
	go func() { claims <- standin.Cleanup(1, 0, 0) }()
	await(t, begun)
	pressure.Stop()
	pressure.Stop()
	said := <-claims
	close(goOn)
	await(t, ended)
	expect(t, said, standin.Claim{Name: "long", Bytes: unknown})
}

func TestAFunctionThatEndsItsGoroutineIsNotCalledAgain(t *testing.T) {
	start(t, heapledger.WithoutGC(), heapledger.Reclaimer("gone", func(heapledger.Request) int64 {
		runtime.Goexit()
		return 42
	}))
	expect(t, standin.Cleanup(1, 0, patience), standin.Claim{Name: "gone", Bytes: unknown})
	becomes(t, 0, standin.Registered)
}

func TestLevelsAreTold(t *testing.T) {
	levels := make(chan heapledger.Level)
	pressure := start(t, heapledger.OnLevel(func(level heapledger.Level) { levels <- level }))
	for _, level := range []heapledger.Level{heapledger.Moderate, heapledger.Critical, heapledger.Calm} {
		standin.SetLevel(uint32(level))
		if told := <-levels; told != level || heapledger.PressureLevel() != level {
			t.Errorf("%v and %v, not %v", told, heapledger.PressureLevel(), level)
		}
	}
	pressure.Stop()
}

func TestAForkedChildAsksNothingOfItsParent(t *testing.T) {
	var calls atomic.Int32
	start(t, heapledger.WithoutGC(), heapledger.Reclaimer("parent", func(heapledger.Request) int64 {
		calls.Add(1)
		return 42
	}))
	if called := standin.CleanupInChild(); called != 1 {
		t.Fatalf("%d were called in the child", called)
	}
	expect(t, standin.Cleanup(1, 0, patience), standin.Claim{Name: "parent", Bytes: 42})
	if calls.Load() != 1 {
		t.Errorf("called %d times, not once", calls.Load())
	}
}

func TestRegistrationsComeAndGoDuringCleanups(t *testing.T) {
	var group sync.WaitGroup
	var stopped atomic.Bool
	for i := 0; i < 4; i++ {
		group.Add(1)
		go func() {
			defer group.Done()
			for !stopped.Load() {
				registration, err := heapledger.Register("brief", heapledger.Host, func(heapledger.Request) int64 { return 1 })
				if err != nil {
					t.Error(err)
					return
				}
				registration.Unregister()
			}
		}()
	}
	for i := uint32(0); i < 50; i++ {
		standin.Cleanup(i, 0, patience)
	}
	stopped.Store(true)
	group.Wait()
	becomes(t, 0, standin.Registered)
}

func descriptors() int {
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return -1
	}
	return len(files)
}

// Counts goroutines of the package.
func serving() int {
	stacks := make([]byte, 1<<20)
	return strings.Count(string(stacks[:runtime.Stack(stacks, true)]), ").serve(")
}

func TestWhatStartTookStopGivesBack(t *testing.T) {
	// The first one opens Go's poller, which stays.
	start(t).Stop()
	becomes(t, 0, standin.Registered)
	becomes(t, 0, serving)
	before := descriptors()
	pressure := start(t, heapledger.OnLevel(func(heapledger.Level) {}))
	becomes(t, 2, serving)
	if now := descriptors(); now != before+2 {
		t.Errorf("%d descriptors, not %d", now, before+2)
	}
	pressure.Stop()
	becomes(t, before, descriptors)
	becomes(t, 0, serving)
}

func TestStartTakesNothingWhereTheLedgerIsFull(t *testing.T) {
	var held []*heapledger.Registration
	for i := 0; i < 64; i++ {
		registration, err := heapledger.Register("held", heapledger.Cache, func(heapledger.Request) int64 { return 0 })
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, registration)
	}
	pressure, err := heapledger.Start()
	if pressure != nil || err == nil || errors.Is(err, heapledger.ErrNoLedger) {
		t.Errorf("%v, %v", pressure, err)
	}
	for _, registration := range held {
		registration.Unregister()
	}
	if standin.Registered() != 0 {
		t.Errorf("%d stay registered", standin.Registered())
	}
}

func TestAPriorityThatIsNoneIsAnError(t *testing.T) {
	registration, err := heapledger.Register("late", heapledger.Allocator+1, func(heapledger.Request) int64 { return 0 })
	if registration != nil || err == nil {
		t.Errorf("%v, %v", registration, err)
	}
}

func TestWhereNoLedgerIsKeptNothingHappens(t *testing.T) {
	standin.SetAbsent(true)
	defer standin.SetAbsent(false)
	before := descriptors()
	pressure, err := heapledger.Start(heapledger.OnLevel(func(heapledger.Level) {}))
	if pressure != nil || !errors.Is(err, heapledger.ErrNoLedger) {
		t.Errorf("%v, %v", pressure, err)
	}
	pressure.Stop()
	if _, err := heapledger.Stats(); !errors.Is(err, heapledger.ErrNoLedger) {
		t.Error(err)
	}
	if err := heapledger.RequestCleanup(1); !errors.Is(err, heapledger.ErrNoLedger) {
		t.Error(err)
	}
	if standin.Registered() != 0 || descriptors() != before {
		t.Errorf("%d registered, %d descriptors, %d before", standin.Registered(), descriptors(), before)
	}
}

func TestStatsHaveBothSides(t *testing.T) {
	books, err := heapledger.Stats()
	if err != nil || !books.SeesC || books.SeesRust || books.C.LiveBytes != 7 || books.All.LiveBytes != 7 {
		t.Errorf("%+v, %v", books, err)
	}
	if books.GoLiveBytes == 0 {
		t.Error("Go lives on nothing")
	}
}

func TestACleanupCanBeWishedFor(t *testing.T) {
	if err := heapledger.RequestCleanup(1 << 40); err != nil || standin.AskedBytes() != 1<<40 {
		t.Errorf("%d bytes, %v", standin.AskedBytes(), err)
	}
}
