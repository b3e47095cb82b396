#!/bin/sh
# The namespace, once; Rein's worker registers its search attributes itself.
set -eu
temporal operator namespace describe --namespace default ||
  temporal operator namespace create --namespace default --retention 30d
