module github.com/heapledger/heapledger/bindings/go/heapledger

go 1.21
