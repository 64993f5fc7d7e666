package header

// Field is one line of a head or of trailers. Name is lower-case; ID is Lookup(Name).
type Field struct {
	Name  string
	Value string
	ID    ID
}

// Fields is an ordered list of fields. The zero value is empty and ready for use.
type Fields struct {
	list []Field
}

// Reset empties f and keeps its memory for the next message. What was put in is released to the collector.
func (f *Fields) Reset() {
	clear(f.list)
	f.list = f.list[:0]
}

// Len is the number of lines, repetitions included.
func (f *Fields) Len() int { return len(f.list) }

// At returns line i.
func (f *Fields) At(i int) *Field { return &f.list[i] }

// All returns the lines in order. The slice is f's own: it is valid until f is changed.
func (f *Fields) All() []Field { return f.list }

// Lines calls yield with each line in order, until yield returns false.
func (f *Fields) Lines(yield func(name, value string) bool) {
	for i := range f.list {
		if !yield(f.list[i].Name, f.list[i].Value) {
			return
		}
	}
}

// Append adds a line at the end. name must be lower-case.
func (f *Fields) Append(name, value string) {
	f.list = append(f.list, Field{Name: name, Value: value, ID: Lookup(name)})
}

// AppendID adds a line whose name is well known.
func (f *Fields) AppendID(id ID, value string) {
	f.list = append(f.list, Field{Name: names[id], Value: value, ID: id})
}

// Value returns the value of the first line of a well-known name, "" if there is none.
func (f *Fields) Value(id ID) string {
	for i := range f.list {
		if f.list[i].ID == id {
			return f.list[i].Value
		}
	}
	return ""
}

// Has tells whether a line of a well-known name is there.
func (f *Fields) Has(id ID) bool {
	for i := range f.list {
		if f.list[i].ID == id {
			return true
		}
	}
	return false
}

// Count is the number of lines of a well-known name.
func (f *Fields) Count(id ID) int {
	n := 0
	for i := range f.list {
		if f.list[i].ID == id {
			n++
		}
	}
	return n
}

// Nth returns the value of line i (from 0) among the lines called name (lower-case).
func (f *Fields) Nth(name string, i int) (value string, ok bool) {
	id := Lookup(name)
	for k := range f.list {
		e := &f.list[k]
		if e.ID != id || id == Other && e.Name != name {
			continue
		}
		if i == 0 {
			return e.Value, true
		}
		i--
	}
	return "", false
}

// Get returns the first value of name (lower-case).
func (f *Fields) Get(name string) (value string, ok bool) { return f.Nth(name, 0) }

// Set makes value the only value of a well-known name: the first line is overwritten in place, others are removed; without a
// line, one is added at the end.
func (f *Fields) Set(id ID, value string) {
	for i := range f.list {
		if f.list[i].ID == id {
			f.list[i].Value = value
			f.deleteFrom(i+1, func(e *Field) bool { return e.ID == id })
			return
		}
	}
	f.AppendID(id, value)
}

// SetName is [Fields.Set] for any lower-case name.
func (f *Fields) SetName(name, value string) {
	if id := Lookup(name); id != Other {
		f.Set(id, value)
		return
	}
	for i := range f.list {
		if f.list[i].Name == name {
			f.list[i].Value = value
			f.deleteFrom(i+1, func(e *Field) bool { return e.Name == name })
			return
		}
	}
	f.list = append(f.list, Field{Name: name, Value: value})
}

// Del removes every line of a well-known name.
func (f *Fields) Del(id ID) {
	for i := range f.list {
		if f.list[i].ID == id {
			f.deleteFrom(i, func(e *Field) bool { return e.ID == id })
			return
		}
	}
}

// DelName removes every line of a lower-case name.
func (f *Fields) DelName(name string) {
	if id := Lookup(name); id != Other {
		f.Del(id)
		return
	}
	f.deleteFrom(0, func(e *Field) bool { return e.Name == name })
}

// DelFunc removes the lines for which drop says so.
func (f *Fields) DelFunc(drop func(*Field) bool) { f.deleteFrom(0, drop) }

func (f *Fields) deleteFrom(i int, drop func(*Field) bool) {
	w := i
	for ; i < len(f.list); i++ {
		if !drop(&f.list[i]) {
			f.list[w] = f.list[i]
			w++
		}
	}
	clear(f.list[w:])
	f.list = f.list[:w]
}

// CopyFrom makes f hold what src holds, in f's own list.
func (f *Fields) CopyFrom(src *Fields) {
	f.list = append(f.list[:0], src.list...)
}

// Bytes is the size of the fields as RFC 9113, 10.5.1 counts a header list: names, values and 32 for each line.
func (f *Fields) Bytes() int {
	n := 0
	for i := range f.list {
		n += len(f.list[i].Name) + len(f.list[i].Value) + 32
	}
	return n
}
