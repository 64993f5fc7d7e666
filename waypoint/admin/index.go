package admin

import (
	"html"
	"net/http"
	"strings"
)

func (s *Server) helpPage(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", plainText)
	_, _ = w.Write([]byte("admin commands are:\n" + s.help()))
}

// help lists the pages, one per line.
func (s *Server) help() string {
	var b strings.Builder
	b.WriteString("  /: Admin home page\n")
	for _, p := range s.pages() {
		b.WriteString("  " + p.path + ": " + p.help)
		if p.mutates {
			b.WriteString(" (POST)")
		}
		b.WriteString("\n")
	}
	return b.String()
}

// indexPage is what `istioctl dashboard proxy` opens: a link to each page, a button for each that changes something.
func (s *Server) indexPage(w http.ResponseWriter, _ *http.Request) {
	var b strings.Builder
	b.WriteString(indexHead)
	b.WriteString("<h1>waypoint: " + s.state().String() + "</h1>\n<p>" + html.EscapeString(s.src.Node.GetId()) + "</p>\n<table>\n")
	for _, p := range s.pages() {
		b.WriteString("<tr><td>")
		if p.mutates {
			b.WriteString(`<form method="post" action="` + p.path + `"><button>` + p.path + "</button></form>")
		} else {
			b.WriteString(`<a href="` + p.path + `">` + p.path + "</a>")
		}
		b.WriteString("</td><td>" + html.EscapeString(p.help) + "</td></tr>\n")
	}
	b.WriteString("</table>\n</body>\n</html>\n")
	w.Header().Set("Content-Type", htmlText)
	_, _ = w.Write([]byte(b.String()))
}

const indexHead = `<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>waypoint</title>
<style>
body { font-family: sans-serif; margin: 2em; }
td { padding: .2em 1em .2em 0; vertical-align: baseline; }
button { font: inherit; }
</style>
</head>
<body>
`
