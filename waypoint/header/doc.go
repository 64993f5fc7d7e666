// Package header holds the fields of an HTTP message as the data path sees them.
//
// A field's name is lower-case, whatever its case was on the wire (RFC 9110, 5.1: names ignore case; RFC 9113, 8.2:
// HTTP/2 sends them in lower case). Names that the proxy itself looks at resolve to a small integer, an [ID], once, when the
// message is parsed; a filter then finds a field by comparing bytes, not strings.
//
// Fields keep their order and their repetitions. Two lines of one name stay two lines: joining them with a comma is what made
// CVE-2026-26308 possible, so whoever needs one value says by which rule the values become one.
//
// Lifetime: names and values are substrings of one string that the codec made of the whole head, so a kept value keeps that
// string alive (at most the header list limit) and nothing else. A [Fields] is reused for the next message of its connection:
// do not keep the Fields, keep the strings.
//
// Nothing here is safe for concurrent use; a message head belongs to one goroutine at a time.
package header
