/* {{ title }}: weights and code in one file. Written by minikin; do not edit, export it again. */
#include "model.h"

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "This model is for little-endian processors: its numbers are used as they lie here."
#endif
#if !defined(__GNUC__) && !defined(__clang__)
#error "This model needs a compiler that knows GNU C, such as gcc or clang."
#endif
#if defined(__FAST_MATH__)
#error "Compile this file without -ffast-math, which changes the answers."
#endif
#if !defined(__clang__) && !defined(__STRICT_ANSI__)
#pragma GCC optimize("fp-contract=off") /* with -std=c99 it is off; the answers are the same bits everywhere */
#endif
