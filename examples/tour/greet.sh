#!/bin/sh
cat "$1" > "$out"
