#!/usr/bin/env bash
# Copies the shared libraries that programs need, the C library's and our own left out, and OpenBLAS, which is loaded at run time;
# with what their packages say about copyright.
#   bundle.sh LIBRARIES LICENCES PROGRAM...
set -euo pipefail
to=$1 licences=$2
shift 2
mkdir -p "$to" "$licences"
openblas=$(ldconfig -p | awk '$1 == "libopenblas.so.0" && !found++ { print $NF }')
# The C++ and compiler libraries come with every system, and two of them in one process (Python's) do not go together.
needed=$(ldd "$openblas" "$@" | awk '$2 == "=>" { print $1, $3 }' | sort -u |
  grep -vE '^(libc|libm|libdl|librt|libpthread|ld-linux-x86-64|libstdc\+\+|libgcc_s|libneurogen[a-z-]*)\.so')
while read -r name path; do
  cp -L "$path" "$to/$name"
  package=$(dpkg -S "$(realpath "$path")" 2> /dev/null | sed 's/:.*//') || continue
  cp "/usr/share/doc/$package/copyright" "$licences/$package"
done <<< "$needed
libopenblas.so.0 $openblas"
chmod 644 "$to"/*
