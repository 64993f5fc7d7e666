package route

// HeaderMatch is a compiled HeaderMatcher.
type HeaderMatch struct {
	Name                string // lower-case, or a pseudo-header
	Invert              bool
	TreatMissingAsEmpty bool
	Present             *bool
	Value               func(string) bool // nil with Present
}
