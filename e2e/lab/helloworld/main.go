// Helloworld is the application of the lab: it tells which version it is and
// what it was asked.
//
//	:5000  /hello       HTTP/1.1; with ?wait=3s it takes that long over the second half of the answer
//	       /websocket   echoes messages
//	:5001               echoes bytes (TCP)
//	:5002               gRPC's health service
//
// "helloworld pause" only waits, for pods that are nothing but a client's
// place; "helloworld version" prints the version.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/net/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, args []string) error {
	switch {
	case len(args) == 0:
		return serve(ctx)
	case args[0] == "pause":
		<-ctx.Done()
	case args[0] == "version":
		fmt.Println(os.Getenv("SERVICE_VERSION"))
	default:
		return fmt.Errorf("unknown command %q", args[0])
	}
	return nil
}

func serve(ctx context.Context) error {
	mux := http.NewServeMux()
	mux.HandleFunc("/hello", hello)
	mux.Handle("/websocket", websocket.Server{Handler: func(c *websocket.Conn) { _, _ = io.Copy(c, c) }}) // until the client leaves
	server := &http.Server{Addr: ":5000", Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	go echo(":5001")
	go serveGRPC(":5002")
	log.Printf("version %s serves on %s", os.Getenv("SERVICE_VERSION"), server.Addr)
	go func() {
		<-ctx.Done()
		// Long enough for what a test leaves running.
		ending, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		_ = server.Shutdown(ending) // what is open then is cut by the exit
	}()
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// hello answers with the version, then the request line and headers as they
// arrived, one per line.
func hello(w http.ResponseWriter, r *http.Request) {
	// The body is not read, so a client can wait for the answer first.
	fmt.Fprintf(w, "Hello version: %s, instance: %s\n", os.Getenv("SERVICE_VERSION"), os.Getenv("HOSTNAME"))
	if wait, err := time.ParseDuration(r.URL.Query().Get("wait")); err == nil {
		_ = http.NewResponseController(w).Flush() // the client may have gone
		time.Sleep(wait)
	}
	fmt.Fprintf(w, "%s %s %s\nhost: %s\nremote: %s\n", r.Method, r.RequestURI, r.Proto, r.Host, r.RemoteAddr)
	_ = r.Header.Write(w) // the client may have gone
}

// echo sends back what each connection brings.
func echo(address string) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		log.Fatal(err)
	}
	for {
		conn, err := listener.Accept()
		if err != nil {
			log.Fatal(err)
		}
		go func() {
			_, _ = io.Copy(conn, conn) // until the client leaves
			_ = conn.Close()
		}()
	}
}

func serveGRPC(address string) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		log.Fatal(err)
	}
	server := grpc.NewServer()
	healthv1.RegisterHealthServer(server, health.NewServer())
	log.Fatal(server.Serve(listener))
}
