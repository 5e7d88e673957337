#!/bin/sh
# Builds the fuzz target as FOLDER/fuzz_edge_file: fuzz/build.sh FOLDER
set -eu
csrc=$(dirname "$0")/../src/edgespeech/engine/csrc
out=$1
mkdir -p "$out"

if command -v clang++ >/dev/null; then
  set -- clang++ -fsanitize=fuzzer,address,undefined
else
  set -- g++ -fsanitize=address,undefined -DEDGESPEECH_FUZZ_DRIVER
fi
set -- "$@" -std=c++20 -O1 -g1 -fno-omit-frame-pointer -fno-sanitize-recover=all -Wall -Wextra \
  -ffp-contract=off

# Every source with the flags that CMakeLists.txt gives it. Of intrinsics that leave lanes undefined on purpose, g++
# warns in its own headers.
case $(uname -m) in
  x86_64)
    "$@" -mavx2 -c "$csrc/kernels_avx2.cpp" -o "$out/kernels_avx2.o"
    "$@" -mavx2 -mf16c -Wno-psabi -c "$csrc/floats_avx2.cpp" -o "$out/floats_avx2.o"
    "$@" -mavx512f -Wno-psabi -c "$csrc/floats_avx512.cpp" -o "$out/floats_avx512.o"
    kernels="$out/kernels_avx2.o $out/floats_avx2.o $out/floats_avx512.o"
    for part in kernels_avx512 kernels_avx512_halves kernels_avx512_sparse; do
      "$@" -mavx512f -mavx512bw -mavx512vl -mavx512vbmi -mavx512vbmi2 -mavx512vnni -mpopcnt -mbmi2 \
        -Wno-uninitialized -Wno-maybe-uninitialized -c "$csrc/$part.cpp" -o "$out/$part.o"
      kernels="$kernels $out/$part.o"
    done
    ;;
  aarch64)
    "$@" -c "$csrc/kernels_neon.cpp" -o "$out/kernels_neon.o"
    kernels=$out/kernels_neon.o
    ;;
  *) kernels= ;;
esac
"$@" -Wno-psabi -c "$csrc/floats.cpp" -o "$out/floats.o"
# shellcheck disable=SC2086
"$@" "$csrc/fuzz_edge_file.cpp" "$csrc/edge_file.cpp" "$csrc/fusion.cpp" "$csrc/kernels.cpp" "$csrc/layer.cpp" \
  "$csrc/biasing.cpp" "$csrc/phrases.cpp" "$csrc/runtime.cpp" "$csrc/search.cpp" "$csrc/stream.cpp" "$csrc/tensor_reader.cpp" \
  "$csrc/transcriber.cpp" "$out/floats.o" $kernels -o "$out/fuzz_edge_file"
