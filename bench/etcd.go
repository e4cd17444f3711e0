// Renewals in etcd, as bench/peers counts them:
//
//	etcd ENDPOINT MODE CLIENTS SECONDS LEASES
//
// Every client has a connection of its own and a share of the leases, and renews one
// of these at random, one after the other:
//
//	txn        as kube-apiserver does: if the key still has the revision that was read, a new value
//	keepalive  LeaseKeepAlive of etcd's own lease, on a stream that stays open
//	get        reads the key, linearizable: what a call costs that changes nothing
//	load       makes keys and leases, or writes each key once and compacts the history,
//	           and prints the client's version: no measurement
//
// Prints calls, seconds, and p50 and p99 in microseconds.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"math/rand"
	"os"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/clientv3"
	pb "go.etcd.io/etcd/etcdserver/etcdserverpb"
	"go.etcd.io/etcd/version"
)

const prefix = "/registry/leases/default/"

var (
	ctx   = context.Background()
	value = strings.Repeat("x", 200) // about the size of a row in the table lease
)

func key(lease int) string { return fmt.Sprint(prefix, 1000000000000000+lease) }

func number(argument string) int {
	n, err := strconv.Atoi(argument)
	check(err)
	return n
}

func check(err error) {
	if err != nil {
		log.Fatal("etcd.go: ", err)
	}
}

func connect(endpoint string) *clientv3.Client {
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, DialTimeout: 10 * time.Second})
	check(err)
	return c
}

// revisions reads what the clients know of their keys before they begin.
func revisions(c *clientv3.Client, leases int) []int64 {
	answer, err := c.Get(ctx, prefix, clientv3.WithPrefix(), clientv3.WithKeysOnly())
	check(err)
	if len(answer.Kvs) != leases {
		log.Fatalf("etcd.go: %d keys instead of %d", len(answer.Kvs), leases)
	}
	known := make([]int64, leases)
	for _, kv := range answer.Kvs {
		known[number(strings.TrimPrefix(string(kv.Key), prefix))-1000000000000000] = kv.ModRevision
	}
	return known
}

// load writes key n, and makes lease n, for a day, if it is the first time.
func load(c *clientv3.Client, n int) error {
	answer, err := c.Put(ctx, key(n), value, clientv3.WithPrevKV())
	if err == nil && answer.PrevKv == nil {
		_, err = pb.NewLeaseClient(c.ActiveConnection()).LeaseGrant(ctx, &pb.LeaseGrantRequest{ID: int64(n + 1), TTL: 86400})
	}
	return err
}

func compact(c *clientv3.Client) {
	answer, err := c.Get(ctx, key(0))
	check(err)
	_, err = c.Compact(ctx, answer.Header.Revision, clientv3.WithCompactPhysical())
	check(err)
}

// caller returns the function that a client calls again and again.
func caller(c *clientv3.Client, mode string, known []int64) func(lease int) error {
	switch mode {
	case "txn":
		return func(n int) error {
			answer, err := c.Txn(ctx).
				If(clientv3.Compare(clientv3.ModRevision(key(n)), "=", known[n])).
				Then(clientv3.OpPut(key(n), value)).
				Else(clientv3.OpGet(key(n))).
				Commit()
			if err == nil && !answer.Succeeded {
				err = errors.New("not renewed: somebody else changed the key")
			}
			if err == nil {
				known[n] = answer.Header.Revision
			}
			return err
		}
	case "keepalive":
		stream, err := pb.NewLeaseClient(c.ActiveConnection()).LeaseKeepAlive(ctx)
		check(err)
		return func(n int) error {
			if err := stream.Send(&pb.LeaseKeepAliveRequest{ID: int64(n + 1)}); err != nil {
				return err
			}
			answer, err := stream.Recv()
			if err == nil && answer.TTL <= 0 {
				err = errors.New("not renewed: no such lease")
			}
			return err
		}
	case "get":
		return func(n int) error { _, err := c.Get(ctx, key(n)); return err }
	}
	log.Fatal("etcd.go: what is ", mode, "?")
	return nil
}

func main() {
	if len(os.Args) != 6 {
		log.Fatal("usage: etcd ENDPOINT MODE CLIENTS SECONDS LEASES")
	}
	endpoint, mode := os.Args[1], os.Args[2]
	clients, seconds, leases := number(os.Args[3]), number(os.Args[4]), number(os.Args[5])

	connections := make([]*clientv3.Client, clients)
	for i := range connections {
		connections[i] = connect(endpoint)
	}
	var known []int64
	if mode != "load" {
		known = revisions(connections[0], leases)
	}

	latencies := make([][]time.Duration, clients)
	var ready, done sync.WaitGroup
	start := make(chan time.Time)
	for i, c := range connections {
		ready.Add(1)
		done.Add(1)
		go func(i int, c *clientv3.Client) {
			defer done.Done()
			if mode == "load" {
				ready.Done()
				<-start
				for n := i; n < leases; n += clients {
					check(load(c, n))
				}
				return
			}
			random := rand.New(rand.NewSource(time.Now().UnixNano() + int64(i)))
			share := leases / clients
			call := caller(c, mode, known)
			check(call(random.Intn(share)*clients + i)) // connects
			ready.Done()
			end := (<-start).Add(time.Duration(seconds) * time.Second)
			for last := time.Now(); last.Before(end); {
				check(call(random.Intn(share)*clients + i))
				now := time.Now()
				latencies[i] = append(latencies[i], now.Sub(last))
				last = now
			}
		}(i, c)
	}
	ready.Wait()
	began := time.Now()
	for range connections {
		start <- began
	}
	done.Wait()
	if mode == "load" {
		compact(connections[0])
		fmt.Println(version.Version)
		return
	}

	var all []time.Duration
	for _, one := range latencies {
		all = append(all, one...)
	}
	sort.Slice(all, func(a, b int) bool { return all[a] < all[b] })
	fmt.Printf("%d %.3f %d %d\n", len(all), time.Since(began).Seconds(),
		all[(len(all)-1)/2].Microseconds(), all[(len(all)-1)*99/100].Microseconds())
}
