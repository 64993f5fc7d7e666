package format_test

import (
	"fmt"

	"github.com/gowaypoint/gowaypoint/telemetry"
	"github.com/gowaypoint/gowaypoint/telemetry/format"
)

func ExampleCompile() {
	f, err := format.Compile("%REQ(:METHOD)% %REQ(:PATH)% %RESPONSE_CODE% %RESPONSE_FLAGS%", format.Options{})
	if err != nil {
		panic(err)
	}
	line := f.Append(nil, &telemetry.Record{
		Method: "GET", Path: "/hello", ResponseCode: 503,
		Flags: telemetry.FlagsOf(telemetry.FlagUpstreamConnectionFailure, telemetry.FlagUpstreamRetryLimitExceeded),
	})
	fmt.Println(string(line))
	// Output: GET /hello 503 UF,URX
}
