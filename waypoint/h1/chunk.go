package h1

// chunks decodes the chunked coding (RFC 9112, 7.1) over whatever bytes are there. It is a value: a copy can look ahead.
//
//	┌─ size line ──────────┐      ┌─ data ─┐
//	1*HEXDIG [";" …] CR LF  ────► n bytes    CR LF ──► size line … size 0 ──► trailer section
type chunks struct {
	state    chunkState
	left     int64 // data bytes of this chunk that were not taken yet
	digits   int
	line     int   // bytes of this size line
	overhead int64 // see maxChunkOverhead
}

type chunkState uint8

const (
	atSize     chunkState = iota // before the first digit
	inSize                       // after a digit
	inExt                        // in an extension, which is dropped
	atSizeLF                     // after the CR of the size line
	inData                       // left > 0
	atDataCR                     // after the data
	atDataLF                     //
	inTrailers                   // after the last chunk's line; the section is not for this decoder
)

// skip takes the framing bytes at the front of b and returns how many. Afterwards data may be taken (state inData),
// or the trailer section comes (inTrailers), or more bytes are needed.
func (d *chunks) skip(b []byte) (int, error) {
	for i, c := range b {
		if d.state == inData || d.state == inTrailers {
			return i, nil
		}
		if err := d.step(c); err != nil {
			return i, err
		}
	}
	return len(b), nil
}

// take says that n data bytes were taken.
func (d *chunks) take(n int) {
	if d.left -= int64(n); d.left == 0 {
		d.state = atDataCR
	}
}

func (d *chunks) step(c byte) error {
	if d.state <= inExt {
		if d.line++; d.line > maxChunkLine {
			return bad("a chunk-size line is too long")
		}
	}
	switch d.state {
	case atSize, inSize:
		if v, ok := unhex(c); ok {
			if d.digits++; d.digits > 15 { // the sixteenth could make a negative number
				return bad("a chunk size is too long")
			}
			d.left = d.left<<4 | v
			d.state = inSize
			return nil
		}
		if d.state == atSize {
			return bad("a chunk size is not hexadecimal")
		}
		return d.afterDigits(c)
	case inExt:
		if c == '\r' {
			d.state = atSizeLF
		} else if c < ' ' && c != '\t' || c == 0x7f {
			return bad("a control character in a chunk extension")
		}
	case atSizeLF:
		return d.endLine(c)
	case atDataCR:
		if c != '\r' {
			return bad("chunk data is not followed by CRLF")
		}
		d.state = atDataLF
	case atDataLF:
		if c != '\n' {
			return bad("chunk data is not followed by CRLF")
		}
		d.state, d.left, d.digits, d.line = atSize, 0, 0, 0
	}
	return nil
}

func (d *chunks) afterDigits(c byte) error {
	switch {
	case c == '\r':
		d.state = atSizeLF
	case c == ';':
		d.state = inExt
	case space(c):
		// RFC 9112, 7.1.1 has it as "bad white space" before a semicolon; parsers differ, and nobody sends it.
		return bad("white space after a chunk size")
	default:
		return bad("a chunk size is not hexadecimal")
	}
	return nil
}

func (d *chunks) endLine(c byte) error {
	if c != '\n' {
		return bad("a bare CR in a chunk-size line")
	}
	if d.left == 0 {
		d.state = inTrailers
		return nil
	}
	d.state = inData
	if d.overhead += int64(d.line) - 16 - 2*d.left; d.overhead < 0 {
		d.overhead = 0
	}
	if d.overhead > maxChunkOverhead {
		return bad("the chunk-size lines are much longer than the data")
	}
	return nil
}

func unhex(c byte) (int64, bool) {
	switch {
	case digit(c):
		return int64(c - '0'), true
	case c >= 'a' && c <= 'f':
		return int64(c-'a') + 10, true
	case c >= 'A' && c <= 'F':
		return int64(c-'A') + 10, true
	}
	return 0, false
}
