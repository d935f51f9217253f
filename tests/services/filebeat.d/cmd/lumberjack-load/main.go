// lumberjack-load sends events to a Lumberjack receiver by Elastic's own client, waits until all are acknowledged, and prints
// how fast that was.
package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	lumberjack "github.com/elastic/go-lumber/client/v2"
)

var (
	to          = flag.String("to", "127.0.0.1:5044", "address of the receiver")
	events      = flag.Int("events", 1_000_000, "events on all connections together")
	size        = flag.Int("bytes", 490, "bytes of an event, as JSON")
	window      = flag.Int("window", 2048, "events of a window")
	level       = flag.Int("level", 3, "level of zlib; 0: no compression")
	connections = flag.Int("connections", 1, "connections at the same time")
	inflight    = flag.Int("inflight", 2, "windows that are sent before the first is acknowledged")
	authority   = flag.String("ca", "", "file with the authority of the receiver's certificate (PEM); empty: no TLS")
	replay      = flag.Bool("replay", false, "encode one window and send it again and again, so that sending costs little")
	timeout     = flag.Duration("timeout", 30*time.Second, "how long to wait for an acknowledgement")
)

func main() {
	log.SetFlags(0)
	flag.Parse()
	each := *events / *connections
	var acknowledged atomic.Int64
	var senders sync.WaitGroup
	failed := make(chan error, *connections)
	begun := time.Now()
	for number := 0; number < *connections; number++ {
		senders.Add(1)
		go func() {
			defer senders.Done()
			if err := send(number*each, each, &acknowledged); err != nil {
				failed <- err
			}
		}()
	}
	senders.Wait()
	took := time.Since(begun).Seconds()
	count := acknowledged.Load()
	fmt.Printf("%d events acknowledged in %.2f s: %.0f events/s\n", count, took, float64(count)/took)
	close(failed)
	for err := range failed {
		log.Fatal(err)
	}
}

func send(first, count int, acknowledged *atomic.Int64) error {
	conn, err := dial()
	if err != nil {
		return err
	}
	defer conn.Close()
	if *replay {
		return sendAgain(conn, count, acknowledged)
	}
	client, err := lumberjack.NewAsyncClientWithConn(conn, *inflight, options()...)
	if err != nil {
		return err
	}
	defer client.Close()
	var underway sync.WaitGroup
	var trouble atomic.Pointer[error]
	for sent := 0; sent < count && trouble.Load() == nil; {
		batch := make([]interface{}, 0, *window)
		for ; len(batch) < *window && sent < count; sent++ {
			batch = append(batch, event(first+sent))
		}
		underway.Add(1)
		done := func(sequence uint32, err error) {
			acknowledged.Add(int64(sequence))
			if err != nil {
				trouble.CompareAndSwap(nil, &err)
			}
			underway.Done()
		}
		if err := client.Send(done, batch); err != nil {
			return err
		}
	}
	underway.Wait()
	if err := trouble.Load(); err != nil {
		return *err
	}
	return nil
}

// sendAgain writes the bytes of one window over and over, with so many of them under way as -inflight says.
func sendAgain(conn net.Conn, count int, acknowledged *atomic.Int64) error {
	kept := &keeper{Conn: conn}
	encoder, err := lumberjack.NewWithConn(kept, options()...)
	if err != nil {
		return err
	}
	batch := make([]interface{}, *window)
	for number := range batch {
		batch[number] = event(number)
	}
	if err := encoder.Send(batch); err != nil {
		return err
	}
	reader, err := lumberjack.NewWithConn(conn, options()...)
	if err != nil {
		return err
	}
	windows := (count + *window - 1) / *window
	slots := make(chan struct{}, *inflight)
	failed := make(chan error, 1)
	go func() {
		for number := 0; number < windows; number++ {
			slots <- struct{}{}
			if _, err := conn.Write(kept.bytes.Bytes()); err != nil {
				failed <- err
				return
			}
		}
	}()
	for number := 0; number < windows; number++ {
		sequence, err := reader.AwaitACK(uint32(*window))
		if err != nil {
			return errors.Join(err, pending(failed))
		}
		acknowledged.Add(int64(sequence))
		<-slots
	}
	return nil
}

func pending(failed chan error) error {
	select {
	case err := <-failed:
		return err
	default:
		return nil
	}
}

// keeper keeps what is written instead of sending it.
type keeper struct {
	net.Conn
	bytes bytes.Buffer
}

func (k *keeper) Write(data []byte) (int, error) { return k.bytes.Write(data) }

func options() []lumberjack.Option {
	encoded := func(event interface{}) ([]byte, error) { return event.([]byte), nil }
	return []lumberjack.Option{
		lumberjack.CompressionLevel(*level), lumberjack.Timeout(*timeout), lumberjack.JSONEncoder(encoded),
	}
}

func dial() (net.Conn, error) {
	if *authority == "" {
		return net.Dial("tcp", *to)
	}
	pem, err := os.ReadFile(*authority)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate", *authority)
	}
	return tls.Dial("tcp", *to, &tls.Config{RootCAs: roots, ServerName: "localhost"})
}

// event is what Filebeat makes of one line of a log, with a message that fills it up to its size.
func event(number int) []byte {
	words := [...]string{"connection", "request", "timeout", "accepted", "user", "session", "query", "cache"}
	var out bytes.Buffer
	fmt.Fprintf(&out, `{"@timestamp":"2026-01-01T00:%02d:%02d.%03dZ","@metadata":{"beat":"filebeat","type":"_doc",`+
		`"version":"7.17.28"},"agent":{"id":"6f2c9d0e-3b55-4f61-9f0f-1c2d3e4f5a6b","type":"filebeat","version":"7.17.28"},`+
		`"log":{"offset":%d,"file":{"path":"/var/log/app/server-%d.log"}},"message":"`,
		number/60000%60, number/1000%60, number%1000, number*180, number%4)
	for at := uint32(number) * 2654435761; out.Len() < *size-2; at = at*1664525 + 1013904223 {
		fmt.Fprintf(&out, "%s=%d ", words[at>>29], at>>12&0xffff)
	}
	out.Truncate(max(*size-2, bytes.LastIndexByte(out.Bytes(), '"')+1))
	out.WriteString(`"}`)
	return out.Bytes()
}
