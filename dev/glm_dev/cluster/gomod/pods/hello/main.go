// A container for tests of the cluster itself. It answers every request with its environment, or
// with the addresses of the name in the query: /?name=kubernetes.default.svc
package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
)

func main() {
	if err := http.ListenAndServe(":8080", http.HandlerFunc(answer)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func answer(writer http.ResponseWriter, request *http.Request) {
	name := request.URL.Query().Get("name")
	if name == "" {
		for _, variable := range os.Environ() {
			fmt.Fprintln(writer, variable)
		}
		return
	}
	addresses, err := net.DefaultResolver.LookupHost(request.Context(), name)
	if err != nil {
		http.Error(writer, err.Error(), http.StatusBadGateway)
		return
	}
	for _, address := range addresses {
		fmt.Fprintln(writer, address)
	}
}
