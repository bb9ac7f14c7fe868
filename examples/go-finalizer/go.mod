module github.com/heapledger/heapledger/examples/go-finalizer

go 1.24

require github.com/heapledger/heapledger/bindings/go/heapledger v0.0.0

replace github.com/heapledger/heapledger/bindings/go/heapledger => ../../bindings/go/heapledger
