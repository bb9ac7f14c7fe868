package heapledger_test

import (
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/heapledger/heapledger/bindings/go/heapledger"
)

// Clean-ups with a ledger are tested in internal/standin, and under the real
// one by heapledger's own tests, which set this variable to "yes".
var hasLedger = os.Getenv("HEAPLEDGER_GO_TEST_LEDGER") == "yes"

func TestAllOfItSaysThatNoLedgerIsKept(t *testing.T) {
	if hasLedger {
		t.Skip("there is one")
	}
	pressure, err := heapledger.Start(heapledger.Reclaimer("none", func(heapledger.Request) int64 { return 0 }))
	if pressure != nil || !errors.Is(err, heapledger.ErrNoLedger) {
		t.Errorf("Start: %v, %v", pressure, err)
	}
	pressure.Stop()
	books, err := heapledger.Stats()
	if !errors.Is(err, heapledger.ErrNoLedger) || books.GoLiveBytes == 0 || books.SeesC {
		t.Errorf("Stats: %+v, %v", books, err)
	}
	if err := heapledger.RequestCleanup(0); !errors.Is(err, heapledger.ErrNoLedger) {
		t.Errorf("RequestCleanup: %v", err)
	}
	if level := heapledger.PressureLevel(); level != heapledger.Calm {
		t.Errorf("PressureLevel: %v", level)
	}
}

func TestARealLedgerIsFound(t *testing.T) {
	if !hasLedger {
		t.Skip("no ledger is kept")
	}
	pressure, err := heapledger.Start()
	if err != nil {
		t.Fatal(err)
	}
	defer pressure.Stop()
	books, err := heapledger.Stats()
	if err != nil || !books.SeesC || books.C.LiveBytes <= 0 || books.All.LiveBytes != books.C.LiveBytes+books.Rust.LiveBytes {
		t.Errorf("%+v, %v", books, err)
	}
	if err := heapledger.RequestCleanup(0); err != nil {
		t.Error(err)
	}
}

func ExampleStart() {
	cache := map[string][]byte{"frame": make([]byte, 1000)}
	cleanups, err := heapledger.Start(heapledger.Reclaimer("frames", func(heapledger.Request) int64 {
		freed := len(cache["frame"])
		delete(cache, "frame")
		return int64(freed)
	}))
	if err != nil {
		fmt.Println("goes on without:", err)
		return
	}
	defer cleanups.Stop()
}

func ExampleStats() {
	books, err := heapledger.Stats()
	if err != nil {
		fmt.Fprintf(os.Stderr, "Go holds %d bytes, C is unknown: %v\n", books.GoLiveBytes, err)
		return
	}
	fmt.Fprintf(os.Stderr, "Go holds %d bytes, C %d\n", books.GoLiveBytes, books.C.LiveBytes)
}
