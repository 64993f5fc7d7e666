// Command image writes a container image of a static binary as a tarball, without a container engine and with the standard library alone.
//
//	go run ./charts/image -binary bin/image/pilot-agent -tag registry.example/gowaypoint/waypoint:0.1.0 -out waypoint-image.tar
//
// The tarball is an OCI image layout (`skopeo copy oci-archive:…`, `ctr images import`, `crane push` after unpacking) and at the same time a
// docker archive (`docker load`, `kind load image-archive`, `minikube image load`): the same blobs, with two tables of contents.
//
// The image is what a waypoint pod expects (the pod gives arguments, never a command): entry point /usr/local/bin/pilot-agent, the same file as
// /usr/local/bin/waypoint, user 1337:1337, working directory /, and the places at which the pod mounts volumes. There is no shell.
//
// It promises the same bytes for the same input and Go version: entries are sorted, times are SOURCE_DATE_EPOCH or 1970, owners are numbers.
// Input is the binary and, unless -ca says otherwise, the CA bundle of the build machine.
package main
