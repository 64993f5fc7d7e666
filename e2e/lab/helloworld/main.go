// Helloworld is the application of the lab: an HTTP server that tells which
// version it is and what it was asked. "helloworld pause" only waits, for pods
// that are nothing but a client's place; "helloworld version" prints the version.
package main

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "pause":
			<-ctx.Done()
		case "version":
			fmt.Println(os.Getenv("SERVICE_VERSION"))
		default:
			log.Fatalf("unknown command %q", os.Args[1])
		}
		return
	}

	mux := http.NewServeMux()
	mux.HandleFunc("/hello", hello)
	server := &http.Server{Addr: ":5000", Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	log.Printf("version %s serves on %s", os.Getenv("SERVICE_VERSION"), server.Addr)
	go func() {
		<-ctx.Done()
		// Long enough for what a test leaves running.
		ending, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		_ = server.Shutdown(ending) // what is open then is cut by the exit
	}()
	if err := server.ListenAndServe(); err != http.ErrServerClosed {
		log.Fatal(err)
	}
}

// hello answers with the version, then the request line and headers as they
// arrived, one per line.
func hello(w http.ResponseWriter, r *http.Request) {
	// The body is not read, so a client can wait for the answer first.
	fmt.Fprintf(w, "Hello version: %s, instance: %s\n", os.Getenv("SERVICE_VERSION"), os.Getenv("HOSTNAME"))
	fmt.Fprintf(w, "%s %s %s\nhost: %s\nremote: %s\n", r.Method, r.RequestURI, r.Proto, r.Host, r.RemoteAddr)
	_ = r.Header.Write(w) // the client may have gone
}
